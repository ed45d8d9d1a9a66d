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
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


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
        return linear_in_first(function, *args, **kwargs)
    if name in _PRODUCTS:
        return product_rule(function, *args, **kwargs)
    if name in _CONSTANT:
        return function(*map(value_of, args), **{k: value_of(v) for k, v in kwargs.items()})
    if name in RULES:
        return RULES[name](function, *args, **kwargs)
    raise NoRule(name)


def value_of(x: Any) -> Any:
    """A dual number's value; anything else as it is."""
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


def linear_in_first(function: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    """An operation that is linear in its first argument, and takes no other's derivative."""
    args = tuple(map(value_of, args))
    y = function(value_of(x), *args, **kwargs)
    if not isinstance(x, Dual) or isinstance(y, Tensor) and not has_derivative(y):
        return y
    along = [function(t, *args, **kwargs) for t in x.tangent.unbind()]
    if isinstance(y, Tensor):
        return Dual(y, torch.stack(along))
    parts = zip(y, zip(*along, strict=True), strict=True)  # several results, such as of split
    return tuple(Dual(value, torch.stack(tangents)) for value, tangents in parts)


def has_derivative(y: Tensor) -> bool:
    """Not so where numbers became integers."""
    return y.is_floating_point() or y.is_complex()


def product_rule(function: Any, *args: Any, **kwargs: Any) -> Dual:
    """An operation that is linear in each of several arguments."""
    plain = [value_of(a) for a in args]
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


# Rules for single operations, by name; onmanifold.duals.rules fills it.
RULES: dict[str, Callable[..., Any]] = {}


def rule(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator: the function differentiates the operations of these names."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        RULES.update(dict.fromkeys(names, function))
        return function

    return add


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
