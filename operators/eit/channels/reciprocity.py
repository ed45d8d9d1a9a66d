"""Reciprocity: an injection and what is measured may change places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onmanifold.operators.eit.measurements.measurement import Measurement
from onmanifold.operators.eit.measurements.noise import matrix_of

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reciprocity:
    """Pairs of injections whose fields were measured along each other.

    Attributes:
        forward: the second's power against the first's field for unit currents, V, ``(n,)``.
        backward: the first's against the second's field, V, ``(n,)``; the same without errors.
        channels: how much each pattern takes part in a pair, squared, ``(n, M)``.
    """

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
        >>> import torch
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
    return Reciprocity(power[a, b], power[b, a], use[a, b] + use[b, a])


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


def reciprocity_by_channel(pairs: Reciprocity, channels: int) -> Array:
    """The median error of the pairs of which a channel has a good part, V, ``(M,)``.

    A bad channel has a part in all of them, a good one shares only a few with it. NaN for channels that have
    a part in none, and for those that share most of theirs with another, which cannot be distinguished.
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
