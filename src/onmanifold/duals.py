"""Dual numbers: forward differentiation of torch functions, along several directions in one pass.

A :class:`Dual` is a tensor with its derivatives along T directions. It goes through a function in place of
a tensor, and each operation on the way applies its rule of differentiation. Torch's own forward mode does the
same for more operations, but multiplies by zeros where weights have no tangent, counts its levels for the
whole process (so that threads disturb each other), and imports a compiler on first use. What has no
rule here raises :class:`NoRule`; :mod:`onmanifold.autodiff` then takes torch's.

No part of a dual number is dropped without a rule that says so: a Dual is not a Tensor, so that whatever
does not know it fails.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


class NoRule(TypeError):
    """An operation that has no rule of differentiation here."""


class Dual:
    """A tensor and its derivatives.

    Attributes:
        value: the tensor.
        tangent: its derivatives along T directions, ``(T, *value.shape)``.

    Example:
        >>> x = Dual(torch.tensor([1.0, 2.0]), torch.eye(2))
        >>> (x * x).tangent
        tensor([[2., 0.],
                [0., 4.]])
    """

    __slots__ = ("tangent", "value")
    __hash__ = object.__hash__
    __array__ = None  # numpy must not take it for a list of numbers

    def __init__(self, value: Tensor, tangent: Tensor) -> None:
        self.value, self.tangent = value, tangent

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _apply(function, *args, **(kwargs or {}))

    def __getattr__(self, name: str) -> Any:
        if name in _SAME:
            return getattr(self.value, name)
        attribute = getattr(Tensor, name)
        if not callable(attribute):  # a property, such as mT
            return _apply(_Property(name), self)
        return lambda *args, **kwargs: _apply(attribute, self, *args, **kwargs)

    def __len__(self) -> int:
        return len(self.value)

    def __bool__(self) -> bool:
        raise NoRule("bool")


_thread = threading.local()

# Attributes that a number shares with its value.
_SAME = frozenset(
    ("shape", "dtype", "device", "ndim", "layout", "is_cuda", "requires_grad")
    + ("size", "dim", "numel", "is_floating_point", "is_complex")
)


class _Property:
    """A property of tensors as a function."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, x: Tensor) -> Any:
        return getattr(x, self.__name__)


def derivatives(
    function: Callable[[Any], Any], x: Tensor, directions: Tensor
) -> tuple[Tensor, Tensor]:
    """``f(x)`` and its derivatives along T directions.

    Args:
        function: made of torch operations that have rules; it has to treat a :class:`Dual` as a tensor.
        x: where to differentiate.
        directions: ``(T, *x.shape)``.

    Returns:
        ``f(x)``, of any shape, and ``(T, *f(x).shape)``.

    Raises:
        NoRule: an operation has none.

    Example:
        >>> y, along = derivatives(torch.sin, torch.zeros(3), torch.ones(1, 3))
        >>> along.tolist()
        [[1.0, 1.0, 1.0]]
    """
    # Within another derivative, this one would take the other's tangents for its own.
    if getattr(_thread, "busy", False):
        raise NoRule("a derivative within a derivative")
    _thread.busy = True
    try:
        y = function(Dual(x, directions))
    finally:
        _thread.busy = False
    if isinstance(y, Tensor):  # constant
        return y, y.new_zeros(len(directions), *y.shape)
    if not isinstance(y, Dual):
        raise NoRule(f"a result of type {type(y).__name__}")
    return y.value, y.tangent


def _apply(function: Any, *args: Any, **kwargs: Any) -> Any:
    name = function.__name__
    if kwargs.get("out") is not None:
        raise NoRule(f"{name} into a given tensor")
    # Such a function's derivative is its author's, whatever it computes.
    if not torch._C._is_fwd_grad_enabled():
        raise NoRule(f"{name} in a torch.autograd.Function")
    if name in _ELEMENTWISE:
        return _elementwise(_ELEMENTWISE[name], function, *args, **kwargs)
    if name in _LINEAR:
        return _linear_in_first(function, *args, **kwargs)
    if name in _PRODUCTS:
        return _product_rule(function, *args, **kwargs)
    if name in _CONSTANT:
        return function(*map(_value, args), **{k: _value(v) for k, v in kwargs.items()})
    if name in _RULES:
        return _RULES[name](function, *args, **kwargs)
    raise NoRule(name)


