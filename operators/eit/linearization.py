"""Voltages and their derivative at a batch of images, and the operator as an autograd function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from scipy.sparse import csr_array
from torch import Tensor

from onmanifold.checks import check_batch
from onmanifold.errors import InputError
from onmanifold.operators.eit.fem.engine import Engine, Fields
from onmanifold.operators.eit.fem.sparse import SparseMatrix
from onmanifold.operators.eit.fem.threads import each


@dataclass(frozen=True, eq=False)
class EITLinearization:
    """Value and derivative of :class:`EIT` at ``B`` images.

    With electrodes no further factorization or solve is needed. In the continuum model tangents need the
    sensors' potentials, which are computed once, and cotangents those or one solve for each source.

    Attributes:
        engine: the finite element model.
        average: pixels to cells, ``(C, P)``.
        x_shape: shape of one image.
        y: voltages, V, ``(B, *y_shape)``.
        slope: derivative of the conductivity by each channel's value, ``(B, channels, P)``, float64.
        fields: potentials at the images.
    """

    engine: Engine
    average: SparseMatrix
    x_shape: tuple[int, ...]
    y: Tensor
    slope: Tensor
    fields: Fields

    def jvp(self, v: Tensor) -> Tensor:
        """Map tangents ``(B, T, *x_shape)`` to ``(B, T, *y_shape)``."""
        self._check(v, self.x_shape, "tangents")
        fields = self.fields.members()
        parts = each(lambda k: self.engine.jvp(fields[k], self._cells(v[k], k)), len(fields))
        return self.engine.sum(torch.stack(parts)).to(v)

    def _cells(self, v: Tensor, member: int) -> Tensor | csr_array:
        """How fast the cells' conductivities change along tangents ``(T, *x_shape)``: ``(T, C)``.

        What is below the rounding of a direction's largest number counts as nothing: soft edges of masks
        never end, and cells that do not move cost nothing.
        """
        slope = self.slope[member]
        channels = v.detach().to(slope.device).reshape(len(v), *slope.shape)
        size = channels.abs().amax(1)
        t, p = (size > torch.finfo(v.dtype).eps * size.amax(1, keepdim=True)).nonzero(as_tuple=True)
        parts = [one[t, p] * slope[c][p] for c, one in enumerate(channels.unbind(1))]
        change = torch.stack(parts).sum(0).to(v.dtype)
        return self.average.on_rows(change, t, p, len(v))

    def vjp(self, u: Tensor) -> Tensor:
        """Map cotangents ``(B, T, *y_shape)`` to ``(B, T, *x_shape)``."""
        self._check(u, tuple(self.y.shape[1:]), "cotangents")
        cells = self.engine.vjp(self.fields, self._double(u))
        pixels = self.engine.sum(torch.stack([self.average.adjoint(c).T for c in cells]))
        full = pixels.unsqueeze(2) * self.slope.unsqueeze(1)
        return full.reshape(*u.shape[:2], *self.x_shape).to(u)

    def jacobian(self) -> Tensor:
        """The whole derivative, ``(B, *y_shape, *x_shape)``."""
        rows = [self.engine.jacobian(field, self.average) for field in self.fields.members()]
        full = self.engine.sum(torch.stack(rows)).unsqueeze(-2)  # (B, *y_shape, 1, P)
        slope = self.slope.view(len(rows), *[1] * (self.y.ndim - 1), *self.slope.shape[1:])
        return (full * slope).reshape(*self.y.shape, *self.x_shape).to(self.y)

    def select(self, rows: Tensor) -> EITLinearization:
        """The same at the images ``rows``, a mask or an index."""
        inside = rows.to(self.slope.device)
        return EITLinearization(
            self.engine,
            self.average,
            self.x_shape,
            self.y[rows],
            self.slope[inside],
            self.fields.select(inside),
        )

    def _double(self, value: Tensor) -> Tensor:
        return value.detach().to(self.engine.device, torch.float64)

    def _check(self, value: Tensor, shape: tuple[int, ...], name: str) -> None:
        if value.ndim < 2 or len(value) != len(self.fields):
            raise InputError(
                f"{name} have shape {tuple(value.shape)}, expected "
                f"({len(self.fields)}, T, {', '.join(map(str, shape))})"
            )
        check_batch(value[0], shape, name)


@dataclass
class Deferred:
    """The linearization of one call, made when it is first needed.

    Attributes:
        value: computes the voltages.
        linearize: computes voltages and derivative.
        keep: whether to linearize at once, because a derivative will be asked for; if one is
            asked for without (as ``torch.func`` does), the fields are computed again.
        made: the images and their linearization, once it is made.
    """

    value: Callable[[Tensor], Tensor]
    linearize: Callable[[Tensor], EITLinearization]
    keep: bool
    made: tuple[Tensor, EITLinearization] | None = None

    def y(self, x: Tensor) -> Tensor:
        if not self.keep:
            return self.value(x)
        return self.at(x).y.clone()

    def at(self, x: Tensor) -> EITLinearization:
        if self.made is None or not _same(self.made[0], x):  # vmap calls with others
            self.made = x, self.linearize(x)
        return self.made[1]


_NO_SECOND = "EIT has no second derivatives; the Gauss-Newton matrix is made of EIT.linearize(x).jvp and .vjp"


class Voltages(torch.autograd.Function):
    """x -> A(x)."""

    @staticmethod
    def forward(x: Tensor, deferred: Deferred) -> Tensor:
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
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, deferred: Deferred
    ) -> tuple[Tensor, int]:
        """More images, in one batch."""
        y = Voltages.apply(_first(x, in_dims[0]).flatten(0, 1), deferred)
        return y.unflatten(0, (info.batch_size, -1)), 0


class _Derivative(torch.autograd.Function):
    """v -> A'(x) v of T directions for each x, or its adjoint; its own derivative by x is not implemented."""

    @staticmethod
    def forward(x: Tensor, v: Tensor, deferred: Deferred, adjoint: bool) -> Tensor:
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
        deferred: Deferred,
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


def _derivative(x: Tensor, v: Tensor, deferred: Deferred, adjoint: bool) -> Tensor:
    """``A'(x) v``, or its adjoint, for one direction at each x, in whatever way autograd asks for it."""
    if not torch._C._functorch.is_legacy_batchedtensor(v):
        return cast(Tensor, _Derivative.apply(x, v[:, None], deferred, adjoint)[:, 0])
    # torch.autograd.functional.jacobian(vectorize=True): an older kind of vmap, which knows products only
    lin = deferred.at(x)
    matrix = lin.jacobian().flatten(lin.y.ndim).flatten(1, -2)  # (B, y, x)
    if adjoint:
        return (v.reshape(len(x), 1, -1) @ matrix).reshape(x.shape)
    return (matrix @ v.reshape(len(x), -1, 1)).reshape(lin.y.shape)


def _first(tensor: Tensor, axis: int | None) -> Tensor:
    return tensor if axis is None else tensor.movedim(axis, 0)


def _same(a: Tensor, b: Tensor) -> bool:
    return a is b or (a.shape == b.shape and torch.equal(a, b))
