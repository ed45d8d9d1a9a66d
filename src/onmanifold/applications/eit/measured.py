"""From files or arrays to a calibrated tank and checked measurements."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from onmanifold.checks import check_number
from onmanifold.errors import InputError
from onmanifold.operators.eit import (
    CalibratedTank,
    Implausible,
    Measurement,
    NamedProtocol,
    Protocol,
    Tank,
    assemble,
    calibrate,
    calibrate_tank,
    check_against,
    check_convention,
    check_reference,
    fine_at_wall,
    fit_noise,
    flag_channels,
    frames_of,
    homogeneous_voltages,
    read_frames,
)
from onmanifold.operators.eit.models.presets import convention

Voltages = str | Path | Any
"""A file of voltages, or an array of them."""
_LONGEST = (
    0.04  # edge inside the mesh, radii: images change by less than their uncertainty below it
)
_CONTACT = 1e-5  # contact impedance, times radius over conductivity: good contact
_NOISY = 5  # frames of the reference from which its noise is found


@dataclass(frozen=True, eq=False)
class Measured:
    """A calibrated tank and the measurements in it.

    Attributes:
        tank: its geometry, conductivity and errors, as the reference shows them.
        frames: measurements of it.
        unreliable: bad patterns of each frame, from 0; those of the reference are the tank's.
        notes: what was found to be implausible, as sentences.
        absolute: whether there is no reference: the tank was fitted to the first frame.
    """

    tank: CalibratedTank
    frames: tuple[Measurement, ...]
    unreliable: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...]
    absolute: bool = False


def measure(
    reference: Voltages | None,
    data: Voltages,
    protocol: Protocol | str | None = None,
    *,
    tank: Tank | None = None,
    radius: float = 1.0,
    width: float | None = None,
    first_angle: float | None = None,
    clockwise: bool | None = None,
    current: float = 1.0,
    factor: float = 1.0,
    conductivity: float | None = None,
    variable: str | None = None,
    decimal: str | None = None,
) -> Measured:
    """Read voltages, check them, and calibrate the tank: seconds.

    Args: as :func:`onmanifold.applications.eit.reconstruct`.

    Raises:
        ValueError: voltages that cannot be used.

    Warns:
        Implausible: of bad channels, or of another tank; also in ``notes``.
    """
    read = _Reader(protocol, check_number(factor, "factor", low=-1e9), variable, decimal)
    known, name = [], ""
    if reference is not None:
        known, name = read.frames(reference), _name(reference, "the reference")
    frames, data_name = (
        read.frames(data, known[0].protocol if known else None),
        _name(data, "the data"),
    )
    if not known:
        known, name = frames[:1], data_name
    plan = known[0].protocol
    body = tank or _tank(plan, read.given, radius, width, first_angle, clockwise)
    current = check_number(current, "current")
    if current != 1:
        known, frames = (_driven(some, current) for some in (known, frames))
    mean = _mean(known)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Implausible)
        _check(body, read.given, mean, name, conductivity, empty=reference is not None)
        unreliable = tuple(
            check_against(mean, frame, _numbered(data_name, k, frames)).bad
            for k, frame in enumerate(frames)
        )
    notes = tuple(dict.fromkeys(str(w.message) for w in caught if w.category is Implausible))
    for note in notes:
        warnings.warn(note, Implausible, stacklevel=3)
    if tank is None:
        body = replace(body, contact_impedance=_CONTACT * radius / _conductivity(body, mean))
    calibrated = _calibrated(body, mean, empty=reference is not None)
    if len(known) >= _NOISY:
        calibrated = replace(calibrated, noise=fit_noise(*known))
    return Measured(calibrated, tuple(frames), unreliable, notes, reference is None)


class _Reader:
    """Reads voltages, all with the protocol that the first file was found to be of."""

    def __init__(
        self,
        protocol: Protocol | str | None,
        factor: float,
        variable: str | None,
        decimal: str | None,
    ) -> None:
        self.protocol, self.factor, self.variable, self.decimal = (
            protocol,
            factor,
            variable,
            decimal,
        )
        self.given: NamedProtocol | None = None
        if factor == 0:
            raise InputError("factor has to differ from zero")
        if isinstance(protocol, str):
            convention(protocol)  # an unknown name is said first

    def frames(self, source: Voltages, known: Protocol | None = None) -> list[Measurement]:
        chosen = self.given or self.protocol
        found = self._read(source, chosen)
        if isinstance(chosen, str):
            meant = convention(chosen)
            count = replace(meant, electrodes=found[0].protocol.electrodes)
            self.given = next(
                p for p in count.fitting(found[0].protocol.shape) if p.protocol == found[0].protocol
            )
        if known is not None and found[0].protocol != known:
            raise InputError(
                f"{_name(source, 'the data')}: its protocol is another one than that of the reference; both "
                "have to be of one tank and protocol"
            )
        return [replace(one, voltages=self.factor * one.voltages) for one in found]

    def _read(
        self, source: Voltages, chosen: Protocol | NamedProtocol | str | None
    ) -> list[Measurement]:
        if isinstance(source, str | Path):
            return read_frames(
                source, protocol=chosen, variable=self.variable, decimal=self.decimal
            )
        if isinstance(source, Measurement):
            return [source]
        if chosen is None:
            raise InputError("voltages in an array need protocol=, such as 'pyeit16'")
        values = source.detach().cpu().numpy() if isinstance(source, torch.Tensor) else source
        return frames_of(values, chosen)


def _name(source: Voltages, other: str) -> str:
    return Path(source).name if isinstance(source, str | Path) else other


def _numbered(name: str, k: int, frames: Sequence[Measurement]) -> str:
    return name if len(frames) == 1 else f"{name}, frame {k + 1}"


def _tank(
    plan: Protocol,
    given: NamedProtocol | None,
    radius: float,
    width: float | None,
    first_angle: float | None,
    clockwise: bool | None,
) -> Tank:
    """A round tank with evenly spaced electrodes, where nothing is said placed as the protocol's models."""
    count = plan.electrodes
    usual = given or NamedProtocol("", plan)
    return Tank(
        radius=radius,
        electrodes=count,
        width=180 / count if width is None else width,
        first_angle=usual.first_angle if first_angle is None else first_angle,
        clockwise=usual.clockwise if clockwise is None else clockwise,
        contact_impedance=_CONTACT * radius,
    )


