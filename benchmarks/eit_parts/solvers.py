"""The linear solvers side by side: potentials, misfit with gradient, and a reconstruction.

Those that come with the package, and CHOLMOD by scikit-sparse and by cholespy where they are installed. Times
are those of the processor, on one thread: other programs disturb them less than the wall clock's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
from scipy.sparse import csc_array
from torch import Tensor

from balls import Balls
from onmanifold import Gaussian, InitialPoints, load_prior, solve
from onmanifold.operators.eit import (
    CompleteElectrodes,
    Cylinder,
    Engine,
    Protocol,
    assemble,
    ktc,
    load_discretization,
    polar_mesh,
)
from onmanifold.operators.eit.solvers import Solver
from shared.tables import Table
from shared.timing import milliseconds

Solve = Callable[[np.ndarray], np.ndarray]
MakeSolver = str | Callable[..., Solver]
of_processor = partial(milliseconds, clock=time.process_time)


class Elsewhere(Solver):
    """A solver of another library, for any pattern.

    ``prepare`` takes the pattern of a matrix, and gives what makes its entries a map from right-hand sides
    to solutions.
    """

    def __init__(
        self,
        prepare: Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], Solve]],
        indptr: np.ndarray,
        indices: np.ndarray,
        coordinates: np.ndarray,
    ) -> None:
        self.factorize_one = prepare(indices.astype(np.int32), indptr.astype(np.int32))

    def factorize(self, entries: Tensor) -> Parts:
        return Parts([self.factorize_one(row) for row in entries.numpy()])


class Parts:
    """The factorizations of a batch, one by one."""

    def __init__(self, parts: list[Solve]) -> None:
        self.parts = parts

    def solve(self, right: Tensor) -> Tensor:
        given = right.expand(len(self.parts), -1, -1).numpy()
        pairs = zip(self.parts, given, strict=True)
        return torch.from_numpy(np.stack([part(np.ascontiguousarray(r)) for part, r in pairs]))

    def select(self, rows: Tensor) -> Parts:
        return Parts([self.parts[k] for k in torch.arange(len(self.parts))[rows].tolist()])


def scikit_sparse(*pattern: np.ndarray) -> Callable[[np.ndarray], Solve]:
    """One symbolic analysis for all matrices."""
    from sksparse.cholmod import analyze

    symbolic = analyze(csc_array((np.ones(len(pattern[0])), *pattern)))
    return lambda entries: symbolic.cholesky(csc_array((entries, *pattern)))


def cholespy(indices: np.ndarray, indptr: np.ndarray) -> Callable[[np.ndarray], Solve]:
    """Each matrix is analysed anew."""
    from cholespy import CholeskySolverD, MatrixType

    def factorize(entries: np.ndarray) -> Solve:
        size = len(indptr) - 1
        made = CholeskySolverD(size, indptr, indices, entries.copy(), MatrixType.CSC)

        def substitute(right: np.ndarray) -> np.ndarray:
            x = np.zeros_like(right)
            made.solve(right, x)
            return x

        return substitute

    return factorize


SOLVERS: dict[str, MakeSolver] = {"mumps": "mumps", "superlu": "superlu", "torch": "torch"}
if find_spec("sksparse"):
    SOLVERS["scikit-sparse"] = partial(Elsewhere, scikit_sparse)
if find_spec("cholespy"):
    SOLVERS["cholespy"] = partial(Elsewhere, cholespy)


def engine_times(solver: MakeSolver, mesh: str) -> list[float]:
    """Ms a member: potentials of one and of 16 conductivities, misfit and gradient of one."""
    d, tank = load_discretization(mesh, ktc.tank()), ktc.tank()
    engine = Engine(d, CompleteElectrodes(tank.impedances, ktc.protocol()), solver)
    generator = torch.Generator().manual_seed(0)
    s = torch.randn(16, engine.cells, generator=generator, dtype=torch.float64).mul(0.3).exp()

    def gradient() -> Tensor:
        fields = engine.fields(s[:1])
        return engine.vjp(fields, engine.voltages(fields)[:, None])

    return [
        of_processor(lambda: engine.fields(s[:1])),
        of_processor(lambda: engine.fields(s), 3) / len(s),
        of_processor(gradient),
    ]


def reconstruction(problem: Balls, solver: MakeSolver) -> float:
    """Processor seconds of two balls from the voltages, 32 samples and 4 descents."""
    operator = problem.operator
    model = CompleteElectrodes(operator.tank.impedances, operator.protocol)
    operator.engine = Engine(operator.engine.discretization, model, solver)
    prior, fidelity = load_prior("two-balls"), Gaussian(problem.std)
    options = {"fidelity": fidelity, "starts": InitialPoints(32, 4), "seed": 0}
    return of_processor(lambda: solve(operator, problem.measurement, prior, **options), 1) / 1000


def print_cylinder() -> None:
    """Print times of the potentials in a small cylinder, by MUMPS and by SuperLU."""
    tank = Cylinder(rings=(0.3, 0.7), per_ring=8, width=20, electrode_height=0.15)
    d = assemble(polar_mesh(tank, 2, 1.3, 0.14))
    model = CompleteElectrodes(tank.impedances, Protocol.adjacent(16))
    print(f"\na cylinder with {d.size} unknowns")
    table = Table({"solver": "<", "potentials, ms": ".1f"})
    for name in ("mumps", "superlu"):
        engine = Engine(d, model, name)
        s = torch.ones(1, engine.cells, dtype=torch.float64)
        table.row(name, of_processor(partial(engine.fields, s), 3))


def main() -> None:
    """Print all of it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    problem = Balls.make(1, 0)
    print("one thread, processor time; meshes coarse and medium; ms a member")
    titles = dict.fromkeys(["potentials", "of 16 at once", "misfit, gradient"], "14")
    table = Table({"solver": "<14"} | titles | {"two balls, s": ".1f"})
    for name, solver in SOLVERS.items():
        pairs = zip(*(engine_times(solver, mesh) for mesh in ("coarse", "medium")), strict=True)
        cells = (f"{coarse:.1f}, {medium:.1f}" for coarse, medium in pairs)
        table.row(name, *cells, reconstruction(problem, solver))
    print_cylinder()
    torch.set_num_threads(threads)
