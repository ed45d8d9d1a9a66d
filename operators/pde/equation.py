"""A residual in UFL and its derivatives, assembled at a parameter; solved for the state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array
from scipy.sparse.linalg import SuperLU, splu

from onmanifold.errors import InputError, InputTypeError

Array = NDArray[np.float64]
_SNES = {
    "snes_linesearch_type": "bt",
    "snes_rtol": 1e-12,
    "snes_atol": 1e-12,
    "snes_max_it": 50,
    "ksp_type": "preonly",
    "pc_type": "lu",
    "pc_factor_mat_solver_type": "mumps",
}


class NoSolution(Exception):
    """Newton's method does not converge, or a matrix is singular."""


@dataclass(frozen=True, eq=False)
class Solved:
    """The states at one parameter, and what their derivatives follow from.

    Attributes:
        states: one for each load, ``(S, n)``.
        factors: of the residual's derivative by the state: one, or one for each load.
    """

    states: Array
    factors: tuple[SuperLU, ...]

    def factor(self, load: int) -> SuperLU:
        return self.factors[load if len(self.factors) > 1 else 0]


class Equation:
    """``residual(state, parameter; test) = load(test)`` for every test function, for each load.

    Args:
        residual: a form in UFL, linear in its test function.
        state: the unknown of the equation, dolfinx's ``Function``; Newton's method starts at its values.
        parameter: what is reconstructed, dolfinx's ``Function``.
        bcs: Dirichlet conditions of the state.
        loads: right-hand sides, forms that are linear in the test function; one of zero by default.

    Raises:
        TypeError: something of another kind.
        ValueError: the residual lacks state, parameter or test function, or the mesh is distributed.
    """

    def __init__(
        self, residual: Any, state: Any, parameter: Any, bcs: Sequence[Any], loads: Sequence[Any]
    ) -> None:
        self._fem, self._ufl = import_module("dolfinx.fem"), import_module("ufl")
        self._check(residual, state, parameter, loads)
        residual = with_fixed_quadrature(residual)
        self.state, self.parameter, self.bcs = state, parameter, list(bcs)
        by_state, by_parameter = (self.derivative(residual, f) for f in (state, parameter))
        self.linear = state not in by_state.coefficients()
        self._by_state, self._by_parameter = self._form(by_state), self._form(by_parameter)
        residuals = [residual - load for load in loads] or [residual]
        self._residuals = [self._form(one) for one in residuals]
        self._start = self._with_bcs(state.x.array.copy())
        self._fixed = self._fixed_dofs()
        self._newton = None if self.linear else [self._snes(one) for one in residuals]

    @property
    def count(self) -> int:
        """Number of loads."""
        return len(self._residuals)

    def derivative(self, form: Any, function: Any) -> Any:
        """The derivative of a form by a function, with its own derivatives carried out."""
        algorithms = import_module("ufl.algorithms")
        return algorithms.expand_derivatives(self._ufl.derivative(form, function))

    def solve(self, values: Array) -> Solved:
        """The states at the parameter ``values``, and the factorization there.

        Raises:
            NoSolution: there is none, or it is not found.
        """
        self.parameter.x.array[:] = values
        if not self.linear:
            states = np.stack([self._by_newton(load) for load in range(self.count)])
            return Solved(states, tuple(self._factorize(u) for u in states))
        factor = self._factorize(self._start)
        right = np.stack([self._assemble(form, self._start) for form in self._residuals], axis=1)
        right[self._fixed] = 0.0
        states = self._start - factor.solve(right).T
        if not np.isfinite(states).all():
            raise NoSolution("the state is not finite")
        return Solved(states, (factor,))

    def by_parameter(self, values: Array, state: Array) -> csr_array:
        """The residual's derivative by the parameter, ``(n, m)``; zero in the rows of fixed unknowns."""
        self.parameter.x.array[:], self.state.x.array[:] = values, state
        matrix = csr_array(self._fem.assemble_matrix(self._by_parameter).to_scipy())
        keep = np.ones(matrix.shape[0])
        keep[self._fixed] = 0.0
        matrix.data *= np.repeat(keep, np.diff(matrix.indptr))
        return matrix

    def without_fixed(self, right: Array) -> Array:
        """Right-hand sides of the adjoint, ``(n, T)``, zero where the state is prescribed."""
        right[self._fixed] = 0.0
        return right

    def _form(self, form: Any) -> Any:
        return self._fem.form(form)

    def _assemble(self, form: Any, state: Array) -> Array:
        self.state.x.array[:] = state
        vector: Array = self._fem.assemble_vector(form).array.copy()
        return vector

    def _factorize(self, state: Array) -> SuperLU:
        self.state.x.array[:] = state
        matrix = csc_array(self._fem.assemble_matrix(self._by_state, bcs=self.bcs).to_scipy())
        if not np.isfinite(matrix.data).all():
            raise NoSolution("the matrix holds NaN or infinite entries")
        try:
            return splu(matrix)
        except RuntimeError as error:
            raise NoSolution(f"the matrix is singular ({error})") from error

    def _snes(self, residual: Any) -> Any:
        petsc = import_module("dolfinx.fem.petsc")
        return petsc.NonlinearProblem(
            residual,
            self.state,
            bcs=self.bcs,
            petsc_options_prefix=f"onmanifold{id(residual)}_",
            petsc_options=_SNES,
        )

    def _by_newton(self, load: int) -> Array:
        assert self._newton is not None
        self.state.x.array[:] = self._start
        self._newton[load].solve()
        reason = self._newton[load].solver.getConvergedReason()
        found: Array = self.state.x.array.copy()
        if reason <= 0 or not np.isfinite(found).all():
            raise NoSolution(f"Newton's method does not converge (PETSc's reason {reason})")
        return found

    def _with_bcs(self, values: Array) -> Array:
        for bc in self.bcs:
            bc.set(values)
        return values

    def _fixed_dofs(self) -> NDArray[np.int32]:
        each = [bc.dof_indices()[0] for bc in self.bcs]
        return np.unique(np.concatenate(each)) if each else np.zeros(0, np.int32)

    def _check(self, residual: Any, state: Any, parameter: Any, loads: Sequence[Any]) -> None:
        for name, function in (("state", state), ("parameter", parameter)):
            if not isinstance(function, self._fem.Function):
                raise InputTypeError(
                    f"{name} has to be a dolfinx.fem.Function, got {type(function).__name__}"
                )
        if not isinstance(residual, self._ufl.Form) or len(residual.arguments()) != 1:
            raise InputTypeError(
                "residual has to be a form in UFL with one test function and no trial function, such as "
                "inner(exp(m) * grad(u), grad(v)) * dx - f * v * dx"
            )
        if residual.arguments()[0].ufl_function_space() != state.function_space:
            raise InputError("the residual's test function has to be of the state's function space")
        for name, function in (("state", state), ("parameter", parameter)):
            if function not in residual.coefficients():
                raise InputError(f"the residual does not depend on the {name}")
        for k, load in enumerate(loads):
            if not isinstance(load, self._ufl.Form) or load.arguments() != residual.arguments():
                raise InputTypeError(
                    f"load {k} has to be a form in UFL with the residual's test function"
                )
            if {state, parameter} & set(load.coefficients()):
                raise InputError(
                    f"load {k} depends on state or parameter: that belongs to the residual"
                )
        if state.function_space.mesh.comm.size > 1:
            raise InputError("the mesh is distributed: make it on one rank, with MPI.COMM_SELF")


def with_fixed_quadrature(form: Any) -> Any:
    """A form whose integrals name their quadrature, which all of its derivatives then share.

    UFL estimates the degree of each form anew. A derivative has another one than its form, and would be
    that of another discrete function.
    """
    ufl, algorithms = import_module("ufl"), import_module("ufl.algorithms")
    estimate = import_module("ufl.algorithms.estimate_degrees").estimate_total_polynomial_degree
    integrals = []
    for one in algorithms.expand_derivatives(form).integrals():
        known = dict(one.metadata())
        known.setdefault("quadrature_degree", estimate(one.integrand()))
        integrals.append(one.reconstruct(metadata=known))
    return ufl.Form(integrals)
