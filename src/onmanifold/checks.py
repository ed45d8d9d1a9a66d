"""Checks of user input: each says what came and what was expected."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from onmanifold.errors import InputError, InputTypeError


def check_shape(shape: Sequence[int], name: str) -> tuple[int, ...]:
    """Return ``shape`` as a tuple of positive ints, or raise ``ValueError``."""
    result = tuple(int(n) for n in shape)
    if any(n < 1 for n in result):
        raise InputError(f"{name} has to hold positive sizes, got {result}")
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
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise InputTypeError(
            f"a seed has to be an int or a torch.Generator, got {type(seed).__name__}"
        )
    return torch.Generator(device=device).manual_seed(0 if seed is None else seed)


def check_number(value: object, name: str, low: float = 0.0, high: float = float("inf")) -> None:
    """Raise unless ``value`` is a real number with ``low < value < high``.

    Args:
        value: what was passed.
        name: class and argument, for the message.
        low: lower limit.
        high: upper limit.

    Raises:
        TypeError: not a number.
        ValueError: outside the limits, or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputTypeError(f"{name} has to be a number, got {type(value).__name__}")
    if not low < value < high:
        raise InputError(f"{name} has to be above {low:g} and below {high:g}, got {value}")


def check_callable(value: object, name: str, example: str) -> None:
    """Raise ``TypeError`` unless ``value`` is ``None`` or an object that can be called."""
    if value is not None and (isinstance(value, type) or not callable(value)):
        got = repr(value) if isinstance(value, type) else type(value).__name__
        raise InputTypeError(f"{name} has to be one such as {example}, got {got}")


def check_count(value: object, name: str, at_least: int = 1) -> None:
    """Raise unless ``value`` is an int of at least so many."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputTypeError(f"{name} has to be an int, got {type(value).__name__}")
    if value < at_least:
        raise InputError(f"{name} has to be at least {at_least}, got {value}")
