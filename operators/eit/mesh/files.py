"""Meshes that others made: gmsh's .msh files, and XDMF."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np

from onmanifold.checks import check_count
from onmanifold.errors import InputError, InputTypeError
from onmanifold.operators.eit.mesh.generate import gmsh_session, import_gmsh, read_model
from onmanifold.operators.eit.mesh.mesh import Mesh, oriented
from onmanifold.operators.native import require_dolfinx

Names = Mapping[str | int, int]

_NAME = re.compile(r"(?:electrode|elec|el|e)[\s_.#-]*(\d+)", re.IGNORECASE)
_LIKE = re.compile(r"elec(trode)?(?![a-z])", re.IGNORECASE)  # but perhaps without a number
_DIMENSIONS = {"polyline": 1, "edge": 1, "triangle": 2, "tri": 2, "tetrahedron": 3, "tet": 3}


def read_mesh(path: str | Path, electrodes: Names | None = None) -> Mesh:
    """Read a mesh of triangles or tetrahedra, of first or second order, with its electrodes.

    - ``.msh`` (gmsh's versions 2.2 and 4.1, text or binary): electrodes are physical groups of curves, or of
      surfaces in three dimensions.
    - ``.xdmf``: the mesh is the grid of highest dimension; the first grid of facets that has values says
      which electrode a facet belongs to.

    Args:
        path: the file; lengths in m.
        electrodes: number, from 0, of each electrode's group, by its name or its tag (``.xdmf``: by the
            value); groups that it leaves out are no electrodes. Without it, groups named like
            ``electrode 1``, ``Electrode_01`` or ``e1`` are electrodes, or all positive values of an XDMF
            file; both count from 1.

    Raises:
        ImportError: gmsh, or for XDMF dolfinx, is missing.
        FileNotFoundError: there is no such file.
        ValueError: a file that cannot be read, without electrodes, with an unknown name in ``electrodes``, or
            with other cells than triangles or tetrahedra of one order; the file is named. Also what
            :class:`Mesh` refuses.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no mesh {path}")
    readers = {".msh": _read_msh, ".xdmf": _read_xdmf}
    if path.suffix.lower() not in readers:
        raise InputError(f"{path} is not a mesh of a known kind: .msh or .xdmf")
    module = import_gmsh() if path.suffix.lower() == ".msh" else require_dolfinx()
    try:
        return readers[path.suffix.lower()](module, path, electrodes)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def _read_msh(gmsh: ModuleType, path: Path, electrodes: Names | None) -> Mesh:
    with gmsh_session(gmsh):
        try:
            gmsh.open(str(path))
        except Exception as error:  # gmsh raises nothing more special
            raise InputError(f"gmsh cannot read it: {error}") from error
        dim = gmsh.model.getDimension()
        if dim < 2:
            raise InputError("it holds no triangles or tetrahedra")
        groups = {
            tag: gmsh.model.getPhysicalName(dim - 1, tag)
            for _, tag in gmsh.model.getPhysicalGroups(dim - 1)
        }
        entities: dict[int, list[tuple[int, int]]] = {}
        for tag, number in _numbers(
            groups, electrodes
        ).items():  # an electrode may have several groups
            own = gmsh.model.getEntitiesForPhysicalGroup(dim - 1, tag)
            entities.setdefault(number, []).extend((dim - 1, e) for e in own)
        return Mesh(*read_model(gmsh, entities))


def _numbers(groups: Mapping[int, str], electrodes: Names | None) -> dict[int, int]:
    """Electrode of each group that is one: its tag to the number from 0."""
    if electrodes is not None:
        return _chosen_groups(groups, electrodes)
    matches = {tag: _NAME.fullmatch(name.strip()) for tag, name in groups.items()}
    found = {tag: int(match[1]) for tag, match in matches.items() if match}
    if not found:
        raise InputError(
            "no group of facets is named like 'electrode 1'; say with electrodes= which ones are. It has "
            f"the groups {_listed(groups)}"
        )
    unclear = [tag for tag in groups if tag not in found and _LIKE.match(groups[tag].strip())]
    twice = [t for t, number in found.items() if list(found.values()).count(number) > 1]
    for problem, tags in (
        ("are named like electrodes, but have no number of their own", unclear),
        ("are one electrode by their names", twice),
        ("count from 0, where names count from 1", [t for t in found if found[t] == 0]),
    ):
        if tags:
            raise InputError(
                f"groups of facets {problem}: {_listed({t: groups[t] for t in tags})}; say with electrodes= "
                "which number, from 0, each group has"
            )
    return {tag: number - 1 for tag, number in found.items()}


