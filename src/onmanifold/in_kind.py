"""Results in kind: who measures in numpy arrays reads the results in numpy arrays.

All computing is done with tensors. :func:`onmanifold.solve` hands out a view of its result where the
measurement was an array, and what takes a result (:func:`in_kind`) looks behind the view, and hands out
another.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from torch import Tensor


class Result:
    """What a user reads numbers from: a mark for :func:`as_arrays`."""


class InArrays:
    """A view of a result that shows its tensors as numpy arrays; it passes for one of its class.

    Points, which priors decode, and the problem stay as they are.

    Attributes:
        tensors: the result itself.
    """

    __slots__ = ("tensors",)
    tensors: Any

    def __init__(self, tensors: Any) -> None:
        object.__setattr__(self, "tensors", tensors)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self.tensors)

    def __getattr__(self, name: str) -> Any:
        return as_arrays(getattr(self.tensors, name))

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.tensors, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return InArrays, (self.tensors,)

    def __len__(self) -> int:
        return len(self.tensors)

    def __repr__(self) -> str:
        return repr(self.tensors)

    def __dir__(self) -> list[str]:
        return [*dir(self.tensors), "tensors"]


def as_arrays(value: Any) -> Any:
    """Tensors as arrays; results, and what their methods return, as views; all else as it is.

    Example:
        >>> import torch
        >>> as_arrays((torch.ones(2), "name"))
        (array([1., 1.], dtype=float32), 'name')
    """
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    if type(value) is tuple:
        return tuple(as_arrays(part) for part in value)
    if isinstance(value, Result):
        return InArrays(_behind(value))
    if inspect.ismethod(value):

        @wraps(value)
        def method(*args: Any, **kwargs: Any) -> Any:
            return as_arrays(value(*args, **kwargs))

        return method
    return value


def in_kind[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """Let a function take results in arrays; then what it returns is in arrays, too."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not any(type(value) is InArrays for value in (*args, *kwargs.values())):
            return function(*args, **kwargs)
        behind = [_behind(value) for value in args]
        named = {name: _behind(value) for name, value in kwargs.items()}
        return cast(R, as_arrays(function(*behind, **named)))

    return call


def _behind(value: Any) -> Any:
    return value.tensors if type(value) is InArrays else value
