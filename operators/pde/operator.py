"""The parameter of a partial differential equation, by what is observed of its state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from torch import Tensor

from onmanifold.checks import check_batch, check_shape
from onmanifold.errors import InputError, InputTypeError
from onmanifold.external import ByLinearization, external
from onmanifold.operator import OutsideDomain
from onmanifold.operators.native import exclusive, require_dolfinx
from onmanifold.operators.pde.equation import Equation, NoSolution, Solved, with_fixed_quadrature
from onmanifold.operators.pde.observations import image_values, point_values

Array = NDArray[np.float64]


class PDE(ByLinearization):
    """A partial differential equation: from a parameter field to observations of the state.

    The equation is a residual in UFL, the unified form language of FEniCS: find the state u with
    ``residual(u, m; v) = load(v)`` for all test functions v. Its derivatives are UFL's. At each parameter one
    sparse factorization serves the derivative in all directions and the adjoint; where the residual is
    linear in the state, it also gives the states of all loads. A nonlinear one is solved by PETSc's SNES
    (Newton with line search), which starts from the state's values when the operator is made.

    It computes on the CPU in float64; results have the dtype and the device of ``x``. It is an autograd
    function: ``loss(A(x)).backward()`` works.

    Args:
        residual: the form; transform the parameter in it, such as ``exp(m)`` for a positive one.
        state: u, dolfinx's ``Function``.
        parameter: m, dolfinx's ``Function`` of a scalar Lagrange or discontinuous space.
        observe: points, ``(P, dim)``, where a scalar state is measured; or functionals, a list of forms in
            UFL without test function, such as ``u * ds(1)``.
        bcs: Dirichlet conditions of the state.
        loads: right-hand sides of several experiments, forms in the test function.
        x_shape: ``None``: x holds the parameter's degrees of freedom. ``(H, W)`` or ``(1, H, W)``, in three
            dimensions ``(D, H, W)``: an image over the mesh's bounding box, row 0 on top; the parameter is
            interpolated between the centres of its pixels.

    Attributes:
        x_shape: shape of one unknown.
        y_shape: ``(P,)``, with loads ``(S, P)``.

    Raises:
        ImportError: dolfinx is missing; the message says how to install it.
        TypeError: a form or function of another kind.
        ValueError: the residual lacks something; points outside of the mesh; a shape that does not fit.

    Example:
        >>> from onmanifold.operators.native import require_dolfinx
        >>> _ = require_dolfinx()
        >>> import ufl
        >>> from dolfinx import fem, mesh
        >>> from mpi4py import MPI
        >>> space = fem.functionspace(mesh.create_unit_square(MPI.COMM_SELF, 4, 4), ("Lagrange", 1))
        >>> u, m, v = fem.Function(space), fem.Function(space), ufl.TestFunction(space)
        >>> residual = (ufl.inner(ufl.grad(u), ufl.grad(v)) + ufl.exp(m) * u * v - v) * ufl.dx
        >>> operator = PDE(residual, u, m, observe=[[0.5, 0.5], [0.1, 0.9]], x_shape=(8, 8))
        >>> operator.A(torch.zeros(1, 8, 8))  # u = exp(-m)
        tensor([[1., 1.]])
    """

    linear = False

    @exclusive
    def __init__(
        self,
        residual: Any,
        state: Any,
        parameter: Any,
        observe: ArrayLike | Sequence[Any],
        *,
        bcs: Sequence[Any] = (),
        loads: Sequence[Any] | None = None,
        x_shape: tuple[int, ...] | None = None,
    ) -> None:
        require_dolfinx()
        self.equation = Equation(residual, state, parameter, bcs, loads or ())
        self._observe = _observation(self.equation, observe)
        count = self.equation.count
        self.y_shape = (count, self._observe.size) if loads else (self._observe.size,)
        unknowns = len(parameter.x.array)
        self.x_shape = (unknowns,) if x_shape is None else check_shape(x_shape, "x_shape")
        self._pixels = None if x_shape is None else _pixels(parameter, self.x_shape)

    def A(self, x: Tensor) -> Tensor:
        """Observations: ``(B, *x_shape)`` to ``(B, *y_shape)``.

        Raises:
            OutsideDomain: the equation has no solution at some of the unknowns, or none is found.
        """
        check_batch(x, self.x_shape, "x")
        return external(x, self._value, self.linearize)

    @exclusive
    def linearize(self, x: Tensor) -> PDELinearization:
        """Observations and their derivative at ``x``, ``(B, *x_shape)``: one factorization a member."""
        check_batch(x, self.x_shape, "x")
        parts = []
        for values, solved in zip(self._fields(x), self._solve(x), strict=True):
            slopes = [
                (self.equation.by_parameter(values, u), *self._observe.derivatives(values, u))
                for u in solved.states
            ]
            seen = np.stack([self._observe.value(values, u) for u in solved.states])
            parts.append(_Member(self.equation, self._pixels, solved, slopes, seen))
        y = torch.from_numpy(np.stack([part.y for part in parts])).to(x)
        y = y.reshape(len(x), *self.y_shape)
        return PDELinearization(self.x_shape, y, tuple(parts))

    @exclusive
    def state_at(self, x: Tensor) -> Array:
        """The states at unknowns ``(B, *x_shape)``, by their degrees of freedom: ``(B, S, n)``."""
        check_batch(x, self.x_shape, "x")
        return np.stack([solved.states for solved in self._solve(x)])

    @exclusive
    def _value(self, x: Tensor) -> Tensor:
        y = [
            [self._observe.value(values, u) for u in solved.states]
            for values, solved in zip(self._fields(x), self._solve(x), strict=True)
        ]
        return torch.from_numpy(np.array(y)).to(x).reshape(len(x), *self.y_shape)

    def _fields(self, x: Tensor) -> Array:
        """The parameter's degrees of freedom, ``(B, m)``."""
        flat: Array = x.detach().cpu().double().flatten(1).numpy()
        return flat if self._pixels is None else (self._pixels @ flat.T).T

    def _solve(self, x: Tensor) -> list[Solved]:
        found: list[Solved] = []
        bad, reason = torch.zeros(len(x), dtype=torch.bool), ""
        for b, values in enumerate(self._fields(x)):
            try:
                found.append(self.equation.solve(values))
            except NoSolution as error:
                bad[b], reason = True, str(error)
        if bool(bad.any()):
            raise OutsideDomain(
                f"the equation cannot be solved for {int(bad.sum())} of {len(x)} unknowns: {reason}. Are "
                "boundary conditions missing, or is the parameter outside of the values where the residual "
                "makes sense?",
                bad.to(x.device),
            )
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        """Refuse copies and pickles.

        Raises:
            TypeError: always: nothing of dolfinx can be copied.
        """
        raise InputTypeError(
            "a PDE cannot be copied or pickled, as its mesh and forms belong to dolfinx: make it again"
        )

    def __repr__(self) -> str:
        kind = "linear" if self.equation.linear else "nonlinear"
        unknowns = len(self.equation.state.x.array)
        return f"PDE({kind} in its {unknowns} unknowns, x_shape={self.x_shape}, y_shape={self.y_shape})"


