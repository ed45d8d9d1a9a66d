"""Pictures of whole tanks on one learned manifold: the method of ``examples/ktc_tank.py``."""

from __future__ import annotations

import time

import numpy as np
import torch
from ktc_tank import TEMPERATURE, WATER_STD, disk, reconstruct  # on the path since method.py
from numpy.typing import NDArray

from benchmarks.tanks_parts.method import MakeDataTerm, Reconstruction
from onmanifold import Solution, Starts, load_prior
from onmanifold.operators.eit import Measurement, ktc_classes
from onmanifold.priors.background import WithBackground

STARTS = Starts(pool=96, keep=6)


class Picture:
    """Levenberg-Marquardt along the manifold of pictures, from the best of some samples.

    Args:
        data_term: of a reference and a measurement.
    """

    def __init__(self, data_term: MakeDataTerm) -> None:
        self.data_term = data_term
        self.prior = WithBackground(load_prior("tank"), WATER_STD)

    def __call__(self, reference: Measurement, measurement: Measurement) -> Reconstruction:
        began = time.perf_counter()
        data = self.data_term(reference, measurement)
        found = reconstruct(data.operator, data.y, data.fidelity, self.prior, STARTS)
        probabilities = ends_by_class(found.solution, self.prior)
        return Reconstruction(found.classes, probabilities, None, time.perf_counter() - began)


def ends_by_class(solution: Solution, prior: WithBackground) -> NDArray[np.float64]:
    """Share of each class among the ends of all starts, better ones counting more, ``(3, 256, 256)``."""
    ends = solution.ends
    above = torch.nan_to_num(ends.objective[0] - ends.objective[0, 0], nan=torch.inf)
    weight = torch.softmax(-above / TEMPERATURE, dim=0)
    share = np.zeros((3, 256, 256))
    for w, x, z in zip(weight.tolist(), ends.x[0], ends.z[0], strict=True):
        if w > 0:
            classes = ktc_classes((x - prior.std * z[-1]) * disk(x.shape[-1]))
            share += w * (classes == np.arange(3)[:, None, None])
    return share
