"""Whether measured voltages can be what they are said to be: units, tank, channels.

What cannot be used is refused, with a message that says what to do. What can be used with care is warned of
and reported, channel by channel.
"""

from __future__ import annotations

import warnings

import numpy as np
from torch import Tensor

from onmanifold.errors import InputError
from onmanifold.operators.eit.channels.faults import gross_faults, nonlinear_changes
from onmanifold.operators.eit.channels.flags import (
    FAR,
    Array,
    ChannelReport,
    Flags,
    channel_findings,
)
from onmanifold.operators.eit.channels.reciprocity import reciprocity
from onmanifold.operators.eit.measurements.measurement import Measurement
from onmanifold.operators.eit.measurements.noise import matrix_of
from onmanifold.operators.eit.models.protocol import Protocol

_UNITS = 30.0  # voltages larger or smaller by this factor are in other units
_MISFIT = 0.1  # of a tank without objects; measured ones have 0.04, simulated ones at most 0.07


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
        The unreliable channels, with reasons.

    Raises:
        ValueError: another protocol or shape, fewer than two injections with voltages, voltages in other
            units or of the other sign; the message says what to do.

    Example:
        >>> import torch
        >>> from onmanifold.operators.eit import EIT, ktc
        >>> eit = EIT(ktc.tank(), ktc.protocol(), (8, 8), mesh="coarse")
        >>> water = eit.A(torch.ones(1, 8, 8, dtype=torch.float64))[0]
        >>> check_reference(Measurement.from_values(eit.protocol, 1.3 * water), water, "ref.mat").bad
        ()
        >>> check_reference(Measurement.from_values(eit.protocol, 1e3 * water), water, "ref.mat")
        Traceback (most recent call last):
        onmanifold.errors.InputError: ref.mat: its voltages are 1e+03 times what the model of the tank says...
    """
    if protocol is not None:
        _check_protocol(protocol, reference.protocol, name, "the expected protocol")
    _check_injections(reference, name)
    if tuple(predicted.shape) != reference.protocol.shape:
        raise InputError(
            f"{name}: its voltages have shape {reference.protocol.shape}, those predicted for the tank "
            f"{tuple(predicted.shape)}; is it the protocol of this tank?"
        )
    expected = Measurement.from_values(reference.protocol, predicted)
    scale = _check_scale(expected, reference, name, "what the model of the tank says")
    (model, _), (voltages, mask) = matrix_of(expected), matrix_of(reference)
    pairs = reciprocity(reference)
    findings = channel_findings(reference, pairs)
    findings += gross_faults(scale * model, voltages, mask, reference.protocol, "the model")
    report = ChannelReport.of(reference.protocol, findings, pairs.error)
    _warn_channels(report, name)
    misfit = _misfit(model, voltages, mask, report, reference.protocol)
    if misfit > _MISFIT:
        warnings.warn(
            f"{name}: a homogeneous model of the tank has a relative residual of {misfit:.0%} where no "
            f"current is driven; tanks without objects have less than {_MISFIT:.0%}. Is it another tank, "
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
        The unreliable channels, with reasons.

    Raises:
        ValueError: another protocol, fewer than two injections with voltages, voltages in other units or of
            the other sign; the message says what to do.

    Example:
        >>> import torch
        >>> from onmanifold.operators.eit import EIT, ktc
        >>> eit = EIT(ktc.tank(), ktc.protocol(), (8, 8), mesh="coarse")
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
    findings = gross_faults(before, after, mask & known, protocol, "the reference")
    gross = np.max([finding.score for finding in findings], axis=0) > FAR
    findings.append(nonlinear_changes(reference, measurement, gross))
    report = ChannelReport.of(protocol, findings)
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
            raise InputError(
                f"{name}: it has {count} {what}, {whose} has {wanted}; both have to be of one tank and "
                "protocol"
            )
    used = expected.injections != 0
    factor = float(np.median(np.abs(got.injections[used] / expected.injections[used])))
    if not 1 / _UNITS < factor < _UNITS and factor > 0:
        raise InputError(
            f"{name}: its currents are {factor:.3g} times those of {whose}; {_conversion('currents', factor)}"
        )
    for what in ("injection", "pattern"):
        a, b = getattr(expected, f"{what}s"), getattr(got, f"{what}s")
        other = np.flatnonzero(np.abs(a - b).max(axis=0) > 1e-4 * np.abs(a).max())
        if len(other):
            raise InputError(
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
        raise InputError(f"{name}: {left}; at least two injections are needed")


def _check_scale(expected: Measurement, got: Measurement, name: str, whose: str) -> float:
    """By how much voltages are larger than expected; refuses other units and the other sign."""
    (model, known), (voltages, mask) = matrix_of(expected), matrix_of(got)
    both = mask & known & (np.abs(model) > 0)
    if not both.any():
        raise InputError(f"{name}: none of its voltages has one to be compared with in {whose}")
    large = both & (np.abs(model) >= np.median(np.abs(model[both])))
    factor = float(np.median(voltages[large] / model[large]))
    if factor == 0:
        raise InputError(f"{name}: its voltages are zero")
    if not 1 / _UNITS < abs(factor) < _UNITS:
        raise InputError(
            f"{name}: its voltages are {abs(factor):.2g} times {whose}; "
            f"{_conversion('voltages', abs(factor))}, or change the units of the currents in the same way"
        )
    if factor < 0:
        raise InputError(
            f"{name}: its voltages have the other sign than {whose}; change the sign of the voltages or of "
            "the currents"
        )
    return factor


def _conversion(what: str, factor: float) -> str:
    """What to do against other units."""
    by = 10.0 ** round(float(np.log10(factor)))
    do = f"divide them by {by:g}" if by > 1 else f"multiply them by {1 / by:g}"
    return f"if the {what} are in other units, {do}"


# What is warned of ---------------------------------------------------------------------------------


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
