"""What the tests of channels find."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onmanifold.operators.eit.measurements.measurement import Measurement
from onmanifold.operators.eit.models.protocol import Protocol

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

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
        reciprocity: relative error of reciprocity over the whole measurement; NaN if it is not known.
    """

    values: Mapping[str, Tensor]
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
            {f.name: torch.tensor(f.values) for f in findings},
            torch.from_numpy(score),
            tuple(bad.tolist()),
            electrodes,
            tuple(reasons),
            reciprocity,
        )

    def mask(self, measurement: Measurement) -> Tensor:
        """Which voltages are there and from good channels, the shape of ``measurement.mask``."""
        good = torch.ones(measurement.protocol.full_shape, dtype=torch.bool)
        good[:, list(self.bad)] = False
        return measurement.mask & measurement.protocol.pick(good)


@dataclass(frozen=True, eq=False)
class Finding:
    """What one test says of each channel.

    Attributes:
        name: of the test.
        values: what it found, ``(M,)``; NaN where it is not possible.
        score: how far that is from good; above 4 the channel is bad, ``(M,)``.
        messages: what is wrong with the bad ones, by channel from 0.
    """

    name: str
    values: Array
    score: Array
    messages: Mapping[int, str]

    @classmethod
    def of(cls, name: str, values: Array, bad: Flags, message: Callable[[int], str]) -> Finding:
        """A finding that says of each channel whether it is bad, with a message for each bad one."""
        messages = {int(j): message(int(j)) for j in np.flatnonzero(bad)}
        return cls(name, values, np.where(bad, 2 * FAR, 0.0), messages)


def _electrodes(patterns: Array, bad: NDArray[np.intp]) -> tuple[int, ...]:
    """Electrodes that at least two patterns touch, all of them bad."""
    touching = patterns != 0
    several = touching.sum(axis=1) >= 2
    good = np.setdiff1d(np.arange(patterns.shape[1]), bad)
    return tuple(np.flatnonzero(several & ~touching[:, good].any(axis=1)).tolist())
