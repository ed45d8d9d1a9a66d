"""Pictures of whole tanks on one learned manifold: no list of objects."""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.tanks_parts.data_terms import MakeDataTerm
from benchmarks.tanks_parts.method import Reconstruction
from onmanifold import InitialPoints, MaxSteps, SmallDecrease, Solution, load_prior, solve
from onmanifold.operators.eit import Measurement, ktc
from onmanifold.priors.nuisance import BackgroundOffset

STARTS = InitialPoints(pool=96, keep=6)
WATER_STD = 0.05  # the water's conductivity moves from one measurement to the next
TEMPERATURE = 20.0  # how much worse an end may explain the voltages and still count


class Picture:
    """Levenberg-Marquardt along the manifold of pictures, from the best of some samples.

    Args:
        data_term: of a reference and a measurement.
    """

    def __init__(self, data_term: MakeDataTerm) -> None:
        self.data_term = data_term
        self.prior = BackgroundOffset(load_prior("tank"), WATER_STD)

    def __call__(self, reference: Measurement, measurement: Measurement) -> Reconstruction:
        began = time.perf_counter()
        data = self.data_term(reference, measurement)
        solution = solve(
            data.operator(),
            data.y[None].to(self.prior.dtype),
            self.prior,
            fidelity=data.fidelity,
            starts=STARTS,
            stop=MaxSteps(40) | SmallDecrease(1e-3),
        )
        water = self.prior.std * solution.z[0, -1]
        labels = ktc.classes((solution.x[0] - water) * disk(solution.x.shape[-1]))
        probabilities = ends_by_class(solution, self.prior)
        return Reconstruction(labels, probabilities, None, time.perf_counter() - began)


def ends_by_class(solution: Solution, prior: BackgroundOffset) -> NDArray[np.float64]:
    """Share of each class among the ends of all starts, better ones counting more, ``(3, 256, 256)``."""
    ends = solution.final_points
    above = torch.nan_to_num(ends.objective[0] - ends.objective[0, 0], nan=torch.inf)
    weight = torch.softmax(-above / TEMPERATURE, dim=0)
    share = np.zeros((3, 256, 256))
    for w, x, z in zip(weight.tolist(), ends.x[0], ends.z[0], strict=True):
        if w > 0:
            classes = ktc.classes((x - prior.std * z[-1]) * disk(x.shape[-1]))
            share += w * (classes == np.arange(3)[:, None, None])
    return share


def disk(size: int) -> Tensor:
    """1 in the tank, 0 in the corners around it, ``(size, size)``."""
    centres = (torch.arange(size) + 0.5) * 2 / size - 1
    return (torch.hypot(centres[:, None], centres) <= 1).float()
