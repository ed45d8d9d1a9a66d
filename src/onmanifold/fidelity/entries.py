"""Parameters that belong to a measurement's entries: standard deviations, masks and the like."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor


def check_entries(value: object, name: str, zero: bool = False) -> None:
    """Raise unless ``value`` is a number or a tensor whose entries are finite and positive.

    Args:
        value: what was passed.
        name: class and argument, for the message.
        zero: whether 0 is allowed.

    Raises:
        TypeError: neither a real number nor a tensor of such.
        ValueError: negative, infinite or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | Tensor):
        raise TypeError(f"{name} has to be a number or a tensor, got {type(value).__name__}")
    entries = torch.as_tensor(value)
    if entries.dtype == torch.bool or entries.is_complex():
        raise TypeError(f"{name} has to hold real numbers, got {entries.dtype}")
    good = ((entries >= 0) if zero else (entries > 0)) & torch.isfinite(entries)
    if not bool(good.all()):
        bad = value if entries.ndim == 0 else f"{int((~good).sum())} other entries"
        kind = "at least 0" if zero else "positive"
        raise ValueError(f"{name} has to be {kind} and finite, got {bad}")


def check_mask(mask: object, name: str) -> None:
    """Raise ``TypeError`` unless ``mask`` is ``None`` or a boolean tensor."""
    if mask is not None and not (isinstance(mask, Tensor) and mask.dtype == torch.bool):
        got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"{name} has to be a boolean tensor, got {got}")


def bind_entries(value: float | Tensor, measurement: Tensor, name: str) -> Tensor:
    """``value`` for each entry of ``measurement``, in its dtype: ``(1 or B, *y_shape)``."""
    return _per_row(torch.as_tensor(value).to(measurement), measurement, name)


def bind_mask(mask: Tensor | None, measurement: Tensor, name: str) -> Tensor | None:
    """``mask`` for each entry of ``measurement``: ``(1 or B, *y_shape)``."""
    return None if mask is None else _per_row(mask.to(measurement.device), measurement, name)


def _per_row(value: Tensor, measurement: Tensor, name: str) -> Tensor:
    """Give ``value`` a leading axis: 1 where all measurements share it, else B."""
    batch, y_shape = len(measurement), tuple(measurement.shape[1:])
    if tuple(value.shape) in ((batch, *y_shape), (1, *y_shape)):  # the latter: bound before
        return value
    try:
        return value.expand(y_shape).unsqueeze(0)
    except RuntimeError:
        raise ValueError(
            f"{name} has shape {tuple(value.shape)}, expected one that broadcasts to "
            f"{y_shape}, or {(batch, *y_shape)} for {batch} measurements"
        ) from None


def select_rows[T: float | Tensor | None](value: T, rows: Tensor) -> T:
    """The rows of a bound parameter, all of which share it where it has one."""
    shared = not isinstance(value, Tensor) or len(value) == 1
    return value if shared else cast(T, value[rows])  # type: ignore[index]


def present(mask: Tensor | None, entries: Tensor) -> Tensor:
    """``entries``, zero where the mask says that nothing was measured."""
    # Chosen, not multiplied: infinity times zero would be NaN.
    return entries if mask is None else torch.where(mask, entries, 0.0)


def along(value: Tensor, tangents: Tensor) -> Tensor:
    """A parameter of the entries beside tangents ``(B, T, *y_shape)``, whose axis T it lacks."""
    return value.unsqueeze(1) if value.ndim == tangents.ndim - 1 else value


def present_tangents(mask: Tensor | None, tangents: Tensor) -> Tensor:
    """Tangents ``(B, T, *y_shape)``, zero where nothing was measured."""
    return tangents if mask is None else present(along(mask, tangents), tangents)


def count(mask: Tensor | None, measurement: Tensor) -> Tensor:
    """Number of entries present, ``(B,)``."""
    return total(present(mask, torch.ones_like(measurement)))


def total(entries: Tensor) -> Tensor:
    """The sum over each member's entries, ``(B,)``."""
    return entries.reshape(len(entries), -1).sum(1)
