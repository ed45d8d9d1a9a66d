"""Whether measured voltages can be what they are said to be: units, tank, channels.

What cannot be used is refused, with a message that says what to do. What can be used with care is warned of
and reported, channel by channel.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from onmanifold.operators.eit.measurements.channels import (
    DEAD,
    FAR,
    ChannelReport,
    Finding,
    channel_findings,
    channel_report,
    reciprocity,
)
from onmanifold.operators.eit.measurements.linearity import nonlinearity
from onmanifold.operators.eit.measurements.measurement import Measurement
from onmanifold.operators.eit.measurements.noise import matrix_of, repeats
from onmanifold.operators.eit.models.protocol import Protocol

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

_UNITS = 30.0  # voltages larger or smaller by this factor are in other units
_MISFIT = 0.1  # of a tank without objects; measured ones have 0.04, simulated ones at most 0.07
_TIE = 1e-4  # of a channel's largest voltage: closer ones count as equal
_STUCK = 0.15  # of a channel's voltages, and more than three, that are equal to an extreme one
_SWAPPED = 0.7  # of the squared distance, if channels are read in another order
_NOISY = 3.0  # times the median channel's residual


class Implausible(UserWarning):
    """Voltages that can be used, but are hardly all of what they are said to be."""


def check_reference(
    reference: Measurement, predicted: Tensor, name: str, protocol: Protocol | None = None
) -> ChannelReport:
    """Check a measurement of a tank without objects against a homogeneous model of the tank.

    Channels are bad by :func:`flag_channels`, or if many of their voltages are stuck at one value, or if
    they read what the model says of another channel. Warns (:class:`Implausible`) of bad channels,
    and if the good ones are far from the model: where no current is driven, offsets aside.

    Args:
        reference: voltages of the tank without objects.
        predicted: what a homogeneous model says of them, V, the same shape; its conductivity need be right
            only within a factor of 30.
        name: of the file, for messages.
        protocol: the one that is expected, if it is known.

    Returns:
        The doubtful channels, with reasons.

    Raises:
        ValueError: another protocol or shape, fewer than two injections with voltages, voltages in other
            units or of the other sign; the message says what to do.

    Example:
        >>> import torch
        >>> from onmanifold.operators.eit import EIT, Tank
        >>> eit = EIT(Tank.ktc(), Protocol.ktc(), (8, 8), mesh="coarse")
        >>> water = eit.A(torch.ones(1, 8, 8, dtype=torch.float64))[0]
        >>> check_reference(Measurement.from_values(eit.protocol, 1.3 * water), water, "ref.mat").bad
        ()
        >>> check_reference(Measurement.from_values(eit.protocol, 1e3 * water), water, "ref.mat")
        Traceback (most recent call last):
        ValueError: ref.mat: its voltages are 1e+03 times what the model of the tank says...
    """
    if protocol is not None:
        _check_protocol(protocol, reference.protocol, name, "the expected protocol")
    _check_injections(reference, name)
    if tuple(predicted.shape) != reference.protocol.shape:
        raise ValueError(
            f"{name}: its voltages have shape {reference.protocol.shape}, those predicted for the tank "
            f"{tuple(predicted.shape)}; is it the protocol of this tank?"
        )
    expected = Measurement.from_values(reference.protocol, predicted)
    scale = _check_scale(expected, reference, name, "what the model of the tank says")
    (model, _), (voltages, mask) = matrix_of(expected), matrix_of(reference)
    pairs = reciprocity(reference)
    findings = channel_findings(reference, None, pairs)
    findings += _gross(scale * model, voltages, mask, reference.protocol, "the model")
    report = channel_report(reference.protocol, findings, pairs.error)
    _warn_channels(report, name)
    misfit = _misfit(model, voltages, mask, report, reference.protocol)
    if misfit > _MISFIT:
        warnings.warn(
            f"{name}: a homogeneous model of the tank leaves {misfit:.0%} of the voltages unexplained where "
            f"no current is driven; tanks without objects leave less than {_MISFIT:.0%}. Is it another tank, "
            "are its electrodes numbered in another way, or are there objects in it?",
            Implausible,
            stacklevel=2,
        )
    return report


def check_against(reference: Measurement, measurement: Measurement, name: str) -> ChannelReport:
    """Check a measurement against that of the same tank without objects.

    A channel is bad if its voltages are next to nothing, stuck at one value, of the other sign, or closer to
    what the reference has for another channel; or if their change from the reference is not linear in
    the currents, as that of any object is. Where the fault is in the reference, it shows in the same way.
    Bad channels are warned of (:class:`Implausible`).

    Args:
        reference: voltages of the tank without objects.
        measurement: of the same protocol; voltages may be missing.
        name: of the measurement's file, for messages.

    Returns:
        The doubtful channels, with reasons.

    Raises:
        ValueError: another protocol, fewer than two injections with voltages, voltages in other units or of
            the other sign; the message says what to do.

    Example:
        >>> import torch
        >>> from onmanifold.operators.eit import EIT, Tank
        >>> eit = EIT(Tank.ktc(), Protocol.ktc(), (8, 8), mesh="coarse")
        >>> x = torch.ones(2, 8, 8, dtype=torch.float64)
        >>> x[1, 2:4, 4:6] = 0.1
        >>> water, tank = eit.A(x)
        >>> tank[:, [3, 9]] = tank[:, [9, 3]]
        >>> files = (Measurement.from_values(eit.protocol, voltages) for voltages in (water, tank))
        >>> with warnings.catch_warnings(action="ignore"):
        ...     report = check_against(*files, "data1.mat")
        >>> report.bad, report.reasons[0]
        ((3, 9), 'channel 4: its voltages are those of channel 10 of the reference')
    """
    protocol = measurement.protocol
    _check_protocol(reference.protocol, protocol, name, "the reference")
    _check_injections(measurement, name)
    _check_scale(reference, measurement, name, "those of the reference")
    (before, known), (after, mask) = matrix_of(reference), matrix_of(measurement)
    findings = _gross(before, after, mask & known, protocol, "the reference")
    gross = np.max([finding.score for finding in findings], axis=0) > FAR
    findings.append(_nonlinear(reference, measurement, gross))
    report = channel_report(protocol, findings)
    _warn_channels(report, name)
    return report


# What is refused -----------------------------------------------------------------------------------


def _check_protocol(expected: Protocol, got: Protocol, name: str, whose: str) -> None:
    """Refuse other electrodes, patterns or currents than expected."""
    for what, count, wanted in (
        ("electrodes", got.electrodes, expected.electrodes),
        ("injections", got.full_shape[0], expected.full_shape[0]),
        ("patterns", got.full_shape[1], expected.full_shape[1]),
    ):
        if count != wanted:
            raise ValueError(
                f"{name}: it has {count} {what}, {whose} has {wanted}; both have to be of one tank and "
                "protocol"
            )
    used = expected.injections != 0
    factor = float(np.median(np.abs(got.injections[used] / expected.injections[used])))
    if not 1 / _UNITS < factor < _UNITS and factor > 0:
        raise ValueError(
            f"{name}: its currents are {factor:.3g} times those of {whose}; {_conversion('currents', factor)}"
        )
    for what in ("injection", "pattern"):
        a, b = getattr(expected, f"{what}s"), getattr(got, f"{what}s")
        other = np.flatnonzero(np.abs(a - b).max(axis=0) > 1e-4 * np.abs(a).max())
        if len(other):
            raise ValueError(
                f"{name}: {what} {other[0] + 1} is another one than that of {whose} (and {len(other) - 1} "
                "further ones); both have to be of one tank and protocol"
            )


def _check_injections(measurement: Measurement, name: str) -> None:
    """Refuse less than two injections with voltages."""
    count = int(matrix_of(measurement)[1].any(axis=1).sum())
    if count < 2:
        left = (
            "all of its voltages are missing" if count == 0 else "only one injection has voltages"
        )
        raise ValueError(f"{name}: {left}; at least two injections are needed")


def _check_scale(expected: Measurement, got: Measurement, name: str, whose: str) -> float:
    """By how much voltages are larger than expected; refuses other units and the other sign."""
    (model, known), (voltages, mask) = matrix_of(expected), matrix_of(got)
    both = mask & known & (np.abs(model) > 0)
    if not both.any():
        raise ValueError(f"{name}: none of its voltages has one to be compared with in {whose}")
    large = both & (np.abs(model) >= np.median(np.abs(model[both])))
    factor = float(np.median(voltages[large] / model[large]))
    if factor == 0:
        raise ValueError(f"{name}: its voltages are zero")
    if not 1 / _UNITS < abs(factor) < _UNITS:
        raise ValueError(
            f"{name}: its voltages are {abs(factor):.2g} times {whose}; "
            f"{_conversion('voltages', abs(factor))}, or change the units of the currents in the same way"
        )
    if factor < 0:
        raise ValueError(
            f"{name}: its voltages have the other sign than {whose}; change the sign of the voltages or of "
            "the currents"
        )
    return factor


def _conversion(what: str, factor: float) -> str:
    """What to do against other units."""
    by = 10.0 ** round(float(np.log10(factor)))
    do = f"divide them by {by:g}" if by > 1 else f"multiply them by {1 / by:g}"
    return f"if the {what} are in other units, {do}"


# What is doubtful ----------------------------------------------------------------------------------


def _gross(
    expected: Array, voltages: Array, mask: Flags, protocol: Protocol, whose: str
) -> list[Finding]:
    """Channels that are dead, stuck, reversed or exchanged."""
    size, wanted = (
        np.sqrt((np.where(mask, v, 0.0) ** 2).sum(axis=0)) for v in (voltages, expected)
    )
    ratio = np.where(mask.any(axis=0), size / np.maximum(wanted, 1e-300), np.nan)
    dead = (ratio < DEAD) | (ratio > 1 / DEAD)
    told = {
        int(j): f"its voltages are {ratio[j]:.2g} times those of {whose}" for j in _numbers(dead)
    }
    findings = [Finding("size", ratio, _score(dead), told)]

    share = _stuck(voltages, mask, protocol)
    stuck = (share > 0) & ~dead
    told = {
        int(j): f"{share[j]:.0%} of its voltages are stuck at one value" for j in _numbers(stuck)
    }
    findings.append(Finding("stuck", share, _score(stuck), told))

    distance = _distances(expected, voltages, mask)
    opposite = np.diag(_distances(-expected, voltages, mask))
    flipped = (opposite < _SWAPPED * np.diag(distance)) & ~dead & ~stuck
    told = {
        int(j): f"its voltages have the other sign than those of {whose}" for j in _numbers(flipped)
    }
    findings.append(Finding("sign", opposite, _score(flipped), told))

    from_channel = _exchanged(distance, ~(dead | stuck | flipped) & mask.any(axis=0))
    moved = from_channel != np.arange(len(ratio))
    told = {
        int(j): f"its voltages are those of channel {from_channel[j] + 1} of {whose}"
        for j in _numbers(moved)
    }
    findings.append(Finding("order", from_channel.astype(float), _score(moved), told))
    return findings


def _numbers(flags: Flags) -> NDArray[np.intp]:
    return np.flatnonzero(flags)


def _score(bad: Flags) -> Array:
    return np.where(bad, 2 * FAR, 0.0)


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


def _exchanged(distance: Array, sound: Flags) -> NDArray[np.intp]:
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


def _nonlinear(reference: Measurement, measurement: Measurement, left_out: Flags) -> Finding:
    """Channels whose change is less linear in the currents than the others'.

    Those count that still stand out when the worse ones, which bend the fit, are left out.
    """
    least = 0.1  # of the usual error: below it, the median channel is perfect
    volts, score = np.full(len(left_out), np.nan), np.zeros(len(left_out))
    told: dict[int, str] = {}
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
            told[worst] = (
                f"its change from the reference is {rest[worst]:.2g} V off any that is linear in the "
                f"currents, the median channel's {np.median(others):.2g} V"
            )
            suspects[worst], out[worst] = False, True
    return Finding("linearity", volts, score, dict(sorted(told.items())))


def _misfit(
    model: Array, voltages: Array, mask: Flags, report: ChannelReport, protocol: Protocol
) -> float:
    """Relative residual of a homogeneous model, of the best scale, offsets aside.

    Of good channels where no current is driven, if there are such voltages: at electrodes with current
    contacts and the width of the electrodes matter too.
    """
    mask = mask.copy()
    mask[:, list(report.bad)] = False
    driven = (protocol.injections != 0).T.astype(int) @ (protocol.patterns != 0).astype(int) > 0
    those = mask & ~driven if (mask & ~driven).any() else mask
    if not those.any():
        return 0.0
    u, v = model[those], voltages[those]
    scale = float(u @ v / (u @ u))
    off = np.where(those, voltages - scale * model, np.nan)
    some = those.any(axis=0)
    rest = off[:, some] - np.nanmedian(off[:, some], axis=0)
    return float(np.sqrt(np.nansum(rest**2)) / np.linalg.norm(v))


def _warn_channels(report: ChannelReport, name: str) -> None:
    """Name the bad channels, numbers from 1."""
    if report.bad:
        numbers = ", ".join(str(j + 1) for j in report.bad)
        one = len(report.bad) == 1
        warnings.warn(
            f"{name}: channel{'' if one else 's'} {numbers} look{'s' if one else ''} bad and should count "
            f"little or not at all: {'; '.join(report.reasons)}",
            Implausible,
            stacklevel=3,
        )