def _value(x: Any) -> Any:
    return x.value if isinstance(x, Dual) else x


# Rules for whole kinds of operations --------------------------------------------------------------------

# y = f(x), entry by entry: the slope from x and y.
_ELEMENTWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "abs": lambda x, y: x.sign(),
    "atan": lambda x, y: 1 / (1 + x * x),
    "cos": lambda x, y: -x.sin(),
    "cosh": lambda x, y: x.sinh(),
    "erf": lambda x, y: 2 / math.sqrt(math.pi) * torch.exp(-x * x),
    "exp": lambda x, y: y,
    "expm1": lambda x, y: y + 1,
    "log": lambda x, y: 1 / x,
    "log1p": lambda x, y: 1 / (1 + x),
    "log_sigmoid": lambda x, y: torch.sigmoid(-x),
    "reciprocal": lambda x, y: -y * y,
    "relu": lambda x, y: (x > 0).to(x),
    "rsqrt": lambda x, y: -0.5 * y / x,
    "sigmoid": lambda x, y: y * (1 - y),
    "sin": lambda x, y: x.cos(),
    "sinh": lambda x, y: x.cosh(),
    "sqrt": lambda x, y: 0.5 / y,
    "square": lambda x, y: 2 * x,
    "tan": lambda x, y: 1 + y * y,
    "tanh": lambda x, y: 1 - y * y,
}
_ELEMENTWISE["__abs__"] = _ELEMENTWISE["abs"]


def _elementwise(
    slope: Callable[[Tensor, Tensor], Tensor], function: Any, x: Dual, *, inplace: bool = False
) -> Dual:
    if inplace or x.value.is_complex():
        raise NoRule(function.__name__)
    y = function(x.value)
    return Dual(y, x.tangent * slope(x.value, y))


# Linear in the first argument; of the others, such as a tensor whose shape is taken, the value counts.
_LINEAR = frozenset(
    ("__getitem__", "neg", "__neg__", "t", "T", "mT", "transpose", "permute", "movedim", "swapaxes")
    + ("view_as", "reshape_as", "expand", "expand_as", "repeat", "repeat_interleave", "squeeze")
    + ("unsqueeze", "narrow", "select", "index_select", "gather", "flip", "roll", "tril", "triu")
    + ("diag_embed", "diagonal", "sum", "mean", "cumsum", "diff", "split", "chunk", "unbind")
    + ("tensor_split", "clone", "contiguous", "to", "float", "double", "real", "imag", "conj")
    + ("view_as_real", "view_as_complex")
    + tuple(f"fft_{kind}fft{n}" for kind in ("", "i", "r", "ir") for n in ("", "2", "n"))
    + ("fft_fftshift", "fft_ifftshift", "avg_pool1d", "avg_pool2d", "avg_pool3d", "unfold", "fold")
    + ("adaptive_avg_pool1d", "adaptive_avg_pool2d", "interpolate")
)
# Linear in each of several arguments.
_PRODUCTS = frozenset(("matmul", "__matmul__", "mm", "bmm", "mv", "einsum"))


