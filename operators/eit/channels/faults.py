"""Tests of channels against voltages that are expected: dead, stuck, reversed, swapped, noisy ones.

Whatever is in a tank, its voltages are ``I Z`` with the currents I and transfer impedances Z. With more
injections than independent currents noisy channels show without a model of the tank.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from onmanifold.operators.eit.channels.flags import DEAD, FAR, Array, Finding, Flags
from onmanifold.operators.eit.measurements.measurement import Measurement
from onmanifold.operators.eit.measurements.noise import matrix_of, noise_std, repeats
from onmanifold.operators.eit.models.protocol import Protocol

_TIE = 1e-4  # of a channel's largest voltage: closer ones count as equal
_STUCK = 0.15  # of a channel's voltages, and more than three, that are equal to an extreme one
_SWAPPED = 0.7  # of the squared distance, if channels are read in another order
_NOISY = 3.0  # times the median channel's residual
_CURRENT = 0.05  # relative standard deviation of an injection's current
_SHARE = 0.02  # of a change: what good instruments leave that is not linear in the currents
_FLOOR = 0.01  # the same, of the typical change
_STEPS = 15  # of the alternating fit
_SPARE = 5  # voltages beyond the free numbers of a channel's fit that a test needs
_RANK = 1e-7


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
        Finding.of(dead, lambda j: f"its voltages are {ratio[j]:.2g} times those of {whose}"),
        Finding.of(stuck, lambda j: f"{share[j]:.0%} of its voltages are stuck at one value"),
        Finding.of(reversed_, lambda _: f"its voltages have the other sign than those of {whose}"),
        Finding.of(
            held != np.arange(len(held)),
            lambda j: f"its voltages are those of channel {held[j] + 1} of {whose}",
        ),
    ]


def nonlinear_changes(reference: Measurement, measurement: Measurement, left_out: Flags) -> Finding:
    """Channels whose change is less linear in the currents than the others'.

    Those count that are still far off when the worse ones, which bend the fit, are left out.
    """
    least = 0.1  # of the usual error: below it, the median channel is perfect
    score = np.zeros(len(left_out))
    messages: dict[int, str] = {}
    suspects, out = ~left_out, left_out.copy()
    while suspects.any():
        size, rest = nonlinearity(reference, measurement, out)
        known = suspects & ~np.isnan(size)
        if not known.any():
            break
        others = rest[~np.isnan(size)]
        far = FAR / _NOISY * size / max(float(np.nanmedian(size)), least)
        score[known] = far[known]
        suspects = known & (far > FAR)
        if suspects.any():
            worst = int(np.where(suspects, far, 0.0).argmax())
            messages[worst] = (
                f"its change from the reference is {rest[worst]:.2g} V off any that is linear in the "
                f"currents, the median channel's {np.median(others):.2g} V"
            )
            suspects[worst], out[worst] = False, True
    return Finding(score, dict(sorted(messages.items())))


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
    """Mean squared difference of each channel to what is expected of each, V^2, ``(M, M)``.

    Channels may be measured in different injections, as where driven electrodes are left out. Then two can be
    compared only where both are, and so is the channel's difference to what is expected of itself: what
    the other has less than that counts.
    """
    weight = mask.astype(float)
    v, e = voltages * weight, expected * weight
    count = weight.T @ weight
    own = ((v - e) ** 2).T @ weight
    square = (v**2).T @ weight + weight.T @ e**2 - 2 * v.T @ e
    far = float((v**2).sum() + (e**2).sum())
    mean = np.diag(own) / np.maximum(np.diag(count), 1)
    shared = 2 * count >= np.minimum.outer(np.diag(count), np.diag(count))
    other = mean[:, None] + (square - own) / np.maximum(count, 1)
    return np.where((count > 0) & shared, other, far)


def _swapped(distance: Array, sound: Flags) -> NDArray[np.intp]:
    """Which channel's voltages each channel holds, ``(M,)``; its own, unless others fit much better.

    The best assignment of the sound channels; of its cycles those count that bring each of their channels
    nearer, and all together by much.
    """
    result = np.arange(len(distance))
    those = np.flatnonzero(sound)
    goal = linear_sum_assignment(distance[np.ix_(those, those)])[1]
    moves = coo_array((np.ones(len(those)), (np.arange(len(those)), goal)))
    cycles = connected_components(moves)[1] if len(those) else goal
    for number in np.unique(cycles):
        cycle, to = those[cycles == number], those[goal[cycles == number]]
        own, new = distance[cycle, cycle], distance[cycle, to]
        if len(cycle) > 1 and (new < own).all() and new.sum() < _SWAPPED * own.sum():
            result[cycle] = to
    return result


def nonlinearity(
    reference: Measurement, measurement: Measurement, left_out: Flags
) -> tuple[Array, Array]:
    r"""How far the change of each channel is from being linear in the currents.

    The change from the reference is fitted by ``g_i (I Z)_ij + b_j + c_j s_i``: the transfer impedances
    of an unknown tank, and what an instrument may add to them: errors g of the currents, offsets b and
    common-mode errors c, with the potential s of the electrode into which the current flows. By alternating
    least squares, with channels weighted by their own residuals, so that bad ones do not bend the currents.

    Args:
        reference: of the tank without objects.
        measurement: of the same protocol.
        left_out: channels that are known to be bad, bool, ``(M,)``.

    Returns:
        Residuals in standard deviations (:func:`noise_std`, 2 % of the change, 1 % of the typical one), and
        in V, root mean square over the injections, ``(M,)`` each; NaN for channels that are left out or have
        too few voltages.
    """
    protocol = measurement.protocol
    (before, known), (after, mask) = matrix_of(reference), matrix_of(measurement)
    there = mask & known
    mask = there & ~left_out
    change = np.where(mask, after - before, 0.0)
    noise = np.hypot(_noise(before, there), _noise(after, there))
    typical = np.sqrt((change**2).sum() / max(int(mask.sum()), 1))
    std = np.sqrt(noise**2 + (_SHARE * change) ** 2 + (_FLOOR * typical) ** 2)
    currents = _independent(protocol.injections.T)
    free = np.stack([np.ones(len(change)), _sinks(protocol, change, there)], axis=1)
    weight = np.where(mask, 1 / std, 0.0).T[:, :, None]
    factors = np.ones(len(change))
    for _ in range(_STEPS):
        basis = weight * np.concatenate([factors[:, None] * currents, free], axis=1)
        basis /= np.maximum(np.linalg.norm(basis, axis=1, keepdims=True), 1e-300)
        inverse = np.linalg.pinv(basis, rcond=_RANK)
        found = inverse @ (weight * change.T[:, :, None])
        own = (basis[:, :, : currents.shape[1]] @ found[:, : currents.shape[1]])[..., 0].T
        rest = (weight * change.T[:, :, None] - basis @ found)[..., 0].T
        rank = np.einsum("mik,mki->m", basis, inverse).round()
        spare = mask.sum(axis=0) - rank
        size = np.sqrt((rest**2).sum(axis=0) / np.maximum(spare, 1))
        size[spare < _SPARE] = np.nan
        if np.isnan(size).all():
            break
        factors = np.clip(factors * (1 + _factor_step(own, rest, size)), 0.7, 1.4)
    volts = np.sqrt(((rest * std) ** 2).sum(axis=0) / np.maximum(spare, 1))
    return size, np.where(np.isnan(size), np.nan, volts)


def _factor_step(own: Array, rest: Array, size: Array) -> Array:
    """By how much each current is larger than it was taken to be, ``(I,)``."""
    good = ~np.isnan(size)
    least = max(0.3 * float(np.median(size[good])), 1e-12)  # no channel counts for all others
    weight = np.where(good, 1 / np.maximum(np.nan_to_num(size), least) ** 2, 0.0)
    step: Array = (weight * own * rest).sum(axis=1) / ((weight * own**2).sum(axis=1) + _CURRENT**-2)
    return step


def _noise(voltages: Array, mask: Flags) -> Array:
    """Standard deviations of the voltages, V; those that are missing count as zero."""
    there = np.where(mask, voltages, 0.0)
    return noise_std(there if there.any() else np.ones_like(there)).numpy()


def _independent(currents: Array) -> Array:
    """Columns that span those of a matrix."""
    left, values, _ = np.linalg.svd(currents, full_matrices=False)
    return np.asarray(left[:, values > _RANK * values[0]])


def _sinks(protocol: Protocol, voltages: Array, mask: Flags) -> Array:
    """Potential of each injection's sink above some electrode's, of unit length, ``(I,)``.

    Zero throughout if the measured patterns do not say it.
    """
    sinks = np.argmin(protocol.injections, axis=0)
    used = mask.any(axis=0)
    if not used.any():
        return np.zeros(len(voltages))
    patterns = protocol.patterns[:, used]
    wanted = np.zeros((protocol.electrodes, len(voltages)))
    wanted[sinks, np.arange(len(voltages))] = 1
    wanted[np.flatnonzero(np.abs(patterns).sum(axis=1))[0]] -= 1
    weights = np.linalg.lstsq(patterns, wanted, rcond=None)[0]
    rows = mask.any(axis=1)
    if (np.abs(patterns @ weights - wanted).max(axis=0)[rows] > 1e-9).any():
        return np.zeros(len(voltages))
    potential = np.where(rows, (voltages[:, used] * weights.T).sum(axis=1), 0.0)
    return np.asarray(potential / max(float(np.linalg.norm(potential)), 1e-300))
