"""Derivatives: backward by torch's autograd, forward by dual numbers.

Functions of operations that dual numbers have no rule for go through torch's own forward mode.
``torch.func.grad``, ``vjp`` and ``vmap`` are not used: they import torch's compiler on first
use, which takes seconds.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from functools import cache
from typing import cast

import torch
from torch import Tensor

from onmanifold.duals import derivatives

# Torch's forward mode counts its levels for the whole process: a thread that ends its own also ends those
# of others, whose derivatives become zero. One thread at a time, then. A user's own `torch.func.jvp` in
# another thread has to hold this lock, too.
forward_mode = threading.RLock()


def _forget_threads() -> None:
    # A forked process has one thread, and no other will ever release the lock there.
    global forward_mode
    forward_mode = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


def jvp(function: Callable[[Tensor], Tensor], x: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
    """``f(x)`` and its derivative applied to ``tangent``."""
    y, (along,) = jvps(function, x, tangent.unsqueeze(0))
    return y, along


def jvps(
    function: Callable[[Tensor], Tensor], x: Tensor, tangents: Tensor
) -> tuple[Tensor, Tensor]:
    """``f(x)`` and its derivative applied to T tangents ``(T, *x.shape)``: ``(T, *f(x).shape)``."""
    try:
        return derivatives(function, x, tangents)
    except Exception:  # whatever it was, torch's own forward mode says it better
        pairs = [_torch_jvp(function, x, tangent) for tangent in tangents]
        return pairs[0][0], torch.stack([along for _, along in pairs])


def _torch_jvp(
    function: Callable[[Tensor], Tensor], x: Tensor, tangent: Tensor
) -> tuple[Tensor, Tensor]:
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
        pulled = _pulled_back(y, x, u, again=True)
        pushed = _pulled_back(pulled, u, tangent, again=False)
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
        return _pulled_back(y, x, cotangent, again)


def _pulled_back(y: Tensor, x: Tensor, cotangent: Tensor, again: bool) -> Tensor:
    """The derivative of <y, cotangent> by ``x``; ``again``: to be differentiated once more."""
    if not y.is_complex():
        # By a number, since torch imports sympy for the shape of a given cotangent.
        y, cotangent = (y * cotangent).sum(), None  # type: ignore[assignment]
    (result,) = torch.autograd.grad(y, x, cotangent, create_graph=again, materialize_grads=True)
    return result


def gradient(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Gradients ``(B, d)`` of f that maps each row of ``(B, d)`` to a number."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        # Rows are independent: the gradient of the sum holds the gradient of each.
        return _gradient(function(z).sum(), z).detach()


def gradient_and_hessian(function: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives of f that maps each row to a number, at ``(B, d)``: ``(B, d)`` and ``(B, d, d)``.

    f is given each row d times, one after the other: ``(B d, d) -> (B d,)``.
    """
    count, d = z.shape
    if z.numel() == 0:
        return z, torch.diag_embed(z)
    with torch.enable_grad():
        # One pass: each row d times, and copy i gives the derivatives of entry i of the gradient.
        copies = z.detach().repeat_interleave(d, dim=0).requires_grad_()
        axes = torch.eye(d, dtype=z.dtype, device=z.device).repeat(count, 1)
        try:
            slope = derivatives(function, copies, axes.unsqueeze(0))[1].squeeze(0)
        except Exception:  # as in jvp
            slope = (_gradient(function(copies).sum(), copies) * axes).sum(1)
        rows = _gradient(slope.sum(), copies)
    return slope.detach().view(count, d), rows.detach().view(count, d, d)


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
    """Stack ``f(z)`` and its d partial derivatives: ``(B, d)`` to ``(B, 1 + d, *shape)``.

    Rows are independent: f treats each row of z by itself.
    """
    if z.shape[1] == 0:  # a chart that is one point
        return function(z).unsqueeze(1)
    axes = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    directions = axes.unsqueeze(1).expand(-1, *z.shape)
    value, columns = jvps(function, z, directions)
    return torch.cat([value.unsqueeze(1), columns.movedim(0, 1)], dim=1)
