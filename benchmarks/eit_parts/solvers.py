"""The linear solvers side by side: potentials, misfit with gradient, and a reconstruction.

Those that come with the package, and CHOLMOD by scikit-sparse and by cholespy where they are installed. Times
are those of the processor, on one thread: other programs disturb them less than the wall clock's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
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
from onmanifold.operators.eit.solvers import Factor, Solver

Makers = dict[str, str | Callable[..., Solver]]


class Elsewhere(Solver):
    """A solver of another library: ``factorize_one`` gives what maps right-hand sides to solutions."""

    def __init__(self, indptr: np.ndarray, indices: np.ndarray, coordinates: np.ndarray) -> None:
        self.pattern = indices.astype(np.int32), indptr.astype(np.int32)
        self.size = len(indptr) - 1

    def factorize(self, entries: Tensor) -> Factor:
        return Parts([self.factorize_one(row) for row in entries.numpy()])

    def factorize_one(self, entries: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        raise NotImplementedError


class Parts:
    """The factorizations of a batch, one by one."""

    def __init__(self, parts: list[Callable[[np.ndarray], np.ndarray]]) -> None:
        self.parts = parts

    def solve(self, right: Tensor) -> Tensor:
        given = right.expand(len(self.parts), -1, -1).numpy()
        pairs = zip(self.parts, given, strict=True)
        return torch.from_numpy(np.stack([part(np.ascontiguousarray(r)) for part, r in pairs]))

    def select(self, rows: Tensor) -> Parts:
        return Parts([self.parts[k] for k in torch.arange(len(self.parts))[rows].tolist()])


class Cholmod(Elsewhere):
    """By scikit-sparse, with one symbolic analysis."""

    def __init__(self, *pattern: np.ndarray) -> None:
        from sksparse.cholmod import analyze

        super().__init__(*pattern)
        self.symbolic = analyze(self._matrix(np.ones(len(self.pattern[0]))))

    def factorize_one(self, entries: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        return self.symbolic.cholesky(self._matrix(entries))

    def _matrix(self, entries: np.ndarray) -> csc_array:
        return csc_array((entries, *self.pattern), shape=(self.size, self.size))


class Cholespy(Elsewhere):
    """By cholespy, which analyses each matrix anew."""

    def factorize_one(self, entries: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        from cholespy import CholeskySolverD, MatrixType

        indices, indptr = self.pattern
        made = CholeskySolverD(self.size, indptr, indices, entries.copy(), MatrixType.CSC)

        def substitute(right: np.ndarray) -> np.ndarray:
            x = np.zeros_like(right)
            made.solve(right, x)
            return x

        return substitute


def makers() -> Makers:
    """The solvers that can be had here, by name."""
    found: Makers = {"mumps": "mumps", "superlu": "superlu", "torch": "torch"}
    if find_spec("sksparse"):
        found["scikit-sparse"] = Cholmod
    if find_spec("cholespy"):
        found["cholespy"] = Cholespy
    return found


def milliseconds(work: Callable[[], object], repeats: int = 9) -> float:
    """The shortest processor time of ``work``, after one call to warm up, in ms."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def engine_times(solver: str | Callable[..., Solver], mesh: str) -> Iterator[float]:
    """Ms a member: potentials of one and of 16 conductivities, misfit and gradient of one."""
    d, tank = load_discretization(mesh, ktc.tank()), ktc.tank()
    engine = Engine(d, CompleteElectrodes(tank.impedances, ktc.protocol()), solver)
    generator = torch.Generator().manual_seed(0)
    s = torch.randn(16, engine.cells, generator=generator, dtype=torch.float64).mul(0.3).exp()

    def gradient() -> Tensor:
        fields = engine.fields(s[:1])
        return engine.vjp(fields, engine.voltages(fields)[:, None])

    yield milliseconds(lambda: engine.fields(s[:1]))
    yield milliseconds(lambda: engine.fields(s), 3) / len(s)
    yield milliseconds(gradient)


def reconstruction(problem: Balls, solver: str | Callable[..., Solver]) -> tuple[float, float]:
    """Processor seconds and relative error of two balls from the voltages, 32 samples and 4 descents.

    The shorter of two times.
    """
    operator = problem.operator
    model = CompleteElectrodes(operator.tank.impedances, operator.protocol)
    operator.engine = Engine(operator.engine.discretization, model, solver)
    prior, times = load_prior("two-balls"), []
    for _ in range(2):
        start = time.process_time()
        solution = solve(
            operator,
            problem.measurement,
            prior,
            fidelity=Gaussian(problem.std),
            starts=InitialPoints(32, 4),
            seed=0,
        )
        times.append(time.process_time() - start)
    return min(times), float((solution.x - problem.truth).norm() / problem.truth.norm())


def cylinder_times() -> tuple[int, dict[str, float]]:
    """Unknowns of a small cylinder, and ms of its potentials by MUMPS and by SuperLU."""
    tank = Cylinder(rings=(0.3, 0.7), per_ring=8, width=20, electrode_height=0.15)
    d = assemble(polar_mesh(tank, 2, 1.3, 0.14))
    model = CompleteElectrodes(tank.impedances, Protocol.adjacent(16))
    times = {}
    for name in ("mumps", "superlu"):
        engine = Engine(d, model, name)
        s = torch.ones(1, engine.cells, dtype=torch.float64)
        times[name] = milliseconds(partial(engine.fields, s), 3)
    return d.size, times


def main() -> None:
    """Print all of it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    problem = Balls.make(1, 0)
    print("one thread, processor time; meshes coarse and medium; ms a member, s a reconstruction")
    print("                 potentials        of 16 at once     misfit, gradient  two balls  error")
    for name, solver in makers().items():
        coarse, medium = (list(engine_times(solver, mesh)) for mesh in ("coarse", "medium"))
        seconds, error = reconstruction(problem, solver)
        pairs = "  ".join(f"{a:7.1f} {b:7.1f} " for a, b in zip(coarse, medium, strict=True))
        print(f"{name:15s} {pairs} {seconds:9.1f} {error:6.4f}", flush=True)
    size, times = cylinder_times()
    print(f"a cylinder with {size} unknowns, potentials in ms:", end=" ")
    print(", ".join(f"{name} {ms:.1f}" for name, ms in times.items()))
    torch.set_num_threads(threads)
