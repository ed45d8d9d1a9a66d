"""Voltages and their derivative at a batch of pictures, and the operator as an autograd function."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from onmanifold._checks import check_batch
from onmanifold.operators.eit.engine import Engine


@dataclass(frozen=True)
class EITLinearization:
    """Value and derivative of :class:`EIT` at ``B`` pictures; no further factorization or solve.

    Attributes:
        engine: the finite element model.
        average: pixels to cells, ``(C, P)``.
        x_shape: shape of one picture.
        y: voltages, V, ``(B, I, M)``.
        slope: derivative of the conductivity by the pixel value, ``(B, P)``, float64.
        fields: potentials of unit currents for each picture.
    """

    engine: Engine
    average: csr_array
    x_shape: tuple[int, ...]
    y: Tensor
    slope: Tensor
    fields: list[NDArray[np.float64]]

    def jvp(self, v: Tensor) -> Tensor:
        """Map tangents ``(B, T, *x_shape)`` to ``(B, T, I, M)``."""
        self._check(v, self.x_shape, "tangents")
        inside = _double(v).flatten(2)

        def change(k: int) -> Tensor:
            pixels = (inside[k] * self.slope[k]).T.contiguous()
            cells = torch.from_numpy(self.average @ pixels.numpy())
            return self.engine.jvp(self.fields[k], cells)

        return torch.stack(_each(change, len(self.fields))).to(v)

    def vjp(self, u: Tensor) -> Tensor:
        """Map cotangents ``(B, T, I, M)`` to ``(B, T, *x_shape)``."""
        self._check(u, tuple(self.y.shape[1:]), "cotangents")
        inside = _double(u)

        def back(k: int) -> Tensor:
            cells = self.engine.vjp(self.fields[k], inside[k])
            return torch.from_numpy(self.average.T @ cells.numpy()).T * self.slope[k]

        full = torch.stack(_each(back, len(self.fields)))
        return full.reshape(*full.shape[:-1], *self.x_shape).to(u)

    def jacobian(self) -> Tensor:
        """The whole derivative, ``(B, I, M, *x_shape)``."""
        rows = [
            self.engine.jacobian(w, self.average) * self.slope[k] for k, w in enumerate(self.fields)
        ]
        full = torch.stack(rows)
        return full.reshape(*full.shape[:-1], *self.x_shape).to(self.y)

    def select(self, rows: Tensor) -> EITLinearization:
        """The same at the pictures ``rows``, a mask or an index."""
        index = torch.arange(len(self.fields))[rows.cpu()]
        fields = [self.fields[k] for k in index.tolist()]
        return EITLinearization(
            self.engine, self.average, self.x_shape, self.y[rows], self.slope[index], fields
        )

    def _check(self, value: Tensor, shape: tuple[int, ...], name: str) -> None:
        if value.ndim < 2 or len(value) != len(self.fields):
            raise ValueError(
                f"{name} have shape {tuple(value.shape)}, expected "
                f"({len(self.fields)}, T, {', '.join(map(str, shape))})"
            )
        check_batch(value[0], shape, name)


def voltages(
    x: Tensor,
    value: Callable[[Tensor], Tensor],
    linearize: Callable[[Tensor], EITLinearization],
    keep: bool,
) -> Tensor:
    """``value(x)`` as an autograd function whose derivative is that of ``linearize(x)``.

    Args:
        x: pictures.
        value: computes the voltages.
        linearize: computes voltages and derivative.
        keep: whether to linearize at once, because a derivative will be asked for; if one is
            asked for without (as ``torch.func`` does), the fields are computed again.
    """
    return cast(Tensor, _Voltages.apply(x, _Deferred(value, linearize, keep)))


@dataclass
class _Deferred:
    """The linearization of one call, made when it is first needed."""

    value: Callable[[Tensor], Tensor]
    linearize: Callable[[Tensor], EITLinearization]
    keep: bool
    made: EITLinearization | None = field(default=None)

    def y(self, x: Tensor) -> Tensor:
        if not self.keep:
            return self.value(x)
        return self.at(x).y.clone()

    def at(self, x: Tensor) -> EITLinearization:
        if self.made is None:
            self.made = self.linearize(x)
        return self.made


class _Voltages(torch.autograd.Function):
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
        return _Derivative.apply(ctx.saved_tensors[0], u, ctx.deferred, True), None

    @staticmethod
    def jvp(ctx: Any, v: Tensor, _: None) -> Tensor:
        return cast(Tensor, _Derivative.apply(ctx.saved_tensors[0], v, ctx.deferred, False))


class _Derivative(torch.autograd.Function):
    """v -> A'(x) v, or its adjoint: linear in v; its own derivative by x is not implemented."""

    @staticmethod
    def forward(x: Tensor, v: Tensor, deferred: _Deferred, adjoint: bool) -> Tensor:
        lin = deferred.at(x)
        return (lin.vjp if adjoint else lin.jvp)(v[:, None])[:, 0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, ctx.deferred, ctx.adjoint = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[None, Tensor, None, None]:
        if ctx.needs_input_grad[0]:
            raise NotImplementedError("EIT has no second derivatives")
        back = _Derivative.apply(ctx.saved_tensors[0], u, ctx.deferred, not ctx.adjoint)
        return None, back, None, None

    @staticmethod
    def jvp(ctx: Any, x_tangent: Tensor, v: Tensor, *_: None) -> Tensor:
        return cast(Tensor, _Derivative.apply(ctx.saved_tensors[0], v, ctx.deferred, ctx.adjoint))


def _each(work: Callable[[int], Tensor], count: int) -> list[Tensor]:
    """``work(0)``, ..., ``work(count - 1)``, on as many threads as torch may use, one for each member.

    The products are small: torch's own threads would mostly wait for each other, above all where
    other programs use the same cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if min(count, threads) == 1:
            return [work(k) for k in range(count)]
        with ThreadPoolExecutor(min(count, threads)) as pool:
            return list(pool.map(work, range(count)))
    finally:
        torch.set_num_threads(threads)


def _double(value: Tensor) -> Tensor:
    return value.detach().to("cpu", torch.float64)
