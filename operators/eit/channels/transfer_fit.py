"""Whether voltages are linear in the injected currents, channel by channel.

Whatever is in a tank, its voltages are ``I Z`` with the currents I and transfer impedances Z. With more
injections than independent currents this can be tested without a model of the tank.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onmanifold.operators.eit.measurements.measurement import Measurement
from onmanifold.operators.eit.measurements.noise import matrix_of, noise_std
from onmanifold.operators.eit.models.protocol import Protocol

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

_CURRENT = 0.05  # relative standard deviation of an injection's current
_SHARE = 0.02  # of a change: what good instruments leave that is not linear in the currents
_FLOOR = 0.01  # the same, of the typical change
_STEPS = 15  # of the alternating fit
_SPARE = 4  # voltages beyond the free numbers of a channel's fit that a test needs
_RANK = 1e-7


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
