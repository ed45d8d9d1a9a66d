"""An :class:`EIT` from plain options, as the command line gives them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from onmanifold.errors import InputError, InputTypeError
from onmanifold.operators.eit import ktc
from onmanifold.operators.eit.arguments import check_flag, doubles
from onmanifold.operators.eit.conductivity import (
    Affine,
    Exponential,
    Labels,
    Saturating,
    channels_of,
)
from onmanifold.operators.eit.fem.assembly import MeshLike
from onmanifold.operators.eit.fem.discretization import SHIPPED, Discretization
from onmanifold.operators.eit.geometry.base import MeshGeometry
from onmanifold.operators.eit.geometry.curve import BoundaryCurve
from onmanifold.operators.eit.geometry.cylinder import Cylinder
from onmanifold.operators.eit.geometry.tank import Tank
from onmanifold.operators.eit.measurements.files import ENDINGS, read_measurement
from onmanifold.operators.eit.mesh.files import read_mesh
from onmanifold.operators.eit.mesh.generate import generate_mesh
from onmanifold.operators.eit.mesh.mesh import Mesh
from onmanifold.operators.eit.mesh.polar import polar_mesh
from onmanifold.operators.eit.models.continuum import Continuum
from onmanifold.operators.eit.models.presets import KNOWN, Convention, convention
from onmanifold.operators.eit.models.protocol import Protocol
from onmanifold.operators.eit.operator import EIT

Choice = str | Mapping[str, Any]
Makers = dict[str, Callable[..., Any]]

_TANKS: Makers = {"unit": Tank.unit, "ktc": ktc.tank}
_SHAPES: Makers = {"tank": Tank, "curve": BoundaryCurve, "cylinder": Cylinder}
_MAPS: Makers = {
    "affine": Affine,
    "exponential": Exponential,
    "saturating": Saturating,
    "labels": Labels,
}
_PROTOCOLS: Makers = {
    "adjacent": Protocol.adjacent,
    "opposite": Protocol.opposite,
    "ktc": ktc.protocol,
    "skip": Protocol.skip,
    "trigonometric": Protocol.trigonometric,
    "walsh": Continuum.walsh,
}
_SKIP = re.compile(r"skip-(\d+)")
_MESHERS: Makers = {"gmsh": generate_mesh, "polar": polar_mesh}


def from_options(
    x_shape: tuple[int, ...] | None = None,
    *,
    tank: Choice = "unit",
    protocol: Choice | None = None,
    drop_driven: bool = False,
    conductivity: Choice = "affine",
    mesh: Choice | None = None,
    degree: int = 1,
    contact_impedance: float | Sequence[float] | None = None,
    reference: str | Path | Sequence[Sequence[float]] | None = None,
    background: float | None = None,
    solver: str | None = None,
    device: str = "cpu",
) -> EIT:
    """An :class:`EIT` from plain options.

    Args:
        x_shape: ``(1, H, W)`` or ``(H, W)``, in three dimensions with depth in front, and with as many
            channels as the conductivity map has; 64 pixels a side, or 32 in three dimensions, if ``None``.
        tank: ``"unit"``, ``"ktc"``, the arguments of :class:`Tank`, or those of another body beside its
            ``"shape"``: ``"curve"`` or ``"cylinder"``. ``"mesh"`` for what the mesh file holds.
        protocol: ``"adjacent"``, ``"opposite"``, ``"skip-K"`` with a number K, ``"trigonometric"``,
            ``"ktc"`` or ``"walsh"`` (continuum model), a mapping with such a name under
            ``"protocol"`` and its arguments beside it, a name that users of pyEIT and EIDORS know
            (:func:`~onmanifold.operators.eit.models.presets.convention`; it also places the electrodes of the
            tank ``"unit"``), or a measurement file that has one; by default that of the reference file, else
            the challenge's for its tank and adjacent for any other.
        drop_driven: leave out voltages at electrodes that carry the injection's current.
        conductivity: ``"affine"``, ``"exponential"``, ``"saturating"`` or ``"labels"``, or a mapping with
            that under ``"map"`` and the map's own arguments beside it.
        mesh: ``"coarse"``, ``"medium"`` or ``"fine"``; a file ``.msh`` or ``.xdmf``, or ``.npz`` with a saved
            discretization; ``"gmsh"`` or ``"polar"`` to make one of the tank, or a mapping with that under
            ``"mesh"`` and the arguments of :func:`generate_mesh` or :func:`polar_mesh` beside it. By default
            the shipped medium mesh where it fits the tank, else what gmsh makes.
        contact_impedance: instead of the tank's own, Ohm m^2.
        reference: a measurement file (:func:`read_measurement`), or voltages ``(I, M)``: model the
            difference to it.
        background: conductivity in the reference measurement, S/m.
        degree: 1 or 2, of the elements.
        solver: as for :class:`EIT`.
        device: as for :class:`EIT`.

    Raises:
        ValueError: an unknown name; the known ones are listed.
        TypeError: an argument that a tank, a protocol, a mesh or a map does not take.

    Example:
        >>> affine = {"map": "affine", "offset": 0.2, "slope": 1.6}
        >>> eit = from_options((1, 32, 32), tank="unit", conductivity=affine, mesh="coarse")
        >>> eit.y_shape
        (32, 32)
        >>> from_options(protocol="skip-4", drop_driven=True, mesh="coarse").y_shape
        (896,)
        >>> from_options(protocol="pyeit16", drop_driven=True, mesh="polar").y_shape
        (208,)
    """
    check_flag(drop_driven, "drop_driven")
    preset = _preset(protocol)
    if preset is not None and tank == "unit":
        tank = _usual_tank(preset)
    body, grid = _body_and_mesh(tank, mesh)
    if contact_impedance is not None:
        body = replace(body, contact_impedance=contact_impedance)
    if protocol is None and not isinstance(reference, str | Path):
        protocol = "ktc" if tank == "ktc" else "adjacent"
    if preset is not None:
        plan: Protocol | Continuum | None = _preset_protocol(preset, body, drop_driven)
    else:
        plan = None if protocol is None else _protocol(protocol, body.electrodes, drop_driven)
    measured: Any = reference
    if isinstance(reference, str | Path):
        plan, measured = _from_file(reference, plan, drop_driven)
    elif reference is not None:
        measured = doubles(reference, "reference")
    assert plan is not None
    material = _make(conductivity, "map", _MAPS, what="conductivity map")
    if x_shape is None:
        dim = len(body.extent[0])
        x_shape = (channels_of(material), *[64 if dim == 2 else 32] * dim)
    return EIT(
        body,
        plan,
        x_shape,
        conductivity=material,
        mesh=grid,
        degree=degree,
        reference=measured,
        background=background,
        solver=solver,
        device=device,
    )


def _body_and_mesh(tank: Choice, mesh: Choice | None) -> tuple[Any, MeshLike]:
    if isinstance(tank, str) and tank == "mesh":
        grid = _mesh(mesh, None)
        if not isinstance(grid, Mesh):
            raise InputError(f"tank 'mesh' needs a mesh file, .msh or .xdmf; got mesh {mesh!r}")
        return MeshGeometry.of(grid), grid
    if isinstance(tank, Mapping):
        body = _make({"shape": "tank"} | dict(tank), "shape", _SHAPES)
    elif isinstance(tank, str) and tank in _TANKS:
        body = _TANKS[tank]()
    else:
        raise InputError(f"unknown tank {tank!r}; known: {', '.join(_TANKS)}, mesh")
    return body, _mesh(mesh, body)


def _mesh(mesh: Choice | None, body: Any) -> MeshLike:
    if mesh is None or (isinstance(mesh, str) and mesh in SHIPPED):
        return mesh
    if not isinstance(mesh, str | Path | Mapping):
        raise InputTypeError(f"mesh has to be a name, a file or a mapping, got {mesh!r}")
    if isinstance(mesh, Mapping) or mesh in _MESHERS:
        made: MeshLike = None if body is None else _make(mesh, "mesh", _MESHERS, (body,))
        return made
    suffix = Path(mesh).suffix.lower()
    if suffix in (".msh", ".xdmf"):
        return read_mesh(mesh)
    if suffix == ".npz":
        return Discretization.load(mesh)
    known = ", ".join((*SHIPPED, *_MESHERS))
    raise InputError(f"unknown mesh {mesh!r}; known: {known}, or a .msh, .xdmf or .npz file")


def _preset(protocol: Choice | None) -> Convention | None:
    """What a name of pyEIT or EIDORS means, or one with a number of electrodes; none of those known here."""
    if not isinstance(protocol, str) or protocol in _PROTOCOLS or _SKIP.fullmatch(protocol):
        return None
    if Path(protocol).suffix.lower() in ENDINGS:
        return None
    try:
        return convention(protocol)
    except InputError:
        raise InputError(
            f"unknown protocol {protocol!r}; known: {', '.join(_PROTOCOLS)}, skip-K, and names such as "
            f"{KNOWN}"
        ) from None


def _usual_tank(preset: Convention) -> Mapping[str, Any]:
    """The unit disk with the electrodes where the models of a preset have them."""
    count = preset.electrodes or Tank().electrodes
    place = {"first_angle": preset.first_angle, "clockwise": preset.clockwise}
    return {"electrodes": count, "width": 180 / count, **place}


def _preset_protocol(preset: Convention, body: Any, drop_driven: bool) -> Protocol:
    name = preset.name.replace("#", str(preset.electrodes or ""))
    if preset.rotated:
        raise InputError(
            f"protocol {name!r} has another order of voltages in each injection, which no operator has: "
            "name it without '-rotated', and let read_measurement(..., protocol=...) put files in order"
        )
    if preset.electrodes not in (None, body.electrodes):
        raise InputError(
            f"protocol {name!r} is of {preset.electrodes} electrodes, and the tank has {body.electrodes}"
        )
    driven = preset.driven is not False and not drop_driven
    return preset.made(body.electrodes, driven).protocol


def _protocol(given: Choice, electrodes: int, drop_driven: bool) -> Protocol | Continuum:
    found: Protocol | Continuum
    if not isinstance(given, str | Mapping):
        raise InputTypeError(f"protocol has to be a name, a file or a mapping, got {given!r}")
    if isinstance(given, str) and Path(given).suffix.lower() in ENDINGS:
        found = read_measurement(given).protocol
    else:
        if isinstance(given, str) and (skip := _SKIP.fullmatch(given)):
            given = {"protocol": "skip", "skip": int(skip[1])}
        name = given if isinstance(given, str) else given.get("protocol")
        count = () if name in ("ktc", "walsh") else (electrodes,)
        found = _make(given, "protocol", _PROTOCOLS, count)
    if not drop_driven:
        return found
    if isinstance(found, Continuum):
        raise InputError(f"the continuum model ({given}) has no electrodes to drop")
    return Protocol(found.injections, found.patterns, found.measured, drop_driven=True)


def _from_file(
    reference: str | Path, plan: Protocol | Continuum | None, drop_driven: bool
) -> tuple[Protocol, Any]:
    """The protocol of a reference's file, unless there is one already, and the voltages."""
    if isinstance(plan, Continuum):
        raise InputError("the continuum model takes a reference as voltages, not as a file")
    file = read_measurement(reference, protocol=plan)
    if plan is None and drop_driven:
        raise InputError(
            f"drop_driven does not apply to the protocol in {reference}; name a protocol"
        )
    if not bool(file.mask.all()):
        raise InputError(f"{reference} has missing voltages; a reference has to be complete")
    return file.protocol, file.voltages


def _make(
    given: Choice, key: str, known: Makers, first: tuple[Any, ...] = (), what: str | None = None
) -> Any:
    """What a name means, or a mapping with a name under ``key`` and arguments beside it.

    The ``first`` arguments are not the user's.
    """
    if not isinstance(given, str | Mapping):
        raise InputTypeError(f"{what or key} has to be a name or a mapping, got {given!r}")
    arguments = {key: given} if isinstance(given, str) else dict(given)
    name = arguments.pop(key, None)
    if not isinstance(name, str) or name not in known:
        raise InputError(f"unknown {what or key} {name!r}; known: {', '.join(known)}")
    make = known[name]
    parameters = list(inspect.signature(make).parameters.values())[len(first) :]
    names = [p.name for p in parameters]
    unknown = sorted(set(arguments) - set(names))
    if unknown:
        raise InputTypeError(
            f"{make.__name__} does not take {', '.join(unknown)}; it takes {', '.join(names)}"
        )
    missing = [p.name for p in parameters if p.default is p.empty and p.name not in arguments]
    if missing:
        raise InputTypeError(f"{make.__name__} needs {', '.join(missing)}")
    return make(*first, **arguments)
