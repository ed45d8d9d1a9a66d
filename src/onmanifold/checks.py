"""Checks of user input: each says what came and what was expected."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral, Real

import torch
from torch import Tensor

from onmanifold.errors import InputError, InputTypeError

_LARGEST = 2**40  # entries of one array


def check_shape(shape: Sequence[int], name: str) -> tuple[int, ...]:
    """Return ``shape`` as a tuple of positive ints, also of numpy's.

    Raises:
        TypeError: not a sequence of ints: 8.5 and 8.0 are none.
        ValueError: a size below 1, or beyond what memory can hold.
    """
    if isinstance(shape, str | bytes) or not isinstance(shape, Iterable):
        raise InputTypeError(f"{name} has to be a sequence of ints, got {type(shape).__name__}")
    sizes = tuple(shape)
    if not all(isinstance(n, Integral) and not isinstance(n, bool) for n in sizes):
        raise InputTypeError(f"{name} has to hold ints, got {sizes}")
    result = tuple(int(n) for n in sizes)
    if any(n < 1 for n in result):
        raise InputError(f"{name} has to hold positive sizes, got {result}")
    if math.prod(result) > _LARGEST:
        raise InputError(f"{name} is too large: {result}")
    return result


def check_batch(x: Tensor, shape: tuple[int, ...], name: str, finite: bool = False) -> Tensor:
    """Return ``x`` if it is a non-empty floating-point batch ``(B, *shape)``.

    Raises:
        TypeError: not a tensor, or not of a floating-point dtype.
        ValueError: another shape, an empty batch, or (with ``finite``) a NaN or infinity.
    """
    if not isinstance(x, Tensor):
        raise InputTypeError(f"{name} has to be a torch.Tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise InputTypeError(f"{name} has to be of a floating-point dtype, got {x.dtype}")
    if x.ndim != len(shape) + 1 or tuple(x.shape[1:]) != shape:
        expected = ", ".join(["B", *map(str, shape)])
        raise InputError(f"{name} has shape {tuple(x.shape)}, expected ({expected})")
    if len(x) == 0:
        raise InputError(f"{name} is an empty batch: its shape is {tuple(x.shape)}")
    if finite and not bool(torch.isfinite(x).all()):
        bad = int((~torch.isfinite(x)).sum())
        raise InputError(
            f"{name} holds {bad} NaN or infinite of {x.numel()} entries; mark missing entries with "
            "the fidelity's mask and fill them with any finite number"
        )
    return x


def as_generator(
    seed: torch.Generator | int | None, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator on ``device``: the given one, or a new one from a seed (``None`` means 0)."""
    if isinstance(seed, torch.Generator):
        return seed
    return torch.Generator(device=device).manual_seed(check_seed(seed))


def check_seed(seed: object) -> int:
    """A seed as an int of 64 bits, ``None`` as 0; else raise."""
    if seed is None:
        return 0
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise InputTypeError(
            f"a seed has to be an int or a torch.Generator, got {type(seed).__name__}"
        )
    number = int(seed)
    if not -(2**63) <= number < 2**64:
        raise InputError(f"a seed has to be an int of 64 bits, got {number}")
    return number


def check_number(value: object, name: str, low: float = 0.0, high: float = float("inf")) -> float:
    """``value`` as a float if it is a real number, also one of numpy's, with ``low < value < high``.

    Args:
        value: what was passed.
        name: class and argument, for the message.
        low: lower limit.
        high: upper limit.

    Raises:
        TypeError: not a number.
        ValueError: outside the limits, or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputTypeError(f"{name} has to be a number, got {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:  # an int beyond the range of floats
        number = float("nan")
    if not low < number < high:
        raise InputError(f"{name} has to be above {low:g} and below {high:g}, got {value}")
    return number


def check_choice(value: object, known: Sequence[str], name: str) -> str:
    """``value`` if it is one of the words ``known``; else raise."""
    if not isinstance(value, str) or value not in known:
        raise InputError(f"unknown {name} {value!r}, expected one of {', '.join(known)}")
    return value


def check_callable(value: object, name: str, example: str) -> None:
    """Raise ``TypeError`` unless ``value`` is ``None`` or an object that can be called."""
    if value is not None and (isinstance(value, type) or not callable(value)):
        got = repr(value) if isinstance(value, type) else type(value).__name__
        raise InputTypeError(f"{name} has to be one such as {example}, got {got}")


def check_count(value: object, name: str, at_least: int = 1) -> int:
    """``value`` as an int if it is one, also one of numpy's, of at least so many; else raise."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InputTypeError(f"{name} has to be an int, got {type(value).__name__}")
    count = int(value)
    if not at_least <= count < 2**63:
        limit = f"at least {at_least}" if count < at_least else "an int of 64 bits"
        raise InputError(f"{name} has to be {limit}, got {value!r:.40}")
    return count


def check_field(owner: object, name: str, check: Callable[..., object], **limits: float) -> None:
    """Replace a dataclass's field by what ``check`` makes of it, such as :func:`check_number`.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Rule:
        ...     steps: int
        ...     def __post_init__(self):
        ...         check_field(self, "steps", check_count)
        >>> Rule(0)
        Traceback (most recent call last):
        onmanifold.errors.InputError: Rule: steps has to be at least 1, got 0
    """
    value = check(getattr(owner, name), f"{type(owner).__name__}: {name}", **limits)
    object.__setattr__(owner, name, value)  # frozen ones, too
