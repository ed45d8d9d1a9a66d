"""Rules of differentiation for single operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from onmanifold.duals.dual import Dual, NoRule, rule, value_of


def _along(x: Any, y: Tensor) -> Tensor:
    """The tangent of ``x``, with axes for a ``y`` of more axes that ``x`` is broadcast to."""
    tangent: Tensor = x.tangent
    missing = y.ndim + 1 - tangent.ndim
    return tangent[(slice(None), *[None] * missing)] if missing > 0 else tangent


def _total(y: Tensor, parts: Sequence[Tensor]) -> Dual:
    tangent = parts[0] + parts[1] if len(parts) == 2 else parts[0]
    if tangent.shape[1:] != y.shape:
        tangent = tangent.expand(-1, *y.shape)
    return Dual(y, tangent.to(y.dtype))


@rule("add", "__add__", "__radd__")
def _add(function: Any, a: Any, b: Any, *, alpha: float = 1) -> Dual:
    if alpha != 1:
        b = alpha * b
    y = value_of(a) + value_of(b)
    return _total(y, [_along(x, y) for x in (a, b) if isinstance(x, Dual)])


@rule("sub", "__sub__")
def _subtract(function: Any, a: Any, b: Any, *, alpha: float = 1) -> Dual:
    return _add(torch.add, a, -b, alpha=alpha)  # type: ignore[no-any-return]


@rule("rsub", "__rsub__")
def _subtract_from(function: Any, a: Any, b: Any) -> Dual:
    return _add(torch.add, -a, b)  # type: ignore[no-any-return]


@rule("mul", "multiply", "__mul__", "__rmul__")
def _multiply(function: Any, a: Any, b: Any) -> Dual:
    y = value_of(a) * value_of(b)
    pairs = ((a, b), (b, a))
    return _total(y, [_along(x, y) * value_of(c) for x, c in pairs if isinstance(x, Dual)])


@rule("div", "true_divide", "__truediv__")
def _divide(function: Any, a: Any, b: Any) -> Dual:
    below = value_of(b)
    y = value_of(a) / below
    parts = [_along(a, y) / below] if isinstance(a, Dual) else []
    return _total(y, [*parts, -_along(b, y) * (y / below)] if isinstance(b, Dual) else parts)


@rule("__rtruediv__", "__rdiv__")
def _divide_by(function: Any, a: Dual, b: Any) -> Dual:
    return _divide(torch.div, b, a)  # type: ignore[no-any-return]


@rule("pow", "__pow__", "__ipow__")
def _power(function: Any, a: Any, b: Any) -> Dual:
    if isinstance(b, Dual | Tensor):
        raise NoRule("pow of tensors")
    slope = b * a.value ** (b - 1) if b else torch.zeros_like(a.value)
    return Dual(a.value**b, a.tangent * slope)


@rule("__rmatmul__")
def _multiply_from_left(function: Any, a: Any, b: Any) -> Any:
    return torch.matmul(b, a)


@rule("linear")
def _linear(function: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    if isinstance(weight, Dual) or isinstance(bias, Dual):
        y = x @ weight.mT
        return y if bias is None else y + bias
    y = functional.linear(x.value, weight, bias)
    return Dual(y, functional.linear(x.tangent, weight))


@rule(*(f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3)))
def _convolution(
    function: Any, x: Any, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any
) -> Dual:
    if isinstance(weight, Dual) or isinstance(bias, Dual):
        raise NoRule("convolution with a dual kernel")
    y = function(x.value, weight, bias, *args, **kwargs)
    if y.ndim != weight.ndim:  # no batch
        raise NoRule("convolution without a batch")
    along = function(x.tangent.flatten(0, 1), weight, None, *args, **kwargs)
    return Dual(y, along.unflatten(0, x.tangent.shape[:2]))


@rule("group_norm")
def _group_norm(
    function: Any,
    x: Any,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Any:
    if isinstance(weight, Dual) or isinstance(bias, Dual):
        raise NoRule("group_norm with dual weights")
    inside = x.value.unflatten(1, (groups, -1))
    axes = tuple(range(2, inside.ndim))
    variance, mean = torch.var_mean(inside, axes, correction=0, keepdim=True)
    scale = (variance + eps).rsqrt()
    normal = (inside - mean) * scale
    t, axes = x.tangent.unflatten(2, (groups, -1)), tuple(a + 1 for a in axes)
    along = scale * (
        t - t.mean(axes, keepdim=True) - normal * (normal * t).mean(axes, keepdim=True)
    )
    along = along.flatten(2, 3)
    if weight is not None:
        along = along * weight.view(-1, *[1] * (x.value.ndim - 2))
    return Dual(functional.group_norm(x.value, groups, weight, bias, eps), along)


@rule("silu")
def _silu(function: Any, x: Dual, inplace: bool = False) -> Dual:
    if inplace:
        raise NoRule("silu in place")
    y = function(x.value)
    if y.requires_grad or x.tangent.requires_grad:  # to be differentiated once more
        share = torch.sigmoid(x.value)
        return Dual(y, x.tangent * (share + y * (1 - share)))
    # Torch's backward rule is one pass over the memory, which is what limits it here.
    once = torch.ops.aten.silu_backward
    if len(x.tangent) == 1:
        return Dual(y, once(x.tangent, x.value.unsqueeze(0)))
    return Dual(y, x.tangent * once(torch.ones_like(x.value), x.value))


@rule("addmm")
def _add_product(
    function: Any, a: Any, b: Any, c: Any, *, beta: float = 1, alpha: float = 1
) -> Any:
    if isinstance(b, Dual) and not isinstance(c, Dual) and beta == 1:
        y = torch.addmm(value_of(a), b.value, c, alpha=alpha)
        if not isinstance(a, Dual):
            return Dual(y, alpha * (b.tangent @ c))
        inputs = (a.tangent.expand(-1, *y.shape).flatten(0, 1), b.tangent.flatten(0, 1))
        return Dual(y, torch.addmm(*inputs, c, alpha=alpha).reshape(-1, *y.shape))
    return beta * a + alpha * (b @ c)


@rule("softplus")
def _softplus(function: Any, x: Dual, beta: float = 1.0, threshold: float = 20.0) -> Dual:
    slope = torch.sigmoid(beta * x.value)
    slope = torch.where(beta * x.value > threshold, 1.0, slope)
    return Dual(functional.softplus(x.value, beta, threshold), x.tangent * slope)


@rule("softmax", "logsumexp")
def _soft(function: Any, x: Dual, dim: int, *args: Any, **kwargs: Any) -> Dual:
    share, axis = x.value.softmax(dim), dim + 1 if dim >= 0 else dim
    mean = (share * x.tangent).sum(axis, keepdim=True)
    y = function(x.value, dim, *args, **kwargs)
    if function.__name__ == "softmax":
        return Dual(y, share * (x.tangent - mean))
    return Dual(y, mean.reshape(-1, *y.shape))


@rule("prod")
def _product(function: Any, x: Dual, dim: int, keepdim: bool = False) -> Dual:
    factors = x.value.movedim(dim, -1)
    one = torch.ones_like(factors[..., :1])
    before = torch.cat([one, factors[..., :-1]], dim=-1).cumprod(-1)
    after = torch.cat([one, factors.flip(-1)[..., :-1]], dim=-1).cumprod(-1).flip(-1)
    # the product of all others, right also where a factor is zero
    t = x.tangent.movedim(dim + 1 if dim >= 0 else dim, -1)
    y, along = factors.prod(-1), (t * (before * after)).sum(-1)
    if keepdim:
        return Dual(y.unsqueeze(dim), along.unsqueeze(dim + 1 if dim >= 0 else dim))
    return Dual(y, along)


@rule("clamp", "clip")
def _clamp(function: Any, x: Any, min: Any = None, max: Any = None) -> Dual:
    if not isinstance(x, Dual) or isinstance(min, Dual) or isinstance(max, Dual):
        raise NoRule("clamp to dual numbers")
    y = x.value.clamp(min, max)
    inside = torch.ones_like(x.value, dtype=torch.bool)
    if min is not None:
        inside = inside & (x.value >= min)
    if max is not None:
        inside = inside & (x.value <= max)
    return Dual(y, x.tangent * inside)


@rule("where")
def _where(function: Any, *args: Any) -> Any:
    condition, a, b = args if function is torch.where else (args[1], args[0], args[2])
    if isinstance(condition, Dual):
        raise NoRule("where on a dual condition")
    y = torch.where(condition, value_of(a), value_of(b))
    a, b = (_along(x, y) if isinstance(x, Dual) else 0.0 for x in (a, b))
    return _total(y, [torch.where(condition, a, b)])


@rule("masked_fill")
def _masked_fill(function: Any, x: Dual, mask: Tensor, value: Any) -> Dual:
    if isinstance(value, Dual):
        raise NoRule("masked_fill by a dual number")
    y = x.value.masked_fill(mask, value)
    return _total(y, [_along(x, y).masked_fill(mask, 0)])


@rule("pad")
def _pad(function: Any, x: Dual, pad: Any, mode: str = "constant", value: Any = None) -> Dual:
    y = functional.pad(x.value, pad, mode, value)
    if mode == "constant":
        return Dual(y, functional.pad(x.tangent, pad))
    return Dual(y, torch.stack([functional.pad(t, pad, mode) for t in x.tangent.unbind()]))


@rule("cat", "concat", "concatenate", "stack")
def _cat(function: Any, parts: Sequence[Any], dim: int = 0) -> Dual:
    y = function([value_of(x) for x in parts], dim=dim)
    count = next(len(x.tangent) for x in parts if isinstance(x, Dual))
    tangents = [x.tangent if isinstance(x, Dual) else x.new_zeros(count, *x.shape) for x in parts]
    return Dual(y, function(tangents, dim=dim + 1 if dim >= 0 else dim))


@rule("broadcast_tensors")
def _broadcast(function: Any, *tensors: Any) -> tuple[Any, ...]:
    shape = torch.broadcast_shapes(*(x.shape for x in tensors))
    return tuple(x.expand(shape) for x in tensors)


# Frequent in decoders, so in one call for all directions ------------------------------------------------


@rule("flatten")
def _flatten(function: Any, x: Dual, start_dim: int = 0, end_dim: int = -1) -> Dual:
    y = x.value.flatten(start_dim, end_dim)
    return Dual(y, x.tangent.reshape(-1, *y.shape))


@rule("unflatten", "view", "reshape")
def _reshape(function: Any, x: Dual, *shape: Any, **kwargs: Any) -> Dual:
    if shape and isinstance(shape[0], torch.dtype):
        raise NoRule("view of another dtype")
    y = function(x.value, *shape, **kwargs)
    return Dual(y, x.tangent.reshape(len(x.tangent), *y.shape))


@rule("pixel_shuffle", "pixel_unshuffle")
def _shuffle(function: Any, x: Dual, factor: int) -> Dual:
    y, t = function(x.value, factor), x.tangent
    if y.ndim == 4:  # also of tangents, so that torch keeps the order in memory
        t = t.flatten(0, 1)
    return Dual(y, function(t, factor).reshape(-1, *y.shape))
