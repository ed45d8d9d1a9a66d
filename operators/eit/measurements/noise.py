"""Noise and offsets of a measurement, from injections that were repeated."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from torch import Tensor

from onmanifold.checks import check_number
from onmanifold.errors import InputError
from onmanifold.operators.eit.arguments import doubles
from onmanifold.operators.eit.measurements.measurement import Measurement
from onmanifold.operators.eit.models.protocol import Protocol

Array = NDArray[np.float64]


def noise_std(
    reference: ArrayLike | Tensor, relative: float = 0.0005, floor: float = 0.0001
) -> Tensor:
    """Standard deviation of voltages: ``std^2 = (relative |U|)^2 + (floor max|U|)^2``.

    The defaults are those of the Kuopio Tomography Challenge.

    Args:
        reference: voltages U, V, any shape.
        relative: part of each voltage.
        floor: part of the largest one.

    Returns:
        V, the shape of ``reference``, float64.

    Raises:
        ValueError: a negative part, both zero, or voltages that are zero or not finite.

    Example:
        >>> noise_std([3.0, 0.0], relative=0.01, floor=0.001)
        tensor([0.0301, 0.0030], dtype=torch.float64)
    """
    u = torch.from_numpy(doubles(reference, "reference")).abs()
    relative, floor = (
        check_number(value, name, low=-math.inf)
        for name, value in (("relative", relative), ("floor", floor))
    )
    if not (relative >= 0 and floor >= 0 and relative + floor > 0):
        raise InputError(
            f"expected parts >= 0, not both zero; got relative {relative}, floor {floor}"
        )
    if u.numel() == 0 or not bool(torch.isfinite(u).all()):
        raise InputError("reference has to hold finite voltages")
    std = ((relative * u) ** 2 + (floor * u.max()) ** 2).sqrt()
    if bool((std == 0).any()):
        raise InputError("reference has voltages of zero, which get a noise of zero; set floor > 0")
    return std


def fit_noise(first: Measurement, *others: Measurement) -> tuple[float, float]:
    """The two parts of :func:`noise_std` that fit the differences between repeats best.

    By maximum likelihood, for independent normal noise. Repeats are injections of the same polarity within
    a measurement, and the same voltage in several measurements of one protocol and an unchanged tank.
    Offsets count as noise where the amplitudes differ.

    Args:
        first: a measurement.
        others: of the same protocol and tank, if there are more.

    Returns:
        ``relative`` and ``floor``.

    Raises:
        ValueError: nothing is repeated, or the repeats do not differ.

    Example:
        >>> protocol, source = Protocol.trigonometric(32), np.random.default_rng(0)
        >>> clean = source.uniform(0.1, 1, protocol.shape)
        >>> std = noise_std(clean, 0.01, 0.001).numpy()
        >>> several = [clean + std * source.standard_normal(clean.shape) for _ in range(8)]
        >>> relative, _ = fit_noise(*(Measurement.from_values(protocol, v) for v in several))
        >>> round(relative, 3)
        0.01
    """
    voltages, differences, factors = _differences(first, others)
    if not len(differences):
        raise InputError(
            "nothing was repeated: no two injections are equal up to a positive factor, and one "
            "measurement came"
        )
    largest = max(float(m.voltages.abs().max()) for m in (first, *others))
    u, d = voltages / largest, differences / largest
    if not d.any():
        raise InputError("the repeats do not differ at all: their noise cannot be estimated")
    start = 0.5 * np.log(np.mean(d**2) / 2)

    def cost(logs: Array) -> float:
        relative, floor = np.exp(2 * np.clip(logs, -40, 10))
        variance = (1 + factors**2) * floor + relative * (u[:, 0] ** 2 + factors**2 * u[:, 1] ** 2)
        variance = variance + 1e-32
        return float(np.sum(d**2 / variance + np.log(variance)))

    best = min(
        (
            minimize(cost, np.array([start + shift, start - shift]), method="Nelder-Mead")
            for shift in (-2.0, 0.0, 2.0)
        ),
        key=lambda result: float(result.fun),
    )
    relative, floor = np.exp(np.clip(best.x, -40, 10))
    return float(relative), float(floor)


def _differences(first: Measurement, others: tuple[Measurement, ...]) -> tuple[Array, Array, Array]:
    """Pairs of voltages (n, 2) that are equal up to noise, ``second - factor first``, and the factors."""
    pairs: list[Array] = []
    scales: list[Array] = []
    for m in (first, *others):
        values, mask = matrix_of(m)
        for repeat in repeats(m.protocol):
            if repeat.factor > 0:
                both = mask[repeat.first] & mask[repeat.second]
                pairs.append(values[[repeat.first, repeat.second]][:, both].T)
                scales.append(np.full(int(both.sum()), repeat.factor))
    for m in others:
        if m.protocol != first.protocol:
            raise InputError("repeated measurements have to be of one protocol")
        (u, mu), (v, mv) = matrix_of(first), matrix_of(m)
        pairs.append(np.stack([u[mu & mv], v[mu & mv]], axis=1))
        scales.append(np.ones(int((mu & mv).sum())))
    if not pairs:
        return np.zeros((0, 2)), np.zeros(0), np.zeros(0)
    both, factors = np.concatenate(pairs), np.concatenate(scales)
    return both, both[:, 1] - factors * both[:, 0], factors


# Repeats -----------------------------------------------------------------------------------------


class Repeat(NamedTuple):
    """Two injections, from 0, with ``currents of second = factor * currents of first``."""

    first: int
    second: int
    factor: float


def repeats(protocol: Protocol) -> list[Repeat]:
    """All pairs of injections that are equal up to a factor; it is negative for opposite polarity.

    Example:
        >>> from onmanifold.operators.eit import ktc
        >>> [(r.first + 1, r.second + 1) for r in repeats(ktc.protocol()) if r.factor > 0]
        [(4, 35), (8, 54), (12, 73), (16, 31)]
    """
    currents = protocol.injections
    squares = (currents**2).sum(axis=0)
    found = []
    for i in range(currents.shape[1]):
        factors = currents[:, i] @ currents[:, i + 1 :] / squares[i]
        apart = np.abs(currents[:, i + 1 :] - factors * currents[:, [i]]).max(axis=0, initial=0)
        same = (apart < 1e-9 * np.sqrt(squares[i + 1 :])) & (factors != 0)
        found += [Repeat(i, i + 1 + int(k), float(factors[k])) for k in np.flatnonzero(same)]
    return found


def channel_offsets(measurement: Measurement) -> Tensor:
    """Offset of each channel from repeats of opposite polarity, V, ``(M,)``; NaN where there are none.

    With currents ``-k`` times as large, k > 0, a channel without offset reads ``-k`` times as much. The
    median over all such pairs.

    Example:
        >>> protocol = Protocol.from_pairs(4, [(0, 1), (1, 0)])
        >>> channel_offsets(Measurement.from_values(protocol, [[1.5, 2, 3, 4], [-0.5, -2, -3, -4]]))
        tensor([0.5000, 0.0000, 0.0000, 0.0000], dtype=torch.float64)
    """
    values, mask = matrix_of(measurement)
    rows = [
        np.where(mask[i] & mask[j], (values[j] - f * values[i]) / (1 - f), np.nan)
        for i, j, f in repeats(measurement.protocol)
        if f < 0
    ]
    return torch.from_numpy(column_medians(rows, values.shape[1]))


def column_medians(rows: list[Array], columns: int) -> Array:
    """The median of each column without its NaNs, ``(columns,)``; NaN where nothing is left."""
    result = np.full(columns, np.nan)
    table = np.stack([result, *rows])
    there = ~np.isnan(table).all(axis=0)
    result[there] = np.nanmedian(table[:, there], axis=0)
    return result


def matrix_of(measurement: Measurement) -> tuple[Array, NDArray[np.bool_]]:
    """Voltages and mask as ``(I, M)``."""
    spread = measurement.protocol.spread
    values = spread(torch.where(measurement.mask, measurement.voltages, 0.0)).numpy()
    return values, spread(measurement.mask.double()).numpy() > 0