@dataclass(frozen=True)
class PDELinearization:
    """Value and derivative of a :class:`PDE` at B parameters.

    Attributes:
        x_shape: shape of one unknown.
        y: observations, ``(B, *y_shape)``.
    """

    x_shape: tuple[int, ...]
    y: Tensor
    members: tuple[_Member, ...]

    def jvp(self, v: Tensor) -> Tensor:
        """Map tangents ``(B, T, *x_shape)`` to ``(B, T, *y_shape)``."""
        each = zip(self.members, _numpy(v), strict=True)
        return _tensor([one.jvp(tangents) for one, tangents in each], v, self.y.shape[1:])

    def vjp(self, u: Tensor) -> Tensor:
        """Map cotangents ``(B, T, *y_shape)`` to ``(B, T, *x_shape)``."""
        each = zip(self.members, _numpy(u), strict=True)
        return _tensor([one.vjp(cotangents) for one, cotangents in each], u, self.x_shape)

    def select(self, rows: Tensor) -> PDELinearization:
        """The same at the parameters ``rows``, a mask or an index."""
        index = torch.arange(len(self.members))[rows.cpu()].tolist()
        return PDELinearization(self.x_shape, self.y[rows], tuple(self.members[k] for k in index))


@dataclass(frozen=True, eq=False)
class _Member:
    """The derivative at one parameter.

    With J the residual's derivative by the state, K that by the parameter, and G, H those of the observations
    by both: ``dy = (H - G J^-1 K) dm``.
    """

    equation: Equation
    pixels: csr_array | None
    solved: Solved
    slopes: list[tuple[csr_array, Any, Any]]  # K, G, H for each load
    y: Array

    def jvp(self, v: Array) -> Array:
        """``(T, pixels)`` to ``(T, S, P)``."""
        change = v.T if self.pixels is None else self.pixels @ v.T
        parts = []
        for load, (by_parameter, state, direct) in enumerate(self.slopes):
            moved = self.solved.factor(load).solve(np.ascontiguousarray(by_parameter @ change))
            parts.append((direct @ change if direct is not None else 0.0) - state @ moved)
        return np.stack(parts).transpose(2, 0, 1)

    def vjp(self, u: Array) -> Array:
        """``(T, S P)`` to ``(T, pixels)``."""
        weights = u.reshape(len(u), len(self.slopes), -1)
        total = np.zeros((self.slopes[0][0].shape[1], len(u)))
        for load, (by_parameter, state, direct) in enumerate(self.slopes):
            right = self.equation.without_fixed(np.array(state.T @ weights[:, load].T))
            total -= by_parameter.T @ self.solved.factor(load).solve(right, trans="T")
            if direct is not None:
                total += direct.T @ weights[:, load].T
        return (total if self.pixels is None else self.pixels.T @ total).T


