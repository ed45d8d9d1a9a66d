"""What a real tank's instrument would have measured of a scene.

The numbers rest on the four tanks of the Kuopio Tomography Challenge 2023 whose contents are known: what
``calibrate`` finds in their reference measurement, and the relative residual of their difference voltages
under the true images.
"""

from collections.abc import Sequence
from itertools import pairwise
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onmanifold.operators.eit import (
    CompleteElectrodes,
    Engine,
    Instrument,
    Mesh,
    Protocol,
    assemble,
    ktc,
    noise_std,
)
from onmanifold.operators.eit.mesh.generate import gmsh_session, import_gmsh, read_model
from tanks_parts.scenes import Scene
from tanks_parts.shapes import Shape, Source, inside

WIDTH, WIDTH_STD = 6.7, 0.25  # degrees that an electrode acts on, as described 5.625
PLACE_STD = 0.25  # degrees that an electrode is off its place
IMPEDANCE = (1e-6, 1e-4)
WATER, WATER_STD = 0.73, 0.03  # mS, and its relative standard deviation from tank to tank
DRIFT = (-0.03, 0.09)  # of the water between the two measurements
COMMON_STD = 0.007  # common-mode error of a channel
CURRENT_STD = 0.025  # error of a source electrode's current
INJECTION_STD = 0.004  # error of each injection's
OFFSET_STD = 0.006  # V
BAD_COMMON = 0.04  # common-mode error of the bad electrode's two channels, of opposite signs
BAD_JUMP = 0.12  # V that its contact may take
BAD_SHARE = 0.15  # of its injections where it does

# electrodes that are never the sink of many injections
SOURCES = [k for k in range(0, 32, 2) if k % 8]

# of the mesh, in radii: edge and its growth, at the rim and at outlines; longest edge
RIM, OUTLINE, INTERIOR = (0.002, 0.15), (0.01, 0.2), 0.05


class TrueTank(NamedTuple):
    """A tank and its instrument, which no reconstruction knows."""

    edges: NDArray[np.float64]  # angles where each electrode starts and ends, degrees, (32, 2)
    impedances: NDArray[np.float64]  # of the contacts, Ohm m, (32,)
    water: float  # conductivity at the reference measurement, mS
    drift: float  # relative change of it until the other measurement
    instrument: Instrument  # its errors
    bad: int  # electrode, from 0, whose contact fails at times while it carries current


def make_tank(number: int) -> TrueTank:
    """The tank of a scene, the same each time."""
    source = np.random.default_rng([2027, number])
    places = ktc.tank().angles + PLACE_STD * source.standard_normal(32)
    widths = WIDTH + WIDTH_STD * source.standard_normal(32).clip(-2, 2)
    protocol = ktc.protocol()
    bad = int(source.choice(SOURCES))
    common = COMMON_STD * source.standard_normal(31)
    common[[bad - 1, bad]] = BAD_COMMON, -BAD_COMMON
    driving = np.argmax(protocol.injections, axis=0)
    currents = CURRENT_STD * source.standard_normal(32)[driving]
    currents += INJECTION_STD * source.standard_normal(len(driving))
    offsets = OFFSET_STD * source.standard_normal(31)
    errors = (torch.from_numpy(error) for error in (offsets, common, currents))
    return TrueTank(
        edges=places[:, None] + widths[:, None] * np.array([-0.5, 0.5]),
        impedances=np.exp(source.uniform(*np.log(IMPEDANCE), 32)),
        water=WATER * (1 + WATER_STD * source.standard_normal()),
        drift=source.uniform(*DRIFT),
        instrument=Instrument(protocol, *errors),
        bad=bad,
    )


def simulate_scene(scene: Scene, tank: TrueTank, finer: float = 1.0) -> tuple[Tensor, Tensor]:
    """Voltages of the tank with water only and with the scene, V, ``(76, 31)`` each.

    Complete electrode model, quadratic elements, cells curved along the wall and cut at the outlines.
    """
    radius = ktc.tank().radius
    mesh = cut_mesh(tank.edges, [body.rings for body in scene.bodies], radius, finer)
    potentials = Protocol(ktc.protocol().injections, np.eye(32))
    engine = Engine(assemble(mesh, 2), CompleteElectrodes(tank.impedances, potentials))
    water = np.full(engine.cells, tank.water)
    filled = water * (1 + tank.drift)
    middles = mesh.points[mesh.cells[:, :3]].mean(axis=1) / radius
    for body in scene.bodies:
        filled[inside(body.rings, middles @ [1, 1j])] *= body.contrast
    source = np.random.default_rng([2028, scene.number])
    reference, measured = (
        _read(engine.voltages(engine.fields(torch.from_numpy(s)[None]))[0], tank, source)
        for s in (water, filled)
    )
    return reference, measured


