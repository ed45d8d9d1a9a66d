"""Tests of channels against voltages that are expected: dead, stuck, reversed, swapped, noisy ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from onmanifold.operators.eit.channels.report import DEAD, FAR, Array, Finding, Flags
from onmanifold.operators.eit.channels.transfer_fit import nonlinearity
from onmanifold.operators.eit.measurements.measurement import Measurement
from onmanifold.operators.eit.measurements.noise import repeats
from onmanifold.operators.eit.models.protocol import Protocol

_TIE = 1e-4  # of a channel's largest voltage: closer ones count as equal
_STUCK = 0.15  # of a channel's voltages, and more than three, that are equal to an extreme one
_SWAPPED = 0.7  # of the squared distance, if channels are read in another order
_NOISY = 3.0  # times the median channel's residual


def gross_faults(
    expected: Array, voltages: Array, mask: Flags, protocol: Protocol, whose: str
) -> list[Finding]:
    """Channels that are dead, stuck, reversed or swapped.

    Args:
        expected: V, ``(I, M)``.
        voltages: measured, V, ``(I, M)``.
        mask: which of them are there, ``(I, M)``.
        protocol: of both.
        whose: the expected voltages are, for messages.
    """
    size, wanted = (
        np.sqrt((np.where(mask, v, 0.0) ** 2).sum(axis=0)) for v in (voltages, expected)
    )
    ratio = np.where(mask.any(axis=0), size / np.maximum(wanted, 1e-300), np.nan)
    dead = (ratio < DEAD) | (ratio > 1 / DEAD)
    share = _stuck(voltages, mask, protocol)
    stuck = (share > 0) & ~dead
    distance = _distances(expected, voltages, mask)
    opposite = np.diag(_distances(-expected, voltages, mask))
    reversed_ = (opposite < _SWAPPED * np.diag(distance)) & ~dead & ~stuck
    held = _swapped(distance, ~(dead | stuck | reversed_) & mask.any(axis=0))
    return [
        Finding.of(
            "size", ratio, dead, lambda j: f"its voltages are {ratio[j]:.2g} times those of {whose}"
        ),
        Finding.of(
            "stuck",
            share,
            stuck,
            lambda j: f"{share[j]:.0%} of its voltages are stuck at one value",
        ),
        Finding.of(
            "sign",
            opposite,
            reversed_,
            lambda _: f"its voltages have the other sign than those of {whose}",
        ),
        Finding.of(
            "order",
            held.astype(float),
            held != np.arange(len(held)),
            lambda j: f"its voltages are those of channel {held[j] + 1} of {whose}",
        ),
    ]


def nonlinear_changes(reference: Measurement, measurement: Measurement, left_out: Flags) -> Finding:
    """Channels whose change is less linear in the currents than the others'.

    Those count that are still far off when the worse ones, which bend the fit, are left out.
    """
    least = 0.1  # of the usual error: below it, the median channel is perfect
    volts, score = np.full(len(left_out), np.nan), np.zeros(len(left_out))
    messages: dict[int, str] = {}
    suspects, out = ~left_out, left_out.copy()
    while suspects.any():
        size, rest = nonlinearity(reference, measurement, out)
        known = suspects & ~np.isnan(size)
        if not known.any():
            break
        others = rest[~np.isnan(size)]
        far = FAR / _NOISY * size / max(float(np.nanmedian(size)), least)
        volts[known], score[known] = rest[known], far[known]
        suspects = known & (far > FAR)
        if suspects.any():
            worst = int(np.where(suspects, far, 0.0).argmax())
            messages[worst] = (
                f"its change from the reference is {rest[worst]:.2g} V off any that is linear in the "
                f"currents, the median channel's {np.median(others):.2g} V"
            )
            suspects[worst], out[worst] = False, True
    return Finding("linearity", volts, score, dict(sorted(messages.items())))


def _stuck(voltages: Array, mask: Flags, protocol: Protocol) -> Array:
    """Share of a channel's voltages that are equal to its largest or smallest one, if many are, ``(M,)``.

    Injections that repeat another one do not count.
    """
    first = np.ones(len(voltages), bool)
    first[[repeat.second for repeat in repeats(protocol)]] = False
    there = mask & first[:, None]
    top = np.where(there, voltages, -np.inf)
    bottom = np.where(there, -voltages, -np.inf)
    count, shares = there.sum(axis=0), np.zeros(voltages.shape[1])
    largest = np.abs(np.where(there, voltages, 0.0)).max(axis=0)
    for side in (top, bottom):
        extreme = side.max(axis=0)
        equal = (there & (side >= extreme - _TIE * largest)).sum(axis=0)
        many = (equal > 3) & (equal > _STUCK * count) & (extreme > largest / 2)
        shares = np.maximum(shares, np.where(many, equal / np.maximum(count, 1), 0.0))
    return np.asarray(shares)


def _distances(expected: Array, voltages: Array, mask: Flags) -> Array:
    """Mean squared difference of each channel to what is expected of each, V^2, ``(M, M)``."""
    weight = mask.astype(float)
    v, e = voltages * weight, expected * weight
    count = weight.T @ weight
    square = (v**2).T @ weight + weight.T @ e**2 - 2 * v.T @ e
    far = float((v**2).sum() + (e**2).sum())
    return np.where(count > 0, square / np.maximum(count, 1), far)


def _swapped(distance: Array, sound: Flags) -> NDArray[np.intp]:
    """Which channel's voltages each channel holds, ``(M,)``; its own, unless others fit much better.

    The best assignment of the sound channels; of its cycles those count that bring each of their channels
    nearer, and all together by much.
    """
    result = np.arange(len(distance))
    those = np.flatnonzero(sound)
    best = dict(
        zip(those, those[linear_sum_assignment(distance[np.ix_(those, those)])[1]], strict=True)
    )
    while best:
        cycle = [next(iter(best))]
        while best[cycle[-1]] != cycle[0]:
            cycle.append(best[cycle[-1]])
        goal = [best.pop(j) for j in cycle]
        own, new = distance[cycle, cycle], distance[cycle, goal]
        if len(cycle) > 1 and (new < own).all() and new.sum() < _SWAPPED * own.sum():
            result[cycle] = goal
    return result
