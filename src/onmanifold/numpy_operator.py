"""Operators made of functions of numpy arrays: a simulator, a file, another language behind numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onmanifold.checks import check_batch, check_callable, check_shape
from onmanifold.errors import InputError, InputTypeError
from onmanifold.external import external, linear_map
from onmanifold.operator import PointwiseLinearization

Array = NDArray[np.floating[Any]]
_STEP = float(np.finfo(np.float64).eps) ** (1 / 3)  # of central differences, relative


class NumpyOperator:
    """A function of numpy arrays as a forward operator; see :func:`from_numpy`.

    It computes on the CPU in float64. Results have the dtype and the device of the argument.

    Attributes:
        x_shape: shape of one unknown.
        y_shape: shape of one measurement.
        linear: whether it is linear.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        x_shape: tuple[int, ...],
        *,
        adjoint: Callable[..., Any] | None,
        jvp: Callable[..., Any] | None,
        vjp: Callable[..., Any] | None,
        linear: bool,
        batched: bool,
    ) -> None:
        self.function, self.adjoint, self.jvp, self.vjp = function, adjoint, jvp, vjp
        self.x_shape, self.linear, self.batched = x_shape, linear, batched
        self.y_shape: tuple[int, ...] = ()
        tried = self._call("A", function, torch.zeros(1, *x_shape, dtype=torch.float64))
        self.y_shape = tuple(tried.shape[1:])

    def A(self, x: Tensor) -> Tensor:
        """``(B, *x_shape)`` to ``(B, *y_shape)``."""
        check_batch(x, self.x_shape, "x")
        if self.linear:
            return linear_map(self._value, self._back, x)
        return external(x, self._value, self._linearize)

    def A_jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """The derivative: the function's own, that of a linear one, or central differences."""
        check_batch(v, self.x_shape, "v")
        if self.linear:
            return self.A(v)
        if self.jvp is not None:
            return self._checked("A_jvp", self.jvp, self.y_shape, x, v)
        axes = tuple(range(1, x.ndim))
        size = torch.linalg.vector_norm(v.double(), dim=axes, keepdim=True).clamp(min=1e-300)
        scale = torch.linalg.vector_norm(x.double(), dim=axes, keepdim=True)
        step = _STEP * torch.where(scale > 0, scale, 1.0) / size
        there, back = (self._value(x.double() + sign * step * v.double()) for sign in (1, -1))
        width: Tensor = 2 * step.reshape(-1, *[1] * len(self.y_shape))
        return ((there - back) / width).to(v)

    def A_vjp(self, x: Tensor, u: Tensor) -> Tensor:
        """The adjoint of the derivative, if there is one.

        Raises:
            TypeError: neither ``A_adjoint`` nor ``A_vjp`` was given.
        """
        check_batch(u, self.y_shape, "u")
        if self.linear:
            return linear_map(self._back, self._value, u)
        if self.vjp is None:
            raise InputTypeError(_no_adjoint(self.function))
        return self._checked("A_vjp", self.vjp, self.x_shape, x, u)

    def _value(self, x: Tensor) -> Tensor:
        return self._checked("A", self.function, self.y_shape, x)

    def _back(self, u: Tensor) -> Tensor:
        if self.adjoint is None:
            raise InputTypeError(_no_adjoint(self.function))
        return self._checked("A_adjoint", self.adjoint, self.x_shape, u)

    def _linearize(self, x: Tensor) -> PointwiseLinearization:
        return PointwiseLinearization(self, x, self._value(x))

    def _checked(
        self, name: str, function: Callable[..., Any], shape: tuple[int, ...], *args: Tensor
    ) -> Tensor:
        result = self._call(name, function, *args)
        if tuple(result.shape[1:]) != shape:
            raise InputError(
                f"{name} returned an array {tuple(result.shape[1:])} for one of {tuple(args[-1].shape[1:])}, "
                f"expected {shape}"
            )
        return result.to(args[-1])

    def _call(self, name: str, function: Callable[..., Any], *args: Tensor) -> Tensor:
        """What a function returns for each member, in float64."""
        arrays = [np.array(t.detach().cpu().double().numpy()) for t in args]
        if self.batched:
            return _tensor(name, function(*arrays), len(args[0]))
        rows = [_tensor(name, function(*row), None) for row in zip(*arrays, strict=True)]
        return torch.stack(rows)

    def __repr__(self) -> str:
        return f"NumpyOperator({_name(self.function)}, {self.x_shape} to {self.y_shape})"


