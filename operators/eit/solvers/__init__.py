"""Linear solvers of the EIT engine: sparse Cholesky factorizations on the CPU or a GPU, and across ranks."""

from onmanifold.operators.eit.solvers.base import SOLVERS, Solver, make_solver

__all__ = ["SOLVERS", "Solver", "make_solver"]
