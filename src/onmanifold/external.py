"""Operators that compute outside of torch, as autograd functions.

What a finite element solver or numpy computes has no graph. These functions tell torch its derivatives, so
that ``loss(A(x)).backward()`` and ``torch.func`` work: :func:`linear_map` for a linear map and its adjoint,
:class:`External` for an operator with a linearization.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from onmanifold.operator import Linearization

Map = Callable[[Tensor], Tensor]


def linear_map(forward: Map, adjoint: Map, x: Tensor) -> Tensor:
    """``forward(x)`` of a linear map of batches, differentiable by its adjoint as often as one likes.

    Args:
        forward: maps ``(B, *x_shape)`` to ``(B, *y_shape)``; it may compute outside of torch.
        adjoint: maps ``(B, *y_shape)`` to ``(B, *x_shape)``.
        x: ``(B, *x_shape)``.

    Example:
        >>> double = lambda t: torch.from_numpy(2 * t.numpy())
        >>> x = torch.ones(1, 2, requires_grad=True)
        >>> linear_map(double, double, x).sum().backward()
        >>> x.grad
        tensor([[2., 2.]])
    """
    return cast(Tensor, _LinearMap.apply(x, forward, adjoint))


class _LinearMap(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, forward: Map, adjoint: Map) -> Tensor:
        return forward(x.detach())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.maps_forward, ctx.maps_back = inputs

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor, None, None]:
        return _LinearMap.apply(u, ctx.maps_back, ctx.maps_forward), None, None

    @staticmethod
    def jvp(ctx: Any, v: Tensor, *_: None) -> Tensor:
        return cast(Tensor, _LinearMap.apply(v, ctx.maps_forward, ctx.maps_back))

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, forward: Map, adjoint: Map
    ) -> tuple[Tensor, int]:
        y = _LinearMap.apply(_first(x, in_dims[0]).flatten(0, 1), forward, adjoint)
        return y.unflatten(0, (info.batch_size, -1)), 0


@dataclass
class _Deferred:
    """The linearization of one call, made when it is first needed.

    Attributes:
        value: computes the values.
        linearize: computes values and derivative.
        keep: whether to linearize at once, because a derivative will be asked for; if one is
            asked for without (as ``torch.func`` does), the values are computed again.
        made: the points and their linearization, once it is made.
    """

    value: Callable[[Tensor], Tensor]
    linearize: Callable[[Tensor], Linearization]
    keep: bool
    made: tuple[Tensor, Linearization] | None = None

    def y(self, x: Tensor) -> Tensor:
        if not self.keep:
            return self.value(x)
        return self.at(x).y.clone()

    def at(self, x: Tensor) -> Linearization:
        if self.made is None or not _same(self.made[0], x):  # vmap calls with others
            self.made = x, self.linearize(x)
        return self.made[1]


_NO_SECOND = (
    "this operator has no second derivatives; the Gauss-Newton matrix is made of linearize(x).jvp "
    "and .vjp"
)


def external(x: Tensor, value: Map, linearize: Callable[[Tensor], Linearization]) -> Tensor:
    """``value(x)``, differentiable by a linearization that is made when it is first needed.

    Args:
        x: ``(B, *x_shape)``.
        value: maps that to ``(B, *y_shape)``, outside of torch.
        linearize: the same, with its derivative.
    """
    keep = torch.is_grad_enabled() and x.requires_grad
    return cast(Tensor, _External.apply(x, _Deferred(value, linearize, keep)))


class ByLinearization:
    """Mixin for an operator that has ``linearize(x)``: its derivatives one direction at a time."""

    def linearize(self, x: Tensor) -> Linearization:
        raise NotImplementedError(f"{type(self).__name__} has to define linearize(x)")

    def A_jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """The derivative at ``x`` applied to tangents ``v``, both ``(B, *x_shape)``."""
        return self.linearize(x).jvp(v[:, None])[:, 0]

    def A_vjp(self, x: Tensor, u: Tensor) -> Tensor:
        """The adjoint of the derivative at ``x`` applied to ``u``, ``(B, *y_shape)``."""
        return self.linearize(x).vjp(u[:, None])[:, 0]


class _External(torch.autograd.Function):
    """x -> A(x)."""

    @staticmethod
    def forward(x: Tensor, deferred: _Deferred) -> Tensor:
        return deferred.y(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.deferred = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor, None]:
        return _derivative(ctx.saved_tensors[0], u, ctx.deferred, True), None

    @staticmethod
    def jvp(ctx: Any, v: Tensor, _: None) -> Tensor:
        return _derivative(ctx.saved_tensors[0], v, ctx.deferred, False)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, deferred: _Deferred
    ) -> tuple[Tensor, int]:
        """More images, in one batch."""
        y = _External.apply(_first(x, in_dims[0]).flatten(0, 1), deferred)
        return y.unflatten(0, (info.batch_size, -1)), 0


class _Derivative(torch.autograd.Function):
    """v -> A'(x) v of T directions for each x, or its adjoint; its own derivative by x is not implemented."""

    @staticmethod
    def forward(x: Tensor, v: Tensor, deferred: _Deferred, adjoint: bool) -> Tensor:
        lin = deferred.at(x)
        return (lin.vjp if adjoint else lin.jvp)(v)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, ctx.deferred, ctx.adjoint = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[None, Tensor, None, None]:
        if ctx.needs_input_grad[0]:
            raise NotImplementedError(_NO_SECOND)
        back = _Derivative.apply(ctx.saved_tensors[0], u, ctx.deferred, not ctx.adjoint)
        return None, back, None, None

    @staticmethod
    def jvp(ctx: Any, x_tangent: Tensor | None, v: Tensor | None, *_: None) -> Tensor:
        if x_tangent is not None:
            raise NotImplementedError(_NO_SECOND)
        return cast(Tensor, _Derivative.apply(ctx.saved_tensors[0], v, ctx.deferred, ctx.adjoint))

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        x: Tensor,
        v: Tensor,
        deferred: _Deferred,
        adjoint: bool,
    ) -> tuple[Tensor, int]:
        """More directions at the same images; at others, more images."""
        if in_dims[0] is None:
            directions = _first(v, in_dims[1]).transpose(0, 1).flatten(1, 2)  # (B, V T, ...)
            result = _Derivative.apply(x, directions, deferred, adjoint)
            return result.unflatten(1, (info.batch_size, -1)), 1
        if in_dims[1] is None:
            v = v.expand(info.batch_size, *v.shape)
        else:
            v = _first(v, in_dims[1])
        result = _Derivative.apply(
            _first(x, in_dims[0]).flatten(0, 1), v.flatten(0, 1), deferred, adjoint
        )
        return result.unflatten(0, (info.batch_size, -1)), 0


