"""One linear step for the difference of two tanks, cut into three classes by thresholds.

The method of the challenge's organisers, with one change: how far conductivities spread is not given but
found for each measurement, as the value under which its voltages are likeliest.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr
from torch import Tensor

from benchmarks.tanks_parts.data_terms import MakeDataTerm
from benchmarks.tanks_parts.method import Reconstruction
from onmanifold.applications.tanks import linear_image
from onmanifold.operators.eit import Measurement

SIZE = 256
BINS = 256


class Linear:
    """Smoothness prior, one linear step from water, Otsu's two thresholds.

    Args:
        data_term: of a reference and a measurement.
    """

    def __init__(self, data_term: MakeDataTerm) -> None:
        self.data_term = data_term

    def __call__(self, reference: Measurement, measurement: Measurement) -> Reconstruction:
        began = time.perf_counter()
        data = self.data_term(reference, measurement)
        mean, std = linear_image(data.operator(), data.y, data.fidelity)
        mean, std = fine(mean), fine(std).clip(1e-12)  # outside of the tank it is zero
        low, high = otsu(mean)
        resistive, conductive = water_is_most(mean, low, high)
        labels = np.where(mean < resistive, 1, np.where(mean > conductive, 2, 0)).astype(np.uint8)
        below, above = ndtr((resistive - mean) / std), ndtr((mean - conductive) / std)
        probabilities = np.stack([1 - below - above, below, above])
        seconds = time.perf_counter() - began
        return Reconstruction(labels, probabilities, None, seconds)


def fine(picture: Tensor) -> NDArray[np.float64]:
    """A picture on the challenge's grid ``(256, 256)``."""
    larger = torch.nn.functional.interpolate(picture[None, None], (SIZE, SIZE), mode="bilinear")
    return np.asarray(larger[0, 0].numpy())


def otsu(picture: NDArray[np.float64]) -> tuple[float, float]:
    """The two thresholds that part a picture's histogram into three classes of least variance.

    Example:
        >>> low, high = otsu(np.array([[0.0, 0.1, 1.0], [1.1, 2.0, 2.1]]))
        >>> 0.1 < low < 1.0, 1.1 < high < 2.0
        (True, True)
    """
    counts, edges = np.histogram(picture, BINS)
    weight = np.concatenate([[0], np.cumsum(counts)])
    moment = np.concatenate([[0], np.cumsum(counts * (edges[:-1] + edges[1:]) / 2)])

    def between(start: NDArray[np.intp], stop: NDArray[np.intp]) -> NDArray[np.float64]:
        """Squared sum over weight of the bins from start to stop."""
        n = weight[stop] - weight[start]
        return np.asarray((moment[stop] - moment[start]) ** 2 / np.maximum(n, 1))

    i, j = np.triu_indices(BINS - 1, 1)
    i, j = i + 1, j + 1
    total = between(0 * i, i) + between(i, j) + between(j, 0 * j + BINS)
    # empty bins part nothing: of all best places the middle one
    best = np.flatnonzero(total >= total.max() * (1 - 1e-12))
    return float(edges[i[best]].mean()), float(edges[j[best]].mean())


def water_is_most(picture: NDArray[np.float64], low: float, high: float) -> tuple[float, float]:
    """The values below which a pixel is resistive and above which it is conductive.

    Of the three classes the one with most pixels is water; of the others, those below it are resistive and
    those above conductive.
    """
    parts = (
        (picture < low).sum(),
        ((picture >= low) & (picture <= high)).sum(),
        (picture > high).sum(),
    )
    water = int(np.argmax(parts))
    return (-np.inf, low, high)[water], (low, high, np.inf)[water]