def _read(potentials: Tensor, tank: TrueTank, source: Source) -> Tensor:
    """What the instrument reads of the electrodes' potentials ``(76, 32)``: ``(76, 31)``."""
    potentials = potentials.clone()
    carries = tank.instrument.protocol.injections[tank.bad] != 0
    fails = carries & (source.random(len(carries)) < BAD_SHARE)
    jumps = np.where(fails, BAD_JUMP * source.uniform(-1, 1, len(carries)), 0.0)
    potentials[:, tank.bad] += torch.from_numpy(jumps)
    read = tank.instrument.read(potentials)
    return read + noise_std(read) * torch.from_numpy(source.standard_normal(read.shape))


def cut_mesh(
    edges: NDArray[np.float64], shapes: Sequence[Shape], radius: float, finer: float = 1.0
) -> Mesh:
    """A mesh of second order, finer than any that a reconstruction uses.

    Args:
        edges: angles where each electrode starts and ends, degrees, counterclockwise, ``(L, 2)``.
        shapes: rings in radii, none of which meet; no cell crosses them.
        radius: of the tank, m.
        finer: divides the length of all edges.

    Example:
        >>> edges = np.arange(8)[:, None] * 45.0 + [-10, 10]
        >>> square = np.array([0, 0.4, 0.4 + 0.4j, 0.4j])
        >>> cut_mesh(edges, [(square,)], 1.0).electrodes
        8
    """
    gmsh = import_gmsh()
    order = np.argsort(edges[:, 0] % 360)
    rim = np.exp(1j * np.deg2rad(edges[order].ravel()))
    with gmsh_session(gmsh):
        occ, field = gmsh.model.occ, gmsh.model.mesh.field
        centre = occ.addPoint(0, 0, 0)
        corners, arcs = _ring(gmsh, rim, lambda a, b: occ.addCircleArc(a, centre, b))
        occ.remove([(0, centre)])
        surface = occ.addPlaneSurface([occ.addCurveLoop(arcs)])
        lines = [k for shape in shapes for ring in shape for k in _ring(gmsh, ring, occ.addLine)[1]]
        occ.synchronize()
        gmsh.model.mesh.embed(1, lines, 2, surface)
        near = [
            _near(gmsh, "PointsList", corners, *RIM, finer),
            _near(gmsh, "CurvesList", lines, *OUTLINE, finer),
        ]
        both = field.add("Min")
        field.setNumbers(both, "FieldsList", near)
        field.setAsBackgroundMesh(both)
        gmsh.model.mesh.generate(2)
        gmsh.model.mesh.setOrder(2)
        electrodes = {int(k): [(1, arcs[2 * i])] for i, k in enumerate(order)}
        points, cells, facets, electrode = read_model(gmsh, electrodes)
    return Mesh(radius * points, cells, facets, electrode)


def _ring(gmsh: ModuleType, ring: NDArray, connect: object) -> tuple[list[int], list[int]]:
    """Points, and the curves that connect each to the next."""
    points = [gmsh.model.occ.addPoint(z.real, z.imag, 0) for z in ring]
    return points, [connect(a, b) for a, b in pairwise([*points, points[0]])]


def _near(
    gmsh: ModuleType, what: str, tags: Sequence[int], edge: float, growth: float, finer: float
) -> int:
    """A field of edge lengths that grow with the distance to points or curves."""
    field = gmsh.model.mesh.field
    distance, threshold = field.add("Distance"), field.add("Threshold")
    field.setNumbers(distance, what, tags)
    field.setNumber(distance, "Sampling", 10)
    for name, value in (
        ("InField", distance),
        ("SizeMin", edge / finer),
        ("SizeMax", INTERIOR / finer),
        ("DistMin", 0.0),
        ("DistMax", (INTERIOR - edge) / growth),
    ):
        field.setNumber(threshold, name, value)
    return int(threshold)
