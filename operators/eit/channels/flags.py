"""Which channels of a measurement are bad, by the measurement itself.

By injections that were repeated, and by reciprocity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onmanifold.operators.eit.channels.reciprocity import (
    Reciprocity,
    reciprocity,
    reciprocity_by_channel,
)
from onmanifold.operators.eit.measurements.measurement import Measurement
from onmanifold.operators.eit.measurements.noise import (
    channel_offsets,
    column_medians,
    matrix_of,
    repeats,
)
from onmanifold.operators.eit.models.protocol import Protocol

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

FAR = 4.0  # standard deviations of a normal distribution whose median is the channels'
DEAD = 0.05  # of the median channel's voltages


@dataclass(frozen=True, eq=False)
class ChannelReport:
    """How a measurement's channels compare with each other.

    Attributes:
        score: the largest of what the tests find of a channel, relative to the median channel, in standard
            deviations of a normal distribution; above 4 it is bad, ``(M,)``.
        bad: bad channels, from 0.
        electrodes: electrodes all of whose channels (two at least) are bad, from 0.
        reasons: a sentence for each finding, with numbers from 1.
        reciprocity: relative error of reciprocity over the whole measurement; NaN if it is not known.
    """

    score: Tensor
    bad: tuple[int, ...]
    electrodes: tuple[int, ...]
    reasons: tuple[str, ...]
    reciprocity: float

    @classmethod
    def of(
        cls, protocol: Protocol, findings: Sequence[Finding], reciprocity: float = float("nan")
    ) -> ChannelReport:
        """The findings together."""
        score = np.max([finding.score for finding in findings], axis=0)
        bad = np.flatnonzero(score > FAR)
        electrodes = _electrodes(protocol.patterns, bad)
        reasons = [f"channel {j + 1}: {text}" for f in findings for j, text in f.messages.items()]
        reasons += [f"electrode {e + 1}: all of its channels are bad" for e in electrodes]
        return cls(
            torch.from_numpy(score),
            tuple(bad.tolist()),
            electrodes,
            tuple(reasons),
            reciprocity,
        )


@dataclass(frozen=True, eq=False)
class Finding:
    """What one test says of each channel.

    Attributes:
        score: how far the channel is from good; above 4 it is bad, ``(M,)``.
        messages: what is wrong with the bad ones, by channel from 0.
    """

    score: Array
    messages: Mapping[int, str]

    @classmethod
    def of(cls, bad: Flags, message: Callable[[int], str]) -> Finding:
        """A finding that says of each channel whether it is bad, with a message for each bad one."""
        messages = {int(j): message(int(j)) for j in np.flatnonzero(bad)}
        return cls(np.where(bad, 2 * FAR, 0.0), messages)


def _electrodes(patterns: Array, bad: NDArray[np.intp]) -> tuple[int, ...]:
    """Electrodes that at least two patterns touch, all of them bad."""
    touching = patterns != 0
    several = touching.sum(axis=1) >= 2
    good = np.setdiff1d(np.arange(patterns.shape[1]), bad)
    return tuple(np.flatnonzero(several & ~touching[:, good].any(axis=1)).tolist())


_MESSAGES = {
    "noise": "repeats of the same polarity differ by {value:.2g} V, the median channel's by {median:.2g} V",
    "offset": "by repeats of opposite polarity it is {value:.2g} V off, the median channel {median:.2g} V",
    "reciprocity": "it breaks reciprocity by {value:.2g} V, the median channel by {median:.2g} V",
    "signal": "its voltages are {value:.2g} V, the median channel's {median:.2g} V",
}


def flag_channels(measurement: Measurement) -> ChannelReport:
    """Find the channels that differ from the others.

    A channel is bad if its noise (between repeats of the same polarity), its offset (from repeats of opposite
    polarity) or its part in the error of reciprocity is far above the median channel's, or its voltages are
    far below. Tests that the protocol does not allow are left out.

    Example:
        >>> from onmanifold.operators.eit import EIT, Protocol, Tank
        >>> eit = EIT(Tank.unit(), Protocol.adjacent(32), (8, 8), mesh="coarse")
        >>> voltages = eit.A(torch.ones(1, 8, 8, dtype=torch.float64))[0]
        >>> voltages[:, 4] = 0
        >>> flag_channels(Measurement.from_values(eit.protocol, voltages)).bad
        (4,)
    """
    pairs = reciprocity(measurement)
    findings = channel_findings(measurement, pairs)
    return ChannelReport.of(measurement.protocol, findings, pairs.error)


def channel_findings(measurement: Measurement, pairs: Reciprocity) -> list[Finding]:
    """What the tests of :func:`flag_channels` find."""
    voltages, mask = matrix_of(measurement)
    count = mask.sum(axis=0)
    square = np.where(mask, voltages, 0.0) ** 2
    size = np.where(count > 0, np.sqrt(square.sum(axis=0) / np.maximum(count, 1)), np.nan)
    values = {
        "signal": size,
        "noise": _noise_by_channel(measurement),
        "offset": channel_offsets(measurement).abs().numpy(),
        "reciprocity": reciprocity_by_channel(pairs, voltages.shape[1]),
    }
    findings = []
    for name, value in values.items():
        median = float(np.nanmedian(value)) if not np.isnan(value).all() else float("nan")
        if name == "signal":
            far = np.where(value < DEAD * median, 2 * FAR, 0.0)
        else:  # relative to rounding where the median channel is perfect
            far = 0.6745 * value / max(median, 1e-12 * float(np.nanmax(size)))
        score = np.nan_to_num(far)
        messages = {
            int(j): _MESSAGES[name].format(value=value[j], median=median)
            for j in np.flatnonzero(score > FAR)
        }
        findings.append(Finding(score, messages))
    return findings


def _noise_by_channel(measurement: Measurement) -> Array:
    """Median difference between repeats of the same polarity, for unit noise in each, V, ``(M,)``."""
    voltages, mask = matrix_of(measurement)
    rows = [
        np.where(mask[i] & mask[j], np.abs(voltages[j] - f * voltages[i]) / np.hypot(1, f), np.nan)
        for i, j, f in repeats(measurement.protocol)
        if f > 0
    ]
    return column_medians(rows, voltages.shape[1])
