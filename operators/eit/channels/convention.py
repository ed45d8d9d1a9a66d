"""Whether voltages come in the order and with the signs of the protocol that they are said to be of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from onmanifold.errors import InputError
from onmanifold.operators.eit.calibration.tank import homogeneous_voltages
from onmanifold.operators.eit.channels.flags import Array
from onmanifold.operators.eit.geometry.tank import Tank
from onmanifold.operators.eit.measurements.measurement import Measurement
from onmanifold.operators.eit.models.presets import NamedProtocol, rivals
from onmanifold.operators.eit.models.protocol import Protocol

_OTHER = 0.6  # relative residual of a homogeneous tank above which voltages are not of the protocol
_GOOD = 0.2  # below which they are: others of so many voltages leave 0.33 (8 electrodes) to 1
_BETTER = 0.5  # times the residual: another protocol that leaves less than this is the right one


@dataclass(frozen=True)
class _Fit:
    """How a homogeneous tank fits voltages, once their protocol is taken to be a certain one."""

    name: str
    residual: float
    factor: float


def check_convention(tank: Tank, given: NamedProtocol, measurement: Measurement, name: str) -> None:
    """Refuse voltages whose order or sign is another one than that of the protocol with this name.

    A homogeneous tank is compared with them where no current is driven, of whatever conductivity. With
    objects in the tank its relative residual is at most about 0.5 in measured tanks. If it is larger, or
    another protocol with a name fits much better, the voltages come in another order.

    Args:
        tank: with as many electrodes.
        given: the protocol that the voltages are said to be of.
        measurement: voltages, in the order of that protocol.
        name: of the file, for messages.

    Raises:
        ValueError: another order or the other sign; the message names the protocols that fit.

    Example:
        >>> from onmanifold.operators.eit import frames_of, named_protocol
        >>> tank, pyeit = Tank(electrodes=16, width=11.25), named_protocol("pyeit", (208,))
        >>> values = homogeneous_voltages(tank, pyeit.protocol, 1.0)
        >>> check_convention(tank, pyeit, frames_of(values, pyeit)[0], "ref.csv")
        >>> check_convention(tank, pyeit, frames_of(-values, pyeit)[0], "ref.csv")
        Traceback (most recent call last):
        onmanifold.errors.InputError: ref.csv: its voltages have the other sign than protocol pyeit16...
    """
    count, values = tank.electrodes, _in_file_order(given, measurement)
    mean_free = Protocol(np.eye(count) - 1 / count, np.eye(count))
    potentials = homogeneous_voltages(tank, mean_free, 1.0).numpy()
    own = _fit(potentials, given, values)
    others = (
        list(_fits(potentials, values, count)) if own.residual > _GOOD or own.factor < 0 else []
    )
    best = min(others, key=lambda f: f.residual - 1e-3 * (f.factor > 0), default=own)
    found = (
        f"a homogeneous tank has a relative residual of {own.residual:.0%} as protocol {given.name}"
    )
    if own.residual > _GOOD and best.residual < _BETTER * own.residual:
        sign = "" if best.factor > 0 else " and the other sign (--factor -1)"
        raise InputError(
            f"{name}: its voltages come in another order: {found}, but {best.residual:.0%} as {best.name}"
            f"{sign}; say so by protocol=, or --protocol"
        )
    if own.residual > _OTHER:
        raise InputError(
            f"{name}: its voltages are not those of an empty tank: {found}, and no other known protocol "
            "fits; expected a measurement without objects, injection after injection, electrodes numbered "
            "around the tank"
        )
    if own.factor < 0:
        better = [f.name for f in others if f.factor > 0 and f.residual < 1.1 * own.residual + 1e-3]
        instead = (
            f" (or take protocol {better[0]}, whose voltages have this sign)" if better else ""
        )
        raise InputError(
            f"{name}: its voltages have the other sign than protocol {given.name}; multiply them by -1: "
            f"factor=-1, or --factor -1{instead}"
        )


def _in_file_order(given: NamedProtocol, measurement: Measurement) -> Array:
    """The measured voltages as the file has them, NaN where one is missing."""
    values = torch.where(measurement.mask, measurement.voltages, torch.nan).flatten().numpy()
    if given.order is None:
        return np.asarray(values)
    unsorted = np.empty_like(values)
    unsorted[given.order] = values
    return unsorted


def _fits(potentials: Array, values: Array, electrodes: int) -> Iterator[_Fit]:
    for other in rivals(values.shape, electrodes):
        yield _fit(potentials, other, values)


def _fit(potentials: Array, named: NamedProtocol, values: Array) -> _Fit:
    """Relative residual of the best multiple of a homogeneous tank's voltages."""
    plan = named.protocol
    ordered = values if named.order is None else values[named.order]
    model = (plan.injections.T @ potentials @ plan.patterns)[plan.mask]
    driven = (plan.injections != 0).T.astype(int) @ (plan.patterns != 0).astype(int) > 0
    those = ~np.isnan(ordered) & ~driven[plan.mask]
    u, v = model[those], ordered[those]
    if not v.any():
        return _Fit(named.name, 1.0, 1.0)
    factor = float(u @ v / (u @ u))
    return _Fit(named.name, float(np.linalg.norm(v - factor * u) / np.linalg.norm(v)), factor)
