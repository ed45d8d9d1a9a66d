"""An :class:`EIT` from plain options, as the command line gives them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onmanifold.operators.eit.conductivity import (
    Affine,
    ConductivityMap,
    Exponential,
    Saturating,
)
from onmanifold.operators.eit.ktc import read_ktc
from onmanifold.operators.eit.operator import EIT
from onmanifold.operators.eit.protocol import Protocol
from onmanifold.operators.eit.tank import Tank

MAPS: dict[str, Callable[..., ConductivityMap]] = {
    "affine": Affine,
    "exponential": Exponential,
    "saturating": Saturating,
}
PROTOCOLS = ("adjacent", "opposite", "ktc")


def from_options(
    x_shape: tuple[int, ...] | None = None,
    *,
    tank: str | Mapping[str, Any] = "unit",
    protocol: str | None = None,
    conductivity: str | Mapping[str, Any] = "affine",
    mesh: str = "medium",
    contact_impedance: float | None = None,
    reference: str | Path | Sequence[Sequence[float]] | None = None,
    background: float | None = None,
) -> EIT:
    """An :class:`EIT` from plain options.

    Args:
        x_shape: ``(1, H, W)`` or ``(H, W)``; ``(1, 64, 64)`` if ``None``.
        tank: ``"unit"``, ``"ktc"``, or the arguments of :class:`Tank`.
        protocol: ``"adjacent"``, ``"opposite"`` or ``"ktc"``; by default that of the reference file, else
            the challenge's for its tank and adjacent for any other.
        conductivity: ``"affine"``, ``"exponential"`` or ``"saturating"``, or a mapping with that under
            ``"map"`` and the map's own arguments beside it.
        mesh: ``"coarse"``, ``"medium"`` or ``"fine"``.
        contact_impedance: instead of the tank's own, Ohm m^2.
        reference: the challenge's ``ref.mat``, or voltages ``(I, M)``: model the difference to it.
        background: conductivity in the reference measurement, S/m.

    Raises:
        ValueError: an unknown name; the known ones are listed.
        TypeError: an argument that a tank or a map does not take.

    Example:
        >>> options = {"map": "affine", "offset": 0.2, "slope": 1.6}
        >>> eit = from_options((1, 32, 32), tank="unit", conductivity=options, mesh="coarse")
        >>> eit.y_shape
        (32, 32)
    """
    where = _tank(tank)
    if contact_impedance is not None:
        where = replace(where, contact_impedance=contact_impedance)
    measured: Tensor | None = None
    plan: Protocol | None = None
    if isinstance(reference, str | Path):
        file = read_ktc(reference)
        plan, measured = file.protocol, file.voltages
        if not bool(file.mask.all()):
            raise ValueError(f"{reference} has missing voltages; a reference has to be complete")
    elif reference is not None:
        measured = torch.as_tensor(reference, dtype=torch.float64)
    if protocol is not None or plan is None:
        plan = _protocol(protocol or ("ktc" if tank == "ktc" else "adjacent"), where)
    return EIT(
        where,
        plan,
        (1, 64, 64) if x_shape is None else x_shape,
        conductivity=_conductivity(conductivity),
        mesh=mesh,
        reference=measured,
        background=background,
    )


def _tank(tank: str | Mapping[str, Any]) -> Tank:
    if isinstance(tank, Mapping):
        return Tank(**_known(tank, Tank))
    known = {"unit": Tank.unit, "ktc": Tank.ktc}
    if tank not in known:
        raise ValueError(f"unknown tank {tank!r}; known: {', '.join(known)}")
    return known[tank]()


def _protocol(name: str, tank: Tank) -> Protocol:
    if name not in PROTOCOLS:
        raise ValueError(f"unknown protocol {name!r}; known: {', '.join(PROTOCOLS)}")
    if name == "ktc":
        return Protocol.ktc()
    make = Protocol.adjacent if name == "adjacent" else Protocol.opposite
    return make(tank.electrodes)


def _conductivity(given: str | Mapping[str, Any]) -> ConductivityMap:
    options = {"map": given} if isinstance(given, str) else dict(given)
    name = options.pop("map", None)
    if name not in MAPS:
        raise ValueError(f"unknown conductivity map {name!r}; known: {', '.join(MAPS)}")
    return MAPS[name](**_known(options, MAPS[name]))


def _known(options: Mapping[str, Any], cls: Callable[..., Any]) -> dict[str, Any]:
    names = list(inspect.signature(cls).parameters)
    unknown = sorted(set(options) - set(names))
    if unknown:
        raise TypeError(
            f"{cls.__name__} does not take {', '.join(unknown)}; it takes {', '.join(names)}"
        )
    return dict(options)
