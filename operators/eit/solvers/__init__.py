"""Linear solvers of the EIT engine: sparse Cholesky factorizations on the CPU or a GPU, and across ranks."""

from onmanifold.operators.eit.solvers.base import Factor, Solver
from onmanifold.operators.eit.solvers.choice import SOLVERS, make_solver

__all__ = ["SOLVERS", "Factor", "Solver", "make_solver"]
