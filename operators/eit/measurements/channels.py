"""Which channels of a measurement are bad.

All of it from the measurement itself: injections that were repeated, and reciprocity, by which an injection
and what is measured may change places. A model's prediction may be added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onmanifold.operators.eit.measurements.measurement import Measurement
from onmanifold.operators.eit.measurements.noise import (
    channel_offsets,
    column_medians,
    matrix_of,
    repeats,
)
from onmanifold.operators.eit.models.protocol import Protocol

Array = NDArray[np.float64]

_TOLD = {
    "noise": "repeats of the same polarity differ by {value:.2g} V, the median channel's by {median:.2g} V",
    "offset": "by repeats of opposite polarity it is {value:.2g} V off, the median channel {median:.2g} V",
    "reciprocity": "it breaks reciprocity by {value:.2g} V, the median channel by {median:.2g} V",
    "residual": "it is {value:.2g} V off the prediction, the median channel {median:.2g} V",
    "signal": "its voltages are {value:.2g} V, the median channel's {median:.2g} V",
}
FAR = 4.0  # standard deviations of a normal distribution whose median is the channels'
DEAD = 0.05  # of the median channel's voltages


@dataclass(frozen=True, eq=False)
class ChannelReport:
    """How a measurement's channels compare with each other.

    Attributes:
        values: what each test found, root mean square or median over injections, V, ``(M,)`` by name; NaN
            where the protocol does not allow the test.
        score: the largest of a channel's values relative to the median channel's, in standard deviations of a
            normal distribution; above 4 it is bad, ``(M,)``.
        bad: bad channels, from 0.
        electrodes: electrodes all of whose channels (two at least) are bad, from 0.
        reasons: a sentence for each finding, with numbers from 1.
        reciprocity: relative error of reciprocity over the whole measurement; NaN if it cannot be told.
    """

    values: Mapping[str, Tensor]
    score: Tensor
    bad: tuple[int, ...]
    electrodes: tuple[int, ...]
    reasons: tuple[str, ...]
    reciprocity: float

    def mask(self, measurement: Measurement) -> Tensor:
        """Which voltages are there and from good channels, the shape of ``measurement.mask``."""
        good = torch.ones(measurement.protocol.full_shape, dtype=torch.bool)
        good[:, list(self.bad)] = False
        return measurement.mask & measurement.protocol.pick(good)


def flag_channels(measurement: Measurement, predicted: Tensor | None = None) -> ChannelReport:
    """Find the channels that differ from the others.

    A channel is bad if its noise (between repeats of the same polarity), its offset (from repeats of opposite
    polarity), its part in the error of reciprocity or its distance from a prediction is far above the
    median channel's, or its voltages are far below. Tests that the protocol does not allow are left out.

    Args:
        measurement: voltages.
        predicted: what a model says of them, V, the same shape, such as ``calibrate(...).voltages``.

    Raises:
        ValueError: a prediction of another shape, or not finite.

    Example:
        >>> from onmanifold.operators.eit import EIT, Protocol, Tank
        >>> eit = EIT(Tank.unit(), Protocol.adjacent(32), (8, 8), mesh="coarse")
        >>> voltages = eit.A(torch.ones(1, 8, 8, dtype=torch.float64))[0]
        >>> voltages[:, 4] = 0
        >>> report = flag_channels(Measurement.from_values(eit.protocol, voltages))
        >>> report.bad, int(report.mask(Measurement.from_values(eit.protocol, voltages)).sum())
        ((4,), 992)
    """
    pairs = reciprocity(measurement)
    findings = channel_findings(measurement, predicted, pairs)
    return channel_report(measurement.protocol, findings, pairs.error)


@dataclass(frozen=True, eq=False)
class Finding:
    """What one test says of each channel.

    Attributes:
        name: of the test.
        values: what it found, ``(M,)``; NaN where it is not possible.
        score: how far that is from good; above 4 the channel is bad, ``(M,)``.
        told: what to say of the bad ones, by channel from 0.
    """

    name: str
    values: Array
    score: Array
    told: Mapping[int, str]


def channel_findings(
    measurement: Measurement, predicted: Tensor | None, pairs: Reciprocity
) -> list[Finding]:
    """What the tests of :func:`flag_channels` find."""
    values = _tests(measurement, pairs, predicted)
    findings = []
    for name, value in values.items():
        median = float(np.nanmedian(value)) if not np.isnan(value).all() else float("nan")
        if name == "signal":
            far = np.where(value < DEAD * median, 2 * FAR, 0.0)
        else:  # relative to rounding where the median channel is perfect
            far = 0.6745 * value / max(median, 1e-12 * float(np.nanmax(values["signal"])))
        score = np.nan_to_num(far)
        told = {
            int(j): _TOLD[name].format(value=value[j], median=median)
            for j in np.flatnonzero(score > FAR)
        }
        findings.append(Finding(name, value, score, told))
    return findings


def channel_report(
    protocol: Protocol, findings: Sequence[Finding], error: float = float("nan")
) -> ChannelReport:
    """The findings together; ``error`` is that of reciprocity."""
    score = np.max([finding.score for finding in findings], axis=0)
    bad = np.flatnonzero(score > FAR)
    electrodes = _electrodes(protocol.patterns, bad)
    reasons = [f"channel {j + 1}: {text}" for f in findings for j, text in f.told.items()]
    reasons += [f"electrode {e + 1}: all of its channels are bad" for e in electrodes]
    return ChannelReport(
        {f.name: torch.tensor(f.values) for f in findings},
        torch.from_numpy(score),
        tuple(bad.tolist()),
        electrodes,
        tuple(reasons),
        error,
    )


def _tests(
    measurement: Measurement, pairs: Reciprocity, predicted: Tensor | None
) -> dict[str, Array]:
    """What each test says of each channel, V."""
    voltages, mask = matrix_of(measurement)
    values = {
        "signal": _rms(voltages, mask),
        "noise": _noise_by_channel(measurement),
        "offset": channel_offsets(measurement).abs().numpy(),
        "reciprocity": _reciprocity_by_channel(pairs, voltages.shape[1]),
    }
    if predicted is not None:
        if tuple(predicted.shape) != measurement.protocol.shape:
            raise ValueError(
                f"predicted has shape {tuple(predicted.shape)}, expected {measurement.protocol.shape}"
            )
        if not bool(torch.isfinite(predicted).all()):
            raise ValueError("predicted holds NaN or infinite voltages")
        residual = measurement.protocol.spread(predicted.double()).numpy() - voltages
        values["residual"] = _rms(residual, mask)
    return values


def _rms(values: Array, mask: NDArray[np.bool_]) -> Array:
    """Root mean square of each column; NaN where nothing is there."""
    count = mask.sum(axis=0)
    square = np.where(mask, values, 0.0) ** 2
    mean: Array = square.sum(axis=0) / np.maximum(count, 1)
    return np.asarray(np.where(count > 0, np.sqrt(mean), np.nan))


def _noise_by_channel(measurement: Measurement) -> Array:
    """Median difference between repeats of the same polarity, for unit noise in each, V, ``(M,)``."""
    voltages, mask = matrix_of(measurement)
    rows = [
        np.where(mask[i] & mask[j], np.abs(voltages[j] - f * voltages[i]) / np.hypot(1, f), np.nan)
        for i, j, f in repeats(measurement.protocol)
        if f > 0
    ]
    return column_medians(rows, voltages.shape[1])


def _electrodes(patterns: Array, bad: NDArray[np.intp]) -> tuple[int, ...]:
    """Electrodes that at least two patterns touch, all of them bad."""
    touching = patterns != 0
    several = touching.sum(axis=1) >= 2
    good = np.setdiff1d(np.arange(patterns.shape[1]), bad)
    return tuple(np.flatnonzero(several & ~touching[:, good].any(axis=1)).tolist())


# Reciprocity -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Reciprocity:
    """Pairs of injections whose fields were measured along each other.

    Attributes:
        injections: numbers of the two, from 0, ``(n, 2)``.
        forward: the second's power against the first's field for unit currents, V, ``(n,)``.
        backward: the first's against the second's field, V, ``(n,)``; the same without errors.
        channels: how much each pattern takes part in a pair, squared, ``(n, M)``.
    """

    injections: NDArray[np.intp]
    forward: Array
    backward: Array
    channels: Array

    @property
    def error(self) -> float:
        """Difference of both over their size, root mean square; NaN without pairs."""
        if not len(self.forward):
            return float("nan")
        size = np.mean(self.forward**2 + self.backward**2) / 2
        return float(np.sqrt(np.mean((self.forward - self.backward) ** 2) / size))


def reciprocity(measurement: Measurement) -> Reciprocity:
    """What follows from currents and measurements being allowed to change places.

    The voltage that drives injection b against the field of injection a, ``I_b . U_a``, is a combination
    of the measured ones wherever ``I_b`` is a combination of the patterns measured in a; and it equals
    ``I_a . U_b``.

    Example:
        >>> from onmanifold.operators.eit import EIT, Protocol, Tank
        >>> eit = EIT(Tank.unit(), Protocol.adjacent(32), (8, 8), mesh="coarse")
        >>> voltages = eit.A(torch.ones(1, 8, 8, dtype=torch.float64))[0]
        >>> pairs = reciprocity(Measurement.from_values(eit.protocol, voltages))
        >>> len(pairs.forward), pairs.error < 1e-9
        (496, True)
    """
    protocol = measurement.protocol
    values, mask = matrix_of(measurement)
    size = np.abs(protocol.injections).sum(axis=0) / 2
    currents = protocol.injections / size
    patterns = protocol.patterns - protocol.patterns.mean(axis=0)
    count = currents.shape[1]
    power = np.full((count, count), np.nan)  # of the column's current in the row's field
    use = np.zeros((count, count, patterns.shape[1]))
    for key in {row.tobytes() for row in mask}:
        those = np.frombuffer(key, bool)
        if not those.any():
            continue
        weights = _combinations(patterns[:, those], currents)
        same = np.flatnonzero((mask == those).all(axis=1))
        power[same] = values[same][:, those] @ weights / size[same, None]
        part = np.where(np.abs(weights) > 1e-9, weights, 0.0) ** 2  # without the solver's rounding
        use[np.ix_(same, range(count), np.flatnonzero(those))] = part.T
    a, b = np.triu_indices(count, 1)
    known = ~np.isnan(power[a, b]) & ~np.isnan(power[b, a])
    # injections that are equal up to a factor, whose two powers hold no other information
    length = np.linalg.norm(currents, axis=0)
    known &= np.abs(currents.T @ currents)[a, b] < (1 - 1e-9) * length[a] * length[b]
    a, b = a[known], b[known]
    return Reciprocity(np.stack([a, b], axis=1), power[a, b], power[b, a], use[a, b] + use[b, a])


def _combinations(patterns: Array, currents: Array) -> Array:
    """Weights with ``patterns @ weights = currents``, ``(m, I)``; NaN in columns where there are none.

    Where one pattern alone does it, it is taken, since every further one brings its errors.
    """
    weights = np.linalg.lstsq(patterns, currents, rcond=None)[0]
    impossible = np.abs(patterns @ weights - currents).max(axis=0) > 1e-9
    alone = patterns.T @ currents / (patterns**2).sum(axis=0)[:, None]
    rest = ((currents[:, None, :] - patterns[:, :, None] * alone) ** 2).sum(axis=0)
    best = rest.argmin(axis=0)
    for i in np.flatnonzero(rest[best, np.arange(len(best))] < 1e-18):
        weights[:, i] = 0
        weights[best[i], i] = alone[best[i], i]
    weights[:, impossible] = np.nan
    return np.asarray(weights)


def _reciprocity_by_channel(pairs: Reciprocity, channels: int) -> Array:
    """The median error of the pairs of which a channel has a good part, V, ``(M,)``.

    A bad channel has a part in all of them, a good one shares only a few with it. NaN for channels that have
    a part in none, and for those that share most of theirs with another, which cannot be told apart.
    """
    result = np.full(channels, np.nan)
    total = pairs.channels.sum(axis=1, keepdims=True)
    taking = pairs.channels > 0.2 * total
    error = np.abs(pairs.forward - pairs.backward) / np.sqrt(total[:, 0])
    shared = taking.T.astype(int) @ taking
    for j in np.flatnonzero(taking.any(axis=0)):
        if np.delete(shared[j], j).max(initial=0) <= 0.5 * shared[j, j]:
            result[j] = np.median(error[taking[:, j]])
    return result