def _conductivity(tank: Tank, reference: Measurement) -> float:
    """About that of the tank; any positive number where voltages have another sign."""
    model = homogeneous_voltages(tank, reference.protocol, 1.0)
    model, voltages = (
        torch.where(reference.mask, v, 0.0).flatten() for v in (model, reference.voltages)
    )
    ratio = float((model @ voltages) / (model @ model))
    return 1 / abs(ratio) if ratio else 1.0


def _driven(frames: list[Measurement], current: float) -> list[Measurement]:
    """The same voltages, of currents that are so many times as large."""
    plan = frames[0].protocol
    scaled = Protocol(current * plan.injections, plan.patterns, plan.measured)
    return [Measurement(scaled, one.voltages, one.mask) for one in frames]


def _mean(frames: list[Measurement]) -> Measurement:
    """The mean of measurements, of each voltage over those that have it."""
    if len(frames) == 1:
        return frames[0]
    there = torch.stack([one.mask for one in frames])
    count = there.sum(0)
    voltages = torch.stack([one.voltages for one in frames]).sum(0) / count.clamp(min=1)
    return Measurement(frames[0].protocol, voltages, count > 0)


def _check(
    tank: Tank,
    given: NamedProtocol | None,
    reference: Measurement,
    name: str,
    conductivity: float | None,
    empty: bool,
) -> None:
    """Refuse another order, sign or unit than said; warn of bad channels and of another tank."""
    if given is not None:
        check_convention(tank, given, reference, name)
    if conductivity is None:  # then any unit will do: the conductivity is in the same one
        conductivity = _conductivity(tank, reference)
    expected = homogeneous_voltages(tank, reference.protocol, conductivity)
    with warnings.catch_warnings():
        if not empty:  # objects in it are no surprise
            warnings.filterwarnings("ignore", ".*a homogeneous model of the tank", Implausible)
        check_reference(reference, expected, name)


def _calibrated(tank: Tank, reference: Measurement, empty: bool) -> CalibratedTank:
    if empty:
        return calibrate_tank(tank, reference, _LONGEST)
    mesh, coarse = (assemble(fine_at_wall(tank, edge)) for edge in (_LONGEST, 2 * _LONGEST))
    found = calibrate(tank, reference, mesh=mesh, fit=("conductivity",))
    return CalibratedTank(reference, found, mesh, coarse, flag_channels(reference).bad)