def _tensor(name: str, value: Any, batch: int | None) -> Tensor:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputTypeError(f"{name} has to return one array of numbers: {error}") from error
    if array.dtype.kind == "c":
        raise InputTypeError(
            f"{name} returned complex numbers: stack real and imaginary part, np.stack([y.real, y.imag])"
        )
    if array.dtype.kind not in "fiub":
        raise InputTypeError(f"{name} has to return an array of numbers, got {array.dtype} entries")
    if batch is not None and (array.ndim == 0 or len(array) != batch):
        raise InputError(
            f"{name} returned an array {array.shape} for a batch of {batch}: with batched=True the first "
            "axis is the batch"
        )
    return torch.from_numpy(np.array(array, np.float64))


def _name(function: object) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _no_adjoint(function: object) -> str:
    return (
        f"{_name(function)} has no adjoint: pass A_adjoint, or A_vjp of a nonlinear function, to from_numpy, "
        "or descend with LevenbergMarquardt, which needs none"
    )


def from_numpy(
    A: Callable[..., Any],
    A_adjoint: Callable[..., Any] | None = None,
    *,
    x_shape: tuple[int, ...],
    A_jvp: Callable[..., Any] | None = None,
    A_vjp: Callable[..., Any] | None = None,
    linear: bool | None = None,
    batched: bool = False,
) -> NumpyOperator:
    """A forward operator of a function that computes with numpy.

    With an adjoint the function is taken for linear. A nonlinear one brings derivatives of its own, or gets
    them by central differences: two calls for each direction, d directions for a step of
    Levenberg-Marquardt, to about ten digits where the function is accurate to all of them. Only the adjoint
    has to be given: ``LevenbergMarquardt``, the default, needs none.

    Args:
        A: maps one array of ``x_shape``, float64, to one array.
        A_adjoint: the adjoint of a linear ``A``.
        x_shape: shape of one unknown, such as ``prior.x_shape``.
        A_jvp: ``(x, v)`` to the derivative at x along v.
        A_vjp: ``(x, u)`` to the adjoint of the derivative at x, applied to u.
        linear: whether ``A`` is linear; default: whether ``A_adjoint`` is given.
        batched: whether the functions take and return batches, ``(B, *x_shape)`` to ``(B, *y_shape)``.

    Raises:
        TypeError: something that cannot be called; a function that returns no real numbers.
        ValueError: an array of another shape than expected; an adjoint of a nonlinear function.

    Example:
        >>> import numpy as np
        >>> from onmanifold import from_numpy
        >>> sums = from_numpy(np.cumsum, lambda u: np.cumsum(u[::-1])[::-1], x_shape=(3,))
        >>> sums.A(torch.ones(1, 3)), sums.A_vjp(torch.zeros(1, 3), torch.ones(1, 3))
        (tensor([[1., 2., 3.]]), tensor([[3., 2., 1.]]))
        >>> decay = from_numpy(lambda x: np.exp(-x), x_shape=(2,))
        >>> decay.A_jvp(torch.zeros(1, 2), torch.tensor([[1.0, 2.0]]))
        tensor([[-1., -2.]])
    """
    for name, function in (("A_adjoint", A_adjoint), ("A_jvp", A_jvp), ("A_vjp", A_vjp)):
        check_callable(function, f"from_numpy: {name}", "a function of numpy arrays")
    if A is None or isinstance(A, type) or not callable(A):
        raise InputTypeError(f"from_numpy: A has to be a function of numpy arrays, got {A!r}")
    if linear is False and A_adjoint is not None:
        raise InputError("A_adjoint is that of a linear A: pass A_vjp(x, u) for a nonlinear one")
    return NumpyOperator(
        A,
        check_shape(x_shape, "x_shape"),
        adjoint=A_adjoint,
        jvp=A_jvp,
        vjp=A_vjp,
        linear=A_adjoint is not None if linear is None else linear,
        batched=batched,
    )
