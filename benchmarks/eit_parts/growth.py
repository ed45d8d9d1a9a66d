"""How time and memory grow with the mesh, in 2D on one process and in 3D over MPI."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from eit_parts.cylinder import peak_memory
from onmanifold.operators.eit import Protocol, Tank, assemble, ktc, polar_mesh
from onmanifold.operators.eit.fem.engine import Engine
from onmanifold.operators.eit.models.electrodes import CompleteElectrodes
from shared.tables import Table
from shared.timing import milliseconds

TIMES = ("ready", "potentials", "gradient")  # of a cylinder
# Boundary edges on each of 16 electrodes, and the longest edge in radii.
SIZES = ((4, 0.055), (8, 0.0275), (16, 0.0138), (32, 0.0069), (64, 0.0035))


def two_dimensions(edges: int, longest: float) -> list[float]:
    """Cells; seconds to assemble; ms of the potentials, of a gradient, of 16 directions; peak memory, GB."""
    tank = Tank(electrodes=16, width=11.25)
    start = time.perf_counter()
    engine = Engine(
        assemble(polar_mesh(tank, edges, 1 + 0.8 / edges, longest)),
        CompleteElectrodes(tank.impedances, Protocol.adjacent(16)),
    )
    assembled = time.perf_counter() - start
    generator = torch.Generator().manual_seed(0)
    s = torch.randn(1, engine.cells, generator=generator, dtype=torch.float64).mul(0.3).exp()
    fields = engine.fields(s)
    ds = torch.randn(16, engine.cells, generator=generator, dtype=torch.float64)
    u = torch.randn(1, 1, 16, 16, generator=generator, dtype=torch.float64)
    return [
        float(engine.cells),
        assembled,
        milliseconds(lambda: engine.fields(s.clone()), 3),
        milliseconds(lambda: engine.vjp(fields, u), 3),
        milliseconds(lambda: engine.jvp(fields[0], ds), 3),
        peak_memory(),
    ]


def injections() -> list[tuple[int, float]]:
    """Number of injections, and ms of voltages and gradient together, on one mesh."""
    tank = Tank.unit()
    d = assemble(polar_mesh(tank, 4, 1.15, 0.04))
    rows = []
    for protocol in (Protocol.opposite(32), Protocol.adjacent(32), ktc.protocol()):
        engine = Engine(d, CompleteElectrodes(tank.impedances, protocol))
        s = torch.ones(1, engine.cells, dtype=torch.float64)
        u = torch.ones(1, 1, *engine.y_shape, dtype=torch.float64)

        def work(engine: Engine = engine, s: torch.Tensor = s, u: torch.Tensor = u) -> None:
            fields = engine.fields(s.clone())
            engine.voltages(fields)
            engine.vjp(fields, u)

        rows.append((protocol.full_shape[0], milliseconds(work)))
    return rows


def three_dimensions(ranks: int) -> dict:
    """What :mod:`cylinder` prints on so many ranks, one thread each.

    Raises:
        FileNotFoundError: there is no ``mpirun``.
    """
    beside = str(Path(sys.executable).parent)
    launcher = shutil.which("mpirun", path=beside) or shutil.which("mpirun")
    if launcher is None:
        raise FileNotFoundError("there is no mpirun")
    script = Path(__file__).with_name("cylinder.py")
    done = subprocess.run(
        [launcher, "-n", str(ranks), sys.executable, str(script)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


def print_three_dimensions() -> None:
    """A cylinder on one and two ranks, and how far their voltages differ."""
    try:
        one, two = three_dimensions(1), three_dimensions(2)
    except FileNotFoundError as error:
        print(f"\nno comparison of ranks: {error}")
        return
    print("\ncylinder in 3D, 32 electrodes, 31 solves by conjugate gradients with multigrid")
    sizes = {"ranks": "d", "unknowns": "8d", "cells": "8d"}
    table = Table(sizes | {f"{name} s": ".1f" for name in TIMES} | {"peak GB of each rank": ""})
    for run in (one, two):
        memory = ", ".join(f"{gb:.1f}" for gb in run["memory"])
        table.row(*(run[name] for name in (*sizes, *TIMES)), memory)
    a, b = (np.array(run["voltages"]) for run in (one, two))
    print(f"largest difference of voltages {np.abs(a - b).max() / np.abs(a).max():.1e}, relative")


def main() -> None:
    """Print all of it."""
    print("growth in 2D, 16 electrodes: 15 solves serve 16 injections")
    works = ("potentials", "gradient", "16 directions")
    columns = {"cells": "7.0f", "assemble s": ".2f"} | {f"{work} ms": ".1f" for work in works}
    table, rows = Table(columns | {"peak GB": ".2f"}), []
    for size in SIZES:
        rows.append(two_dimensions(*size))
        table.row(*rows[-1])
        gc.collect()
    cells, times = np.array(rows)[:, 0], np.array(rows)[:, 2:5]
    measured = [*times.T, times.sum(axis=1)]
    fits = (np.polyfit(np.log(cells), np.log(ms), 1)[0] for ms in measured)
    named = zip((*works, "all three"), fits, strict=True)
    print("exponents: " + "  ".join(f"{name} {exponent:.2f}" for name, exponent in named))
    print("\nvoltages and gradient by number of injections, same mesh; ms")
    print("  " + "  ".join(f"{count}: {ms:.1f}" for count, ms in injections()))
    print_three_dimensions()
