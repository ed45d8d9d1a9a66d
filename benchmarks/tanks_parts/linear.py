"""One linear step for the difference of two tanks, cut into three classes by thresholds.

The method of the challenge's organisers, with one change: how far conductivities spread is not given but
found for each measurement, as the value under which its voltages are likeliest.
"""

from __future__ import annotations

import time
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.sparse.linalg import eigsh
from scipy.special import ndtr
from torch import Tensor

from benchmarks.tanks_parts.method import DataTerm, MakeDataTerm, Reconstruction
from onmanifold.operators.eit import Measurement

SIZE = 256
MODES = 200  # of the smoothness prior; the rest has a millionth of the first one's variance or less
LENGTH = 1 / np.sqrt(2 * np.log(100))  # radii: correlations fall to 0.01 at a distance of one
SPREAD = (1e-3, 10.0)  # standard deviation of a picture's values, where it is looked for
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
        mean, std = linear_step(data)
        mean, std = fine(mean), fine(std).clip(1e-12)  # outside of the tank it is zero
        low, high = otsu(mean)
        resistive, conductive = water_is_most(mean, low, high)
        labels = np.where(mean < resistive, 1, np.where(mean > conductive, 2, 0)).astype(np.uint8)
        below, above = ndtr((resistive - mean) / std), ndtr((mean - conductive) / std)
        probabilities = np.stack([1 - below - above, below, above])
        seconds = time.perf_counter() - began
        return Reconstruction(labels, probabilities, None, seconds)


def linear_step(data: DataTerm) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the picture, ``(size, size)`` each, 0 outside of the tank.

    With the modes L of the prior, ``x = L c``, and ``c`` normal of variance s, the objective is quadratic:
    ``c`` has the precision ``H + 1 / s``, H the curvature of the linearized data term.
    """
    modes = smooth_modes(data.operator.x_shape[-1])
    water = torch.zeros(1, *data.operator.x_shape, dtype=torch.float64)
    at = data.operator.linearize(water)
    columns, y = at.jvp(modes[None, :, None]), data.y[None]
    bent = data.fidelity.curvature(at.y, y, columns)[0].flatten(1)
    curvature = columns[0].flatten(1) @ bent.T
    pull = -columns[0].flatten(1) @ data.fidelity.gradient(at.y, y).flatten()
    values, vectors = torch.linalg.eigh((curvature + curvature.T) / 2)
    values, pull = values.clamp(min=0), vectors.T @ pull
    s = likeliest_variance(values.numpy(), pull.numpy())
    shrunk = s / (1 + s * values)
    shown = torch.einsum("kij,km->mij", modes, vectors)
    mean = torch.einsum("m,mij->ij", shrunk * pull, shown)
    return mean, torch.einsum("m,mij->ij", shrunk, shown.square()).sqrt()


def likeliest_variance(curvature: NDArray[np.float64], pull: NDArray[np.float64]) -> float:
    """The prior's variance s under which the data are likeliest.

    Args:
        curvature: eigenvalues h of the data term's.
        pull: its negative gradient b along their vectors. The logarithm of the data's density is, up to a
            constant, ``sum (s b^2 / (1 + s h) - log(1 + s h)) / 2``.
    """

    def cost(log_s: float) -> float:
        gain = 1 + np.exp(log_s) * curvature
        return float((np.log(gain) - np.exp(log_s) * pull**2 / gain).sum())

    found = minimize_scalar(cost, bounds=tuple(2 * np.log(SPREAD)), method="bounded")
    return float(np.exp(found.x))


@cache
def smooth_modes(size: int) -> Tensor:
    """Modes of a normal prior of unit variance on the tank's pixels, ``(MODES, size, size)``."""
    centre = (np.arange(size) + 0.5) * 2 / size - 1
    x, y = np.meshgrid(centre, -centre)
    inside = np.hypot(x, y) <= 1
    points = np.stack([x[inside], y[inside]], axis=1)
    square = ((points[:, None] - points) ** 2).sum(axis=2)
    values, vectors = eigsh(np.exp(-square / (2 * LENGTH**2)), MODES, v0=np.ones(len(points)))
    modes = np.zeros((MODES, size, size))
    modes[:, inside] = (vectors * np.sqrt(values.clip(0))).T
    return torch.from_numpy(modes)


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
