"""A cylinder with 32 electrodes in three dimensions, on the ranks of an MPI run.

    mpirun -n 2 python benchmarks/eit_parts/cylinder.py

Rank 0 prints JSON.
"""

from __future__ import annotations

import json
import resource
import time

import numpy as np
import torch

from onmanifold.operators.eit import EIT, Cylinder, Exponential, Protocol, polar_mesh
from onmanifold.operators.native import require_dolfinx

EDGES, LONGEST = 7, 0.0215  # edges on each electrode's width, and the longest one in radii


def peak_memory() -> float:
    """Most memory that this process has held so far, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    """Mesh, assemble, solve, differentiate."""
    require_dolfinx()
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    tank = Cylinder(1.0, 1.0, rings=(0.3, 0.7), per_ring=16, width=11.25, electrode_height=0.15)
    shape = (12, 24, 24)
    start = time.perf_counter()
    operator = EIT(
        tank,
        Protocol.adjacent(32, drop_driven=True),
        shape,
        conductivity=Exponential(),
        mesh=polar_mesh(tank, EDGES, 1.1, LONGEST) if comm.rank == 0 else None,
        solver="gamg",
        comm=comm,
    )
    times = {"ready": time.perf_counter() - start}
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    x = torch.from_numpy(np.sin(3 * axes[0]) * np.cos(2 * axes[1]) + 0.5 * axes[2])[None]
    start = time.perf_counter()
    lin = operator.linearize(x)
    times["potentials"] = time.perf_counter() - start
    start = time.perf_counter()
    gradient = lin.vjp(lin.y[:, None])
    times["gradient"] = time.perf_counter() - start
    memory = comm.allgather(peak_memory())
    cells = comm.allreduce(operator.engine.cells)
    if comm.rank == 0:
        unknowns = operator.engine.discretization.total + tank.electrodes
        sizes = {"ranks": comm.size, "cells": cells, "unknowns": unknowns, "memory": memory}
        results = {"voltages": lin.y[0].tolist(), "gradient_norm": float(gradient.norm())}
        print(json.dumps(sizes | times | results))


if __name__ == "__main__":
    main()
