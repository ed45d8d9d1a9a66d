"""Scenes of objects, their number by evidence: the method of ``examples/ktc_tank.py`` and parts of it."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.tanks_parts.data_terms import MakeDataTerm  # puts the examples on the path
from benchmarks.tanks_parts.method import Reconstruction
from onmanifold import load_prior
from onmanifold.operators.eit import Inclusions, Measurement, ktc_classes
from onmanifold.posterior import Laplace
from onmanifold.priors.scene import RadialOutlines, Scene

from ktc_parts.scenes import Found, numbers, reconstruct, with_drift  # isort: skip


class LearnedOutlines:
    """Scenes of outlines on a learned manifold.

    Args:
        data_term: of a reference and a measurement.
    """

    def __init__(self, data_term: MakeDataTerm) -> None:
        self.data_term = data_term
        self.prior = with_drift(self.scene())

    def scene(self) -> Scene:
        """The prior of scenes."""
        return Scene(load_prior("outline"), kinds=2)

    def __call__(self, reference: Measurement, measurement: Measurement) -> Reconstruction:
        began = time.perf_counter()
        data = self.data_term(reference, measurement, Inclusions, self.prior.x_shape)
        found = reconstruct(data.operator, data.y, data.fidelity, self.prior)
        seconds, posterior = time.perf_counter() - began, found.posterior
        assert posterior is not None
        shown = _shown(found, seconds)
        misfit = self._likeliest(posterior, _misfits(posterior))
        mode = self._likeliest(posterior, posterior.log_mass[0])
        return replace(shown, variants={"misfit": misfit, "mode": mode})

    def _likeliest(self, posterior: Laplace, score: torch.Tensor) -> Reconstruction:
        """The one mode that scores best, as it is."""
        best = int(score.argmax())
        chart, z = posterior.chart[0, best : best + 1], posterior.mode[0, best : best + 1]
        with torch.no_grad():
            x = self.prior.decode(z.to(self.prior.dtype), chart)[0]
        only = torch.full_like(posterior.log_mass, -torch.inf)
        only[0, best] = 0.0
        counted = next(iter(numbers(replace(posterior, log_mass=only), self.prior)))
        return Reconstruction(_labels(x[:2]), None, counted)


class FourierOutlines(LearnedOutlines):
    """Scenes of star-shaped outlines by five orders of a Fourier series: nothing is learned."""

    def scene(self) -> Scene:
        return Scene(RadialOutlines(), kinds=2)


def _shown(found: Found, seconds: float) -> Reconstruction:
    counted = next(iter(found.objects))
    return Reconstruction(found.labels, found.probabilities, counted, seconds)


def _labels(masks: torch.Tensor) -> NDArray[np.uint8]:
    """Classes of two masks ``(2, H, W)``: ``(256, 256)``."""
    return ktc_classes((masks[1] - masks[0])[None])


def _misfits(posterior: Laplace) -> torch.Tensor:
    """Minus each mode's misfit, ``(M,)``."""
    problem = posterior.problem
    chart, z = posterior.chart[0], posterior.mode[0].to(problem.prior.dtype)
    with torch.no_grad():
        y = problem.operator.A(problem.prior.decode(z, chart))
        return -problem.select(torch.zeros(len(z), dtype=torch.long)).misfit(y)
