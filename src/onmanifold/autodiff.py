"""Derivatives by torch, without its noise and its slow starts, and safe in threads.

``torch.func.grad`` and ``torch.func.vjp`` import torch's compiler on first use, which takes seconds;
plain autograd does not.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor

# Torch counts the levels of forward differentiation for the whole process: a thread that ends its own
# also ends those of others, whose derivatives become zero. One thread at a time, then. A user's own
# `torch.func.jvp` in another thread has to hold this lock, too.
forward_mode = threading.RLock()


def _forget_threads() -> None:
    # A forked process has one thread, and no other will ever release the lock there.
    global forward_mode
    forward_mode = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


def jvp(function: Callable[[Tensor], Tensor], x: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
    """``f(x)`` and its derivative applied to ``tangent``."""
    # forward mode refuses tensors whose entries share memory, as expanded ones do
    primal, tangent = x.contiguous(), tangent.contiguous()
    with forward_mode:
        _load()
        return cast(tuple[Tensor, Tensor], torch.func.jvp(function, (primal,), (tangent,)))


def directional_derivative(
    function: Callable[[Tensor], Tensor], x: Tensor, tangent: Tensor
) -> Tensor:
    """The derivative of a user's function at ``x`` applied to ``tangent``.

    Forward where all its operations can; else by two backward passes (J v is the derivative of J^T u in u).
    """
    try:
        return jvp(function, x, tangent)[1]
    except RuntimeError as error:
        try:
            return _by_two_backward_passes(function, x, tangent)
        except RuntimeError:
            raise error from None


def _by_two_backward_passes(
    function: Callable[[Tensor], Tensor], x: Tensor, tangent: Tensor
) -> Tensor:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = function(x)
        u = torch.zeros_like(y, requires_grad=True)
        (pulled,) = torch.autograd.grad(y, x, u, create_graph=True)
        (pushed,) = torch.autograd.grad(pulled, u, tangent, materialize_grads=True)
    return pushed.detach()


def vjp(function: Callable[[Tensor], Tensor], x: Tensor, cotangent: Tensor) -> Tensor:
    """The adjoint of f's derivative at ``x`` applied to ``cotangent``.

    Can be differentiated itself where ``x`` or ``cotangent`` requires a gradient.
    """
    again = torch.is_grad_enabled() and (x.requires_grad or cotangent.requires_grad)
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        y = function(x)
        if not y.requires_grad:  # f is constant
            return torch.zeros_like(x)
        (result,) = torch.autograd.grad(y, x, cotangent, create_graph=again, materialize_grads=True)
    return result


def gradient(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Gradients ``(B, d)`` of f that maps each row of ``(B, d)`` to a number."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        # Rows are independent: the gradient of the sum holds the gradient of each.
        return _gradient(function(z).sum(), z).detach()


def gradient_and_hessian(function: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives of f that maps each row of ``(B, d)`` to a number: ``(B, d)`` and ``(B, d, d)``."""
    if z.shape[1] == 0:
        return z, torch.diag_embed(z)
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        slope = _gradient(function(z).sum(), z)
        return slope.detach(), _each_column(slope, z)


def _each_column(slope: Tensor, z: Tensor) -> Tensor:
    """The gradients of the columns of ``slope`` ``(B, d)`` by ``z``, ``(B, d, d)``, all in one pass."""
    if not slope.requires_grad:
        return torch.diag_embed(torch.zeros_like(z))
    axes = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    seeds = axes[:, None].expand(-1, len(z), -1)
    try:
        (rows,) = torch.autograd.grad(
            slope, z, seeds, retain_graph=True, materialize_grads=True, is_grads_batched=True
        )
    except RuntimeError:  # some operation has no vmap: one column at a time
        columns = [
            torch.autograd.grad(slope, z, seed, retain_graph=True, materialize_grads=True)[0]
            for seed in seeds
        ]
        rows = torch.stack(columns)
    return rows.transpose(0, 1).detach()


def _gradient(value: Tensor, z: Tensor) -> Tensor:
    if not value.requires_grad:
        return torch.zeros_like(z)
    return torch.autograd.grad(value, z, create_graph=True, materialize_grads=True)[0]


@cache
def _load() -> None:
    # The first jvp of a process compiles torch's decompositions, with a deprecation warning that no
    # user can do anything about.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.func.jvp(torch.sin, (torch.zeros(()),), (torch.zeros(()),))


def value_and_columns(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Stack ``f(z)`` and its d partial derivatives: ``(B, d)`` to ``(B, 1 + d, *shape)``."""

    def partial(axis: Tensor) -> tuple[Tensor, Tensor]:
        return jvp(function, z, axis.expand_as(z))

    if z.shape[1] == 0:  # a chart that is one point
        return function(z).unsqueeze(1)
    outputs: Any = (None, 1)  # the value is the same along every axis
    axes = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    try:
        value, columns = torch.func.vmap(partial, out_dims=outputs)(axes)
    except RuntimeError:  # some operation has no vmap (or there is no memory): one axis at a time
        pairs = [partial(axis) for axis in axes]
        value, columns = pairs[0][0], torch.stack([column for _, column in pairs], dim=1)
    return torch.cat([value.unsqueeze(1), columns], dim=1)
