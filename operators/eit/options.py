"""An :class:`EIT` from plain options, as the command line gives them."""

from __future__ import annotations

import inspect
import re
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
    Labels,
    Saturating,
    channels_of,
)
from onmanifold.operators.eit.fem.discretization import SHIPPED, Discretization
from onmanifold.operators.eit.fem.discretize import MeshLike
from onmanifold.operators.eit.geometry.base import Geometry, MeshGeometry
from onmanifold.operators.eit.geometry.cylinder import Cylinder
from onmanifold.operators.eit.geometry.outline import Outline
from onmanifold.operators.eit.geometry.tank import Tank
from onmanifold.operators.eit.measurements.files import ENDINGS, read_measurement
from onmanifold.operators.eit.mesh.files import read_mesh
from onmanifold.operators.eit.mesh.generate import generate_mesh
from onmanifold.operators.eit.mesh.mesh import Mesh
from onmanifold.operators.eit.mesh.polar import polar_mesh
from onmanifold.operators.eit.models.continuum import Continuum
from onmanifold.operators.eit.models.protocol import Protocol
from onmanifold.operators.eit.operator import EIT

Choice = str | Mapping[str, Any]

TANKS: dict[str, Callable[..., Any]] = {"unit": Tank.unit, "ktc": Tank.ktc}
SHAPES: dict[str, Callable[..., Any]] = {"tank": Tank, "outline": Outline, "cylinder": Cylinder}
MAPS: dict[str, Callable[..., ConductivityMap]] = {
    "affine": Affine,
    "exponential": Exponential,
    "saturating": Saturating,
    "labels": Labels,
}
PROTOCOLS: dict[str, Callable[..., Protocol]] = {
    "adjacent": Protocol.adjacent,
    "opposite": Protocol.opposite,
    "ktc": Protocol.ktc,
    "skip": Protocol.skip,
    "trigonometric": Protocol.trigonometric,
}
CONTINUA: dict[str, Callable[..., Continuum]] = {"walsh": Continuum.walsh, "haar": Continuum.haar}
MESHERS: dict[str, Callable[..., Mesh]] = {"gmsh": generate_mesh, "polar": polar_mesh}


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
            ``"shape"``: ``"outline"`` or ``"cylinder"``. ``"mesh"`` for what the mesh file holds.
        protocol: ``"adjacent"``, ``"opposite"``, ``"skip-K"`` with a number K, ``"trigonometric"``,
            ``"ktc"``, ``"walsh"`` or ``"haar"`` (continuum model), a mapping with such a name under
            ``"protocol"`` and its arguments beside it, or a measurement file that has one; by default that
            of the reference file, else the challenge's for its tank and adjacent for any other.
        drop_driven: leave out voltages at electrodes that carry the injection's current.
        conductivity: ``"affine"``, ``"exponential"``, ``"saturating"`` or ``"labels"``, or a mapping with
            that under ``"map"`` and the map's own arguments beside it.
        mesh: ``"coarse"``, ``"medium"`` or ``"fine"``; a file ``.msh`` or ``.xdmf``, or ``.npz`` with a saved
            discretization; ``"gmsh"`` or ``"polar"`` to make one of the tank, or a mapping with that under
            ``"mesh"`` and the arguments of :func:`generate_mesh` or :func:`polar_mesh` beside it. By default
            the shipped medium mesh where it fits the tank, else what gmsh makes.
        degree: 1 or 2, of the elements.
        contact_impedance: instead of the tank's own, Ohm m^2.
        reference: a measurement file (:func:`read_measurement`), or voltages ``(I, M)``: model the
            difference to it.
        background: conductivity in the reference measurement, S/m.
        solver: as for :class:`EIT`.
        device: as for :class:`EIT`.

    Raises:
        ValueError: an unknown name; the known ones are listed.
        TypeError: an argument that a tank, a protocol, a mesh or a map does not take.

    Example:
        >>> options = {"map": "affine", "offset": 0.2, "slope": 1.6}
        >>> eit = from_options((1, 32, 32), tank="unit", conductivity=options, mesh="coarse")
        >>> eit.y_shape
        (32, 32)
        >>> from_options(protocol="skip-4", drop_driven=True, mesh="coarse").y_shape
        (896,)
    """
    if not isinstance(drop_driven, bool):
        raise TypeError(f"drop_driven has to be true or false, got {drop_driven!r}")
    body, grid = _body(tank, mesh)
    if contact_impedance is not None:
        body = replace(body, contact_impedance=contact_impedance)
    plan, measured = _plan(protocol, drop_driven, reference, tank, body)
    material = _conductivity(conductivity)
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


def _body(tank: Choice, mesh: Choice | None) -> tuple[Any, MeshLike]:
    """The geometry and its mesh."""
    if tank == "mesh":
        grid = _mesh(mesh, None)
        if not isinstance(grid, Mesh):
            raise ValueError(f"tank 'mesh' needs a mesh file, .msh or .xdmf; got mesh {mesh!r}")
        return MeshGeometry.of(grid), grid
    if isinstance(tank, Mapping):
        make, options = _chosen(tank, "shape", SHAPES, "tank")
        body = make(**options)
    elif tank in TANKS:
        body = TANKS[tank]()
    else:
        raise ValueError(f"unknown tank {tank!r}; known: {', '.join(TANKS)}, mesh")
    return body, _mesh(mesh, body)


def _mesh(mesh: Choice | None, body: Geometry | None) -> MeshLike:
    if mesh is None:
        return None
    if isinstance(mesh, Mapping) or mesh in MESHERS:
        if body is None:
            raise ValueError(f"tank 'mesh' needs a mesh file, .msh or .xdmf; got mesh {mesh!r}")
        make, options = _chosen(mesh, "mesh", MESHERS, None, ("geometry", "tank"))
        made: Mesh = make(body, **options)
        return made
    suffix = Path(mesh).suffix.lower()
    if suffix in (".msh", ".xdmf"):
        return read_mesh(mesh)
    if suffix == ".npz":
        return Discretization.load(mesh)
    if mesh not in SHIPPED:
        known = ", ".join((*SHIPPED, *MESHERS))
        raise ValueError(f"unknown mesh {mesh!r}; known: {known}, or a .msh, .xdmf or .npz file")
    return mesh


def _plan(
    protocol: Choice | None,
    drop_driven: bool,
    reference: str | Path | Sequence[Sequence[float]] | None,
    tank: Choice,
    body: Geometry,
) -> tuple[Protocol | Continuum, Tensor | None]:
    """The protocol, and the reference's voltages."""
    in_file = protocol is None and isinstance(reference, str | Path)
    plan: Protocol | Continuum | None = None
    if not in_file:
        plan = _protocol(protocol or ("ktc" if tank == "ktc" else "adjacent"), body, drop_driven)
    if reference is None or not isinstance(reference, str | Path):
        assert plan is not None
        voltages = None if reference is None else torch.as_tensor(reference, dtype=torch.float64)
        return plan, voltages
    if isinstance(plan, Continuum):
        raise ValueError("the continuum model takes a reference as voltages, not as a file")
    file = read_measurement(reference, protocol=plan)
    if in_file and drop_driven:
        raise ValueError(
            f"drop_driven says nothing of the protocol in {reference}; name a protocol"
        )
    if not bool(file.mask.all()):
        raise ValueError(f"{reference} has missing voltages; a reference has to be complete")
    return file.protocol, file.voltages