def _linear_in_first(function: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    args = tuple(map(_value, args))
    y = function(_value(x), *args, **kwargs)
    if not isinstance(x, Dual) or isinstance(y, Tensor) and not _has_derivative(y):
        return y
    along = [function(t, *args, **kwargs) for t in x.tangent.unbind()]
    if isinstance(y, Tensor):
        return Dual(y, torch.stack(along))
    parts = zip(y, zip(*along, strict=True), strict=True)  # several results, such as of split
    return tuple(Dual(value, torch.stack(tangents)) for value, tangents in parts)


def _has_derivative(y: Tensor) -> bool:
    """Not so where numbers became integers."""
    return y.is_floating_point() or y.is_complex()


def _product_rule(function: Any, *args: Any, **kwargs: Any) -> Dual:
    plain = [_value(a) for a in args]
    total: Any = 0
    for i, each in enumerate(args):
        if isinstance(each, Dual):
            before, after = plain[:i], plain[i + 1 :]
            along = [function(*before, t, *after, **kwargs) for t in each.tangent.unbind()]
            total = total + torch.stack(along)
    if not isinstance(total, Tensor):  # the dual number hides in a list
        raise NoRule(function.__name__)
    return Dual(function(*plain, **kwargs), total)


# Have no derivative, or one that is zero: computed from values alone.
_CONSTANT = frozenset(
    ("zeros_like", "ones_like", "empty_like", "new_zeros", "new_ones", "new_empty", "detach")
    + ("sign", "sgn", "floor", "ceil", "round", "trunc")
    + ("gt", "lt", "ge", "le", "eq", "ne", "__gt__", "__lt__", "__ge__", "__le__", "__eq__")
    + ("__ne__", "isnan", "isinf", "isfinite", "argmax", "argmin", "argsort", "searchsorted")
    + ("bucketize", "any", "all", "is_floating_point", "is_complex", "size", "dim", "numel")
)

# Rules for single operations ------------------------------------------------------------------------------

_RULES: dict[str, Callable[..., Any]] = {}


def _rule(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(rule: Callable[..., Any]) -> Callable[..., Any]:
        _RULES.update(dict.fromkeys(names, rule))
        return rule

    return add


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


@_rule("add", "__add__", "__radd__")
def _add(function: Any, a: Any, b: Any, *, alpha: float = 1) -> Dual:
    if alpha != 1:
        b = alpha * b
    y = _value(a) + _value(b)
    return _total(y, [_along(x, y) for x in (a, b) if isinstance(x, Dual)])


@_rule("sub", "__sub__")
def _subtract(function: Any, a: Any, b: Any, *, alpha: float = 1) -> Dual:
    return _add(torch.add, a, -b, alpha=alpha)  # type: ignore[no-any-return]


@_rule("rsub", "__rsub__")
def _subtract_from(function: Any, a: Any, b: Any) -> Dual:
    return _add(torch.add, -a, b)  # type: ignore[no-any-return]


@_rule("mul", "multiply", "__mul__", "__rmul__")
def _multiply(function: Any, a: Any, b: Any) -> Dual:
    y = _value(a) * _value(b)
    pairs = ((a, b), (b, a))
    return _total(y, [_along(x, y) * _value(c) for x, c in pairs if isinstance(x, Dual)])


@_rule("div", "true_divide", "__truediv__")
def _divide(function: Any, a: Any, b: Any) -> Dual:
    below = _value(b)
    y = _value(a) / below
    parts = [_along(a, y) / below] if isinstance(a, Dual) else []
    return _total(y, [*parts, -_along(b, y) * (y / below)] if isinstance(b, Dual) else parts)


@_rule("__rtruediv__", "__rdiv__")
def _divide_by(function: Any, a: Dual, b: Any) -> Dual:
    return _divide(torch.div, b, a)  # type: ignore[no-any-return]


@_rule("pow", "__pow__", "__ipow__")
def _power(function: Any, a: Any, b: Any) -> Dual:
    if isinstance(b, Dual | Tensor):
        raise NoRule("pow of tensors")
    slope = b * a.value ** (b - 1) if b else torch.zeros_like(a.value)
    return Dual(a.value**b, a.tangent * slope)


@_rule("__rmatmul__")
def _multiply_from_left(function: Any, a: Any, b: Any) -> Any:
    return torch.matmul(b, a)


@_rule("linear")
def _linear(function: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    if isinstance(weight, Dual) or isinstance(bias, Dual):
        y = x @ weight.mT
        return y if bias is None else y + bias
    y = functional.linear(x.value, weight, bias)
    return Dual(y, functional.linear(x.tangent, weight))


@_rule(*(f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3)))
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


@_rule("group_norm")
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


@_rule("silu")
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


@_rule("addmm")
def _add_product(
    function: Any, a: Any, b: Any, c: Any, *, beta: float = 1, alpha: float = 1
) -> Any:
    if isinstance(b, Dual) and not isinstance(c, Dual) and beta == 1:
        y = torch.addmm(_value(a), b.value, c, alpha=alpha)
        if not isinstance(a, Dual):
            return Dual(y, alpha * (b.tangent @ c))
        inputs = (a.tangent.expand(-1, *y.shape).flatten(0, 1), b.tangent.flatten(0, 1))
        return Dual(y, torch.addmm(*inputs, c, alpha=alpha).reshape(-1, *y.shape))
    return beta * a + alpha * (b @ c)


@_rule("softplus")
def _softplus(function: Any, x: Dual, beta: float = 1.0, threshold: float = 20.0) -> Dual:
    slope = torch.sigmoid(beta * x.value)
    slope = torch.where(beta * x.value > threshold, 1.0, slope)
    return Dual(functional.softplus(x.value, beta, threshold), x.tangent * slope)


@_rule("softmax", "logsumexp")
def _soft(function: Any, x: Dual, dim: int, *args: Any, **kwargs: Any) -> Dual:
    share, axis = x.value.softmax(dim), dim + 1 if dim >= 0 else dim
    mean = (share * x.tangent).sum(axis, keepdim=True)
    y = function(x.value, dim, *args, **kwargs)
    if function.__name__ == "softmax":
        return Dual(y, share * (x.tangent - mean))
    return Dual(y, mean.reshape(-1, *y.shape))


@_rule("prod")
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


@_rule("clamp", "clip")
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


@_rule("where")
def _where(function: Any, *args: Any) -> Any:
    condition, a, b = args if function is torch.where else (args[1], args[0], args[2])
    if isinstance(condition, Dual):
        raise NoRule("where on a dual condition")
    y = torch.where(condition, _value(a), _value(b))
    a, b = (_along(x, y) if isinstance(x, Dual) else 0.0 for x in (a, b))
    return _total(y, [torch.where(condition, a, b)])


@_rule("masked_fill")
def _masked_fill(function: Any, x: Dual, mask: Tensor, value: Any) -> Dual:
    if isinstance(value, Dual):
        raise NoRule("masked_fill by a dual number")
    y = x.value.masked_fill(mask, value)
    return _total(y, [_along(x, y).masked_fill(mask, 0)])


@_rule("pad")
def _pad(function: Any, x: Dual, pad: Any, mode: str = "constant", value: Any = None) -> Dual:
    y = functional.pad(x.value, pad, mode, value)
    if mode == "constant":
        return Dual(y, functional.pad(x.tangent, pad))
    return Dual(y, torch.stack([functional.pad(t, pad, mode) for t in x.tangent.unbind()]))


@_rule("cat", "concat", "concatenate", "stack")
def _cat(function: Any, parts: Sequence[Any], dim: int = 0) -> Dual:
    y = function([_value(x) for x in parts], dim=dim)
    count = next(len(x.tangent) for x in parts if isinstance(x, Dual))
    tangents = [x.tangent if isinstance(x, Dual) else x.new_zeros(count, *x.shape) for x in parts]
    return Dual(y, function(tangents, dim=dim + 1 if dim >= 0 else dim))


@_rule("broadcast_tensors")
def _broadcast(function: Any, *tensors: Any) -> tuple[Any, ...]:
    shape = torch.broadcast_shapes(*(x.shape for x in tensors))
    return tuple(x.expand(shape) for x in tensors)


# Frequent in decoders, so in one call for all directions ------------------------------------------------


@_rule("flatten")
def _flatten(function: Any, x: Dual, start_dim: int = 0, end_dim: int = -1) -> Dual:
    y = x.value.flatten(start_dim, end_dim)
    return Dual(y, x.tangent.reshape(-1, *y.shape))


@_rule("unflatten", "view", "reshape")
def _reshape(function: Any, x: Dual, *shape: Any, **kwargs: Any) -> Dual:
    if shape and isinstance(shape[0], torch.dtype):
        raise NoRule("view of another dtype")
    y = function(x.value, *shape, **kwargs)
    return Dual(y, x.tangent.reshape(len(x.tangent), *y.shape))


@_rule("pixel_shuffle", "pixel_unshuffle")
def _shuffle(function: Any, x: Dual, factor: int) -> Dual:
    y, t = function(x.value, factor), x.tangent
    if y.ndim == 4:  # also of tangents, so that torch keeps the order in memory
        t = t.flatten(0, 1)
    return Dual(y, function(t, factor).reshape(-1, *y.shape))


def _method(name: str) -> Callable[..., Any]:
    function = getattr(Tensor, name)
    return lambda self, *args: _apply(function, self, *args)


# Python finds operators on the class alone.
for _name in (
    *("__abs__", "__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__neg__"),
    *("__truediv__", "__rtruediv__", "__pow__", "__matmul__", "__rmatmul__", "__getitem__"),
    *("__gt__", "__lt__", "__ge__", "__le__", "__eq__", "__ne__"),
):
    setattr(Dual, _name, _method(_name))