# Observations -------------------------------------------------------------------------------------


class _Points:
    """The values of a scalar state at points."""

    def __init__(self, equation: Equation, points: ArrayLike) -> None:
        self._matrix = point_values(equation.state.function_space, points)
        self.size = self._matrix.shape[0]

    def value(self, values: Array, state: Array) -> Array:
        return cast(Array, self._matrix @ state)

    def derivatives(self, values: Array, state: Array) -> tuple[Any, Any]:
        """By the state, ``(P, n)``, and by the parameter, ``(P, m)`` or ``None``."""
        return self._matrix, None


class _Functionals:
    """Integrals of state and parameter."""

    def __init__(self, equation: Equation, forms: Sequence[Any]) -> None:
        self._equation, self._fem = equation, import_module("dolfinx.fem")
        self.size = len(forms)
        forms = [with_fixed_quadrature(one) for one in forms]
        self._values = [self._fem.form(one) for one in forms]
        self._slopes = [
            [self._slope(one, function) for one in forms]
            for function in (equation.state, equation.parameter)
        ]

    def _slope(self, form: Any, function: Any) -> Any:
        if function not in form.coefficients():
            return None
        return self._fem.form(self._equation.derivative(form, function))

    def value(self, values: Array, state: Array) -> Array:
        self._set(values, state)
        return np.array([self._fem.assemble_scalar(form) for form in self._values])

    def derivatives(self, values: Array, state: Array) -> tuple[Any, Any]:
        self._set(values, state)
        sizes = len(state), len(values)
        return tuple(  # type: ignore[return-value]
            np.stack(
                [
                    np.zeros(n) if form is None else self._fem.assemble_vector(form).array.copy()
                    for form in forms
                ]
            )
            for n, forms in zip(sizes, self._slopes, strict=True)
        )

    def _set(self, values: Array, state: Array) -> None:
        self._equation.parameter.x.array[:] = values
        self._equation.state.x.array[:] = state


def _observation(equation: Equation, observe: ArrayLike | Sequence[Any]) -> _Points | _Functionals:
    form = import_module("ufl").Form
    if isinstance(observe, form):
        raise InputError("observe takes a list of forms: [form]")
    if isinstance(observe, list | tuple) and observe and isinstance(observe[0], form):
        for k, one in enumerate(observe):
            if not isinstance(one, form) or one.arguments():
                raise InputError(
                    f"functional {k} has to be a form in UFL without test function, such as u * ds"
                )
        return _Functionals(equation, observe)
    return _Points(equation, cast(ArrayLike, observe))


def _pixels(parameter: Any, x_shape: tuple[int, ...]) -> csr_array:
    """The parameter's degrees of freedom by the pixels of an image."""
    space = parameter.function_space
    mesh, dim = space.mesh, space.mesh.geometry.dim
    plane = x_shape[-dim:]
    if len(x_shape) not in (dim, dim + 1) or (len(x_shape) > dim and x_shape[0] != 1):
        axes = "H, W" if dim == 2 else "D, H, W"
        raise InputError(
            f"x_shape has to be ({axes}) or (1, {axes}) on a mesh of {dim} dimensions, got {x_shape}"
        )
    if space.dofmap.bs != 1 or space.element.basix_element.value_size != 1:
        raise InputError("an image stands for a scalar parameter, this one has components")
    nodes = mesh.geometry.x[:, :dim]
    return image_values(
        space.tabulate_dof_coordinates()[:, :dim], (nodes.min(0), nodes.max(0)), plane
    )


def _numpy(v: Tensor) -> Array:
    """Directions as ``(B, T, n)``, float64."""
    flat: Array = v.detach().cpu().double().flatten(2).numpy()
    return flat


def _tensor(parts: list[Array], like: Tensor, shape: Sequence[int]) -> Tensor:
    return torch.from_numpy(np.stack(parts)).to(like).reshape(*like.shape[:2], *shape)