def _protocol(given: Choice, body: Geometry, drop_driven: bool) -> Protocol | Continuum:
    if isinstance(given, str) and Path(given).suffix.lower() in ENDINGS:
        found = read_measurement(given).protocol
        return Protocol.from_matrices(
            found.injections, found.patterns, found.measured, drop_driven=drop_driven
        )
    if isinstance(given, str) and (named := re.fullmatch(r"skip-(\d+)", given)):
        given = {"protocol": "skip", "skip": int(named[1])}
    make, options = _chosen(given, "protocol", {**PROTOCOLS, **CONTINUA}, None, ("electrodes",))
    name = given if isinstance(given, str) else given["protocol"]
    if name in CONTINUA:
        if drop_driven:
            raise ValueError(f"the continuum model ({name}) has no electrodes to drop")
        patterns: Continuum = make(**options)
        return patterns
    if name == "ktc":
        found = Protocol.ktc(**options)
        return Protocol.from_matrices(found.injections, found.patterns, drop_driven=drop_driven)
    made: Protocol = make(body.electrodes, **{"drop_driven": drop_driven, **options})
    return made


def _conductivity(given: Choice) -> ConductivityMap:
    make, options = _chosen(given, "map", MAPS, None, what="conductivity map")
    made: ConductivityMap = make(**options)
    return made


def _chosen(
    given: Choice,
    key: str,
    known: Mapping[str, Callable[..., Any]],
    default: str | None,
    hidden: tuple[str, ...] = (),
    what: str | None = None,
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What a name, or a mapping with a name under ``key``, stands for, and its arguments."""
    options = {key: given} if isinstance(given, str) else dict(given)
    name = options.pop(key, default)
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"unknown {what or key} {name!r}; known: {', '.join(known)}")
    make = known[name]
    signature = inspect.signature(make).parameters
    names = [n for n in signature if n not in hidden]
    unknown = sorted(set(options) - set(names))
    if unknown:
        told = make.__name__
        raise TypeError(f"{told} does not take {', '.join(unknown)}; it takes {', '.join(names)}")
    needed = [n for n in names if signature[n].default is inspect.Parameter.empty]
    missing = [n for n in needed if n not in options]
    if missing:
        raise TypeError(f"{make.__name__} needs {', '.join(missing)}")
    return make, options