def _chosen_groups(groups: Mapping[int, str], electrodes: Names) -> dict[int, int]:
    if not isinstance(electrodes, Mapping):
        raise InputTypeError(
            f"electrodes has to map groups to numbers, got {type(electrodes).__name__}"
        )
    tags: dict[str | int, int] = {tag: tag for tag in groups}
    tags |= {name: tag for tag, name in groups.items() if name}
    names = list(groups.values())
    unclear = [name for name in electrodes if names.count(str(name)) > 1]
    if unclear:
        raise InputError(
            f"several groups of facets are named {unclear[0]!r}; say their tags: {_listed(groups)}"
        )
    unknown = [name for name in electrodes if name not in tags]
    if unknown:
        raise InputError(f"no group of facets {unknown[0]!r}; it has the groups {_listed(groups)}")
    chosen: dict[int, int] = {}
    for name, number in electrodes.items():
        count = check_count(number, f"electrode number of group {name!r}", at_least=0)
        if chosen.setdefault(tags[name], count) != count:
            raise InputError(f"group {name!r} is given two electrode numbers")
    return chosen


def _listed(groups: Mapping[int, str]) -> str:
    return (
        ", ".join(f"{tag} {name!r}" if name else f"{tag}" for tag, name in groups.items())
        or "(none)"
    )


def _read_xdmf(dolfinx: Any, path: Path, electrodes: Names | None) -> Mesh:
    cell_grid, facet_grid, dim = _grids(path)
    alone, io = import_module("mpi4py.MPI").COMM_SELF, import_module("dolfinx.io")
    try:
        with io.XDMFFile(alone, str(path), "r") as file:
            domain = file.read_mesh(name=cell_grid)
            domain.topology.create_connectivity(dim - 1, dim)
            tags = file.read_meshtags(domain, name=facet_grid)
    except Exception as error:  # from C++, of several kinds
        raise InputError(f"dolfinx cannot read it: {error}") from error
    places, nodes = domain.geometry.x, domain.geometry.dofmaps[0]
    if dim == 2 and np.ptp(places[:, 2]) > 1e-9 * np.ptp(places[:, :2]):
        raise InputError("its triangles do not lie in a plane z = constant")
    values = {int(value): "" for value in np.unique(tags.values)}
    if electrodes is None:
        electrodes = {value: value - 1 for value in values if value > 0}
    numbers = _numbers(values, electrodes)
    if not numbers:
        raise InputError("no facet has a positive value, the number of its electrode")
    chosen = np.isin(tags.values, list(numbers))
    facets = dolfinx.mesh.entities_to_geometry(domain, dim - 1, tags.indices[chosen])
    return Mesh(
        places[:, :dim],
        oriented(places[:, :dim], nodes),
        facets,
        np.array([numbers[value] for value in tags.values[chosen].tolist()]),
    )


def _grids(path: Path) -> tuple[str, str, int]:
    """Name of the grid of cells, name of the grid of facets, and the cells' dimension."""
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise InputError(f"it is not XML: {error}") from error
    grids = []
    for grid in root.iter("Grid"):
        topology = grid.find("Topology")
        if topology is not None:
            kind = topology.get("TopologyType", topology.get("Type", "")).lower()
            dim = _DIMENSIONS.get(kind.split("_")[0], 0)
            grids.append((dim, grid.get("Name", ""), grid.find("Attribute") is not None))
    dim = max((dim for dim, _, _ in grids), default=0)
    if dim < 2:
        raise InputError("it holds no grid of triangles or tetrahedra")
    facets = [name for of, name, valued in grids if of == dim - 1 and valued]
    if not facets:
        raise InputError(
            "it holds no grid of facets with values that say which electrode they belong to"
        )
    return next(name for of, name, _ in grids if of == dim), facets[0], dim