def _derivative(x: Tensor, v: Tensor, deferred: _Deferred, adjoint: bool) -> Tensor:
    """``A'(x) v``, or its adjoint, for one direction at each x, in whatever way autograd asks for it."""
    if not torch._C._functorch.is_legacy_batchedtensor(v):
        return cast(Tensor, _Derivative.apply(x, v[:, None], deferred, adjoint)[:, 0])
    # torch.autograd.functional.jacobian(vectorize=True): an older kind of vmap, which knows products only
    lin = deferred.at(x)
    matrix = _jacobian(lin)
    if adjoint:
        return (v.reshape(len(x), 1, -1) @ matrix).reshape(x.shape)
    return (matrix @ v.reshape(len(x), -1, 1)).reshape(lin.y.shape)


def _jacobian(lin: Linearization) -> Tensor:
    """The whole derivative, ``(B, m, n)``, of flattened points and values."""
    batch, m = len(lin.y), lin.y[0].numel()
    units = torch.eye(m, dtype=lin.y.dtype, device=lin.y.device).expand(batch, m, m)
    return lin.vjp(units.reshape(batch, m, *lin.y.shape[1:])).flatten(2)


def _first(tensor: Tensor, axis: int | None) -> Tensor:
    return tensor if axis is None else tensor.movedim(axis, 0)


def _same(a: Tensor, b: Tensor) -> bool:
    return a is b or (a.shape == b.shape and torch.equal(a, b))
