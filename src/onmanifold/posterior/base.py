"""What every description of a posterior has."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from onmanifold.descent.problem import Problem
from onmanifold.evaluation_mode import evaluation
from onmanifold.prior import Point
from onmanifold.solution import UNLIKELY


@dataclass(frozen=True)
class Posterior:
    """The posterior over (chart, z) of B measurements.

    Attributes:
        problem: what was solved.
        p_value: probability that noise alone makes a misfit at least as large as that of the
            highest-evidence mode, ``(B,)``; NaN where the fidelity does not say.
    """

    problem: Problem = field(repr=False)
    p_value: Tensor

    def __len__(self) -> int:
        return len(self.p_value)

    @property
    def consistent(self) -> Tensor:
        """Whether the data are consistent with the posterior's best mode, ``(B,)``, boolean.

        False where ``p_value`` is below 0.01: then the posterior weighs explanations of which none fits.
        """
        return ~(self.p_value < UNLIKELY)

    def _decode(self, point: Point) -> Tensor:
        """The same number n of points for each measurement in turn, decoded: ``(B, n, *x_shape)``."""
        prior = self.problem.prior
        with torch.no_grad(), evaluation(prior):
            return prior.decode(point).view(len(self), -1, *prior.x_shape)
