"""A cylinder with 32 electrodes in three dimensions; each rank of an MPI run prints what it took.

mpirun -n 2 python -m benchmarks.eit_parts.cylinder SOLVER INTERIOR
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import torch

from benchmarks.eit_parts.timing import peak_memory
from onmanifold.operators.eit import EIT, Cylinder, Exponential, Protocol
from onmanifold.operators.eit.fem.assembly import require_dolfinx


def main() -> None:
    """Mesh, assemble, solve, differentiate; rank 0 prints a line of JSON."""
    solver, interior = sys.argv[1], float(sys.argv[2])
    require_dolfinx()
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    tank = Cylinder(1.0, 1.0, rings=(0.3, 0.7), per_ring=16, width=11.25, electrode_height=0.15)
    protocol = Protocol.adjacent(32, drop_driven=True)
    shape = (12, 24, 24)
    start = time.perf_counter()
    operator = EIT(
        tank, protocol, shape, conductivity=Exponential(), mesh=mesh(tank, comm, interior),
        solver=solver, comm=comm,
    )  # fmt: skip
    ready = time.perf_counter() - start
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    x = torch.from_numpy(np.sin(3 * axes[0]) * np.cos(2 * axes[1]) + 0.5 * axes[2])[None]
    start = time.perf_counter()
    lin = operator.linearize(x)
    solved = time.perf_counter() - start
    start = time.perf_counter()
    gradient = lin.vjp(lin.y[:, None])
    differentiated = time.perf_counter() - start
    memory = comm.allgather(peak_memory())
    unknowns = comm.allreduce(len(operator.engine.discretization.cells))
    if comm.rank == 0:
        print(
            json.dumps(
                {
                    "ranks": comm.size,
                    "cells": unknowns,
                    "ready": ready,
                    "solved": solved,
                    "differentiated": differentiated,
                    "memory": memory,
                    "voltages": lin.y[0].tolist(),
                    "gradient": float(gradient.norm()),
                    "unknowns": int(operator.engine.discretization.total),
                }
            )
        )


def mesh(tank: Cylinder, comm: object, interior: float) -> object:
    """The mesh on rank 0, nothing on the others."""
    from onmanifold.operators.eit import generate_mesh

    if comm.rank:
        return None
    return generate_mesh(tank, edge=min(0.018, interior), growth=0.15, interior=interior)


if __name__ == "__main__":
    main()
