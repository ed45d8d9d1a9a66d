"""What voltages and derivatives cost, against one factorization with its solves, and against pyEIT."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch

from onmanifold.operators.eit import (
    EIT,
    Continuum,
    Discretization,
    Exponential,
    Measurement,
    Protocol,
    Tank,
    assemble,
    calibrate_electrodes,
    calibrate_tank,
    calibrate_width,
    electrode_edges,
    fine_at_wall,
    ktc,
    polar_mesh,
    with_electrode_edges,
)
from onmanifold.operators.eit.fem.engine import Engine
from onmanifold.operators.eit.models.electrodes import CompleteElectrodes
from shared.tables import Table
from shared.timing import milliseconds, side_by_side


def shipped(mesh: str, directions: int = 48) -> list[float]:
    """Cells, then ms of: voltages, linearization, its jvp, its vjp, the whole Jacobian."""
    operator = EIT(ktc.tank(), ktc.protocol(), conductivity=Exponential(0.8), mesh=mesh)
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    x, v = 0.3 * random(1, *operator.x_shape), random(1, directions, *operator.x_shape)
    u = random(1, 1, *operator.y_shape)
    lin = operator.linearize(x)
    return [
        float(operator.cell_conductivity(x).shape[1]),
        milliseconds(lambda: operator.A(x)),
        milliseconds(lambda: operator.linearize(x)),
        milliseconds(lambda: lin.jvp(v)),
        milliseconds(lambda: lin.vjp(u)),
        milliseconds(lin.jacobian, 2),
    ]


def continuum() -> list[float]:
    """Misfit and gradient by the cells' conductivities, 15 Walsh patterns, about 19 000 cells.

    Returns:
        Cells, then ms of: one MUMPS factorization with the 15 solves of the potentials; with the 15
        adjoint solves too; misfit and gradient together.
    """
    d = assemble(polar_mesh(Tank.unit(), 4, 1.1, 0.0174))
    engine = Engine(d, Continuum.walsh(16))
    generator = torch.Generator().manual_seed(0)
    s = torch.randn(1, engine.cells, generator=generator, dtype=torch.float64).mul(0.3).exp()
    y = engine.voltages(engine.fields(torch.ones_like(s)))
    solver, sources = engine._solver, engine._sources
    entries = engine._entries(s, None)
    right = torch.randn(1, *sources.shape, generator=generator, dtype=torch.float64)

    def one_set_of_solves() -> None:
        solver.factorize(entries).solve(sources)

    def both_sets_of_solves() -> None:
        factor = solver.factorize(entries)
        factor.solve(sources)
        factor.solve(right)

    def misfit_and_gradient() -> tuple[float, torch.Tensor]:
        fields = engine.fields(s)
        residual = engine.voltages(fields) - y
        gradient = engine.vjp(fields, residual[:, None])
        return 0.5 * float(residual.square().sum()), gradient

    times = side_by_side(one_set_of_solves, both_sets_of_solves, misfit_and_gradient)
    return [float(engine.cells), *times]


def calibration() -> list[float]:
    """Seconds of ``calibrate_width``, of ``calibrate_electrodes`` and of ``calibrate_tank``, which does both.

    The reference is simulated on a finer mesh, with electrodes of other widths than described, elsewhere.
    """
    said, fit = ktc.tank(), ("conductivity", "common", "currents")
    true = replace(said, width=6.7)
    shift = np.random.default_rng(0).normal(scale=0.3, size=(true.electrodes, 2))
    mesh = with_electrode_edges(polar_mesh(true, 12, 1.3, 0.1), true, electrode_edges(true) + shift)
    operator = EIT(true, ktc.protocol(), (1, 4, 4), mesh=mesh)
    voltages = operator.A(torch.full((1, 1, 4, 4), 0.75, dtype=torch.float64))[0]
    water = Measurement.from_values(ktc.protocol(), voltages)
    return [
        milliseconds(work, 3) / 1000
        for work in (
            lambda: calibrate_width(said, water, make_mesh=fine_at_wall, fit=fit),
            lambda: calibrate_electrodes(said, water, fit=fit),
            lambda: calibrate_tank(said, water),
        )
    ]


def points_as_electrodes(d: Discretization, nodes: np.ndarray) -> Discretization:
    """The same mesh with single nodes as electrodes, as in pyEIT."""
    nodes = nodes.astype(np.int32)
    return replace(
        d,
        rows=nodes,
        columns=nodes,
        mass=np.ones(len(nodes)),
        electrode=np.arange(len(nodes), dtype=np.int32),
    )


def pyeit() -> list[float]:
    """The Jacobian of 208 voltages by each cell's conductivity, against pyEIT on the same mesh.

    Returns:
        Cells; seconds of pyEIT and of this; largest differences of voltages and Jacobians, relative.
        pyEIT gives the Jacobian with the opposite sign.

    Raises:
        ImportError: pyEIT is not installed.
    """
    from pyeit.eit.fem import EITForward
    from pyeit.eit.protocol import create
    from pyeit.mesh.wrapper import PyEITMesh

    tank = Tank(electrodes=16, width=11.25)
    mesh = polar_mesh(tank, 8, 1.1, 0.0234)
    nodes = np.array(
        [np.linalg.norm(mesh.points - centre, axis=1).argmin() for centre in tank.centres]
    )
    inner = int(np.linalg.norm(mesh.points, axis=1).argmin())
    s = np.exp(0.3 * np.random.default_rng(0).normal(size=len(mesh.cells)))
    theirs = EITForward(
        PyEITMesh(mesh.points, mesh.cells, el_pos=nodes, ref_node=inner), create(16, 1, 1, "std")
    )
    start = time.perf_counter()
    jacobian, voltages = theirs.compute_jac(s)
    slow = time.perf_counter() - start

    d = points_as_electrodes(assemble(mesh), nodes)
    engine = Engine(d, CompleteElectrodes(np.ones(16), Protocol.adjacent(16, drop_driven=True)))
    one = torch.from_numpy(s)[None]

    def ours() -> tuple[torch.Tensor, torch.Tensor]:
        fields = engine.fields(one.clone())
        return engine.voltages(fields)[0], engine.jacobian(fields[0])

    fast = milliseconds(ours) / 1000
    v, j = (t.numpy() for t in ours())
    order = _rows_of_pyeit(theirs.protocol)
    sign = np.sign(v[order] @ voltages)
    return [
        float(len(mesh.cells)),
        slow,
        fast,
        float(np.abs(sign * v[order] - voltages).max() / np.abs(voltages).max()),
        float(np.abs(-sign * j[order] - jacobian).max() / np.abs(jacobian).max()),
    ]


def _rows_of_pyeit(protocol: object) -> np.ndarray:
    """For each voltage of pyEIT the row of ours: injection and pair, in its own order."""
    ours = {tuple(row): k for k, row in enumerate(Protocol.adjacent(16, drop_driven=True).rows())}
    return np.array(
        [
            ours[(int(drive[0]), int(min(pair)) if abs(pair[0] - pair[1]) == 1 else 15)]
            for drive, pairs in zip(protocol.ex_mat, protocol.meas_mat, strict=True)
            for pair in pairs
        ]
    )


def main() -> None:
    """Print all of it."""
    print(f"76 injections, 31 voltages, 64 x 64 pixels; {torch.get_num_threads()} threads; ms")
    times = dict.fromkeys(["A", "linearize", "jvp (48)", "vjp (1)", "Jacobian"], ".0f")
    table = Table({"mesh": "<6", "cells": ".0f"} | times)
    for mesh in ("coarse", "medium", "fine"):
        table.row(mesh, *shipped(mesh))
    cells, one, both, all_of_it = continuum()
    print(f"\ncontinuum model, 15 Walsh patterns, {cells:.0f} cells")
    table = Table({"": "<44", "ms": ".1f", "misfit and gradient over it": ".2f"})
    table.row("factorization and 15 solves", one, all_of_it / one)
    table.row("factorization, 15 solves and 15 adjoint ones", both, all_of_it / both)
    table.row("misfit and gradient", all_of_it, 1.0)
    print("\ncalibration of a simulated Kuopio tank, s")
    table = Table(dict.fromkeys(["width", "electrodes", "both and the instrument"], ".2f"))
    table.row(*calibration())
    try:
        cells, slow, fast, voltages, jacobian = pyeit()
    except ImportError:
        print("\npyEIT is not installed: no comparison with it")
        return
    print(f"\nJacobian of 208 voltages, 16 electrodes, adjacent, {cells:.0f} cells")
    print(f"pyEIT {slow:.2f} s, this {1000 * fast:.1f} ms: {slow / fast:.0f} times faster")
    print(f"largest relative difference of voltages {voltages:.1e}, of the Jacobian {jacobian:.1e}")
