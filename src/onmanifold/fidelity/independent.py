"""Sums over a measurement's entries: what fidelities of independent errors share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Self, cast

import torch
from torch import Tensor

from onmanifold.errors import InputError, InputTypeError


@dataclass(frozen=True, eq=False)
class Independent(ABC):
    """Independent errors: the value is a sum over the entries present.

    A subclass is a frozen dataclass with a field ``mask``. It says what one entry adds to the value, to the
    gradient and to the curvature, and what the first is on average.

    Attributes:
        entrywise: names of the fields that hold a number for each entry, beside the mask.
    """

    entrywise: ClassVar[tuple[str, ...]] = ("std",)

    @property
    @abstractmethod
    def mask(self) -> Tensor | None:
        """True where an entry was measured; ``None``: everywhere."""

    @abstractmethod
    def _values(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        """What each entry adds to the value, ``(B, *y_shape)``."""

    @abstractmethod
    def _slopes(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        """The derivatives of that in the predictions, ``(B, *y_shape)``."""

    @abstractmethod
    def _curved(self, prediction: Tensor, measurement: Tensor, tangents: Tensor) -> Tensor:
        """The second derivatives, exact or approximate, times tangents ``(B, T, *y_shape)``."""

    @abstractmethod
    def _moments(self, measurement: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of each entry's value at the truth; they broadcast to the measurement."""

    def __post_init__(self) -> None:
        for name in self.entrywise:
            check_entries(getattr(self, name), f"{type(self).__name__}: {name}")
        check_mask(self.mask, f"{type(self).__name__}: mask")

    def bind(self, measurement: Tensor) -> Self:
        kind = type(self).__name__
        bound: dict[str, Tensor | None] = {
            name: bind_entries(getattr(self, name), measurement, f"{kind}: {name}")
            for name in self.entrywise
        }
        bound["mask"] = bind_mask(self.mask, measurement, f"{kind}: mask")
        return replace(self, **bound)

    def select(self, rows: Tensor) -> Self:
        mine = {name: getattr(self, name) for name in (*self.entrywise, "mask")}
        selected = {name: select_rows(value, rows) for name, value in mine.items()}
        shared = all(selected[name] is value for name, value in mine.items())
        return self if shared else replace(self, **selected)

    def value(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        return total(present(self.mask, self._values(prediction, measurement)))

    def gradient(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        return present(self.mask, self._slopes(prediction, measurement))

    def curvature(self, prediction: Tensor, measurement: Tensor, tangents: Tensor) -> Tensor:
        return present_tangents(self.mask, self._curved(prediction, measurement, tangents))

    def expected(self, measurement: Tensor) -> Tensor:
        """The value's mean at the truth, shape ``(B,)``."""
        mean = self._moments(measurement)[0].expand_as(measurement)
        return total(present(self.mask, mean))

    def deviation(self, measurement: Tensor) -> Tensor:
        """The value's standard deviation at the truth, shape ``(B,)``."""
        variance = self._moments(measurement)[1].expand_as(measurement)
        return total(present(self.mask, variance)).sqrt()


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
        raise InputTypeError(f"{name} has to be a number or a tensor, got {type(value).__name__}")
    entries = torch.as_tensor(value)
    if entries.dtype == torch.bool or entries.is_complex():
        raise InputTypeError(f"{name} has to hold real numbers, got {entries.dtype}")
    good = ((entries >= 0) if zero else (entries > 0)) & torch.isfinite(entries)
    if not bool(good.all()):
        bad = value if entries.ndim == 0 else f"{int((~good).sum())} other entries"
        kind = "at least 0" if zero else "positive"
        raise InputError(f"{name} has to be {kind} and finite, got {bad}")


def check_mask(mask: object, name: str) -> None:
    """Raise ``TypeError`` unless ``mask`` is ``None`` or a boolean tensor."""
    if mask is not None and not (isinstance(mask, Tensor) and mask.dtype == torch.bool):
        got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise InputTypeError(f"{name} has to be a boolean tensor, got {got}")


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
        raise InputError(
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


def present_tangents(mask: Tensor | None, tangents: Tensor) -> Tensor:
    """Tangents ``(B, T, *y_shape)``, zero where nothing was measured."""
    return tangents if mask is None else present(beside(mask, tangents), tangents)


def beside(value: Tensor, tangents: Tensor) -> Tensor:
    """A parameter of the entries beside tangents ``(B, T, *y_shape)``, whose axis T it lacks."""
    return value.unsqueeze(1) if value.ndim == tangents.ndim - 1 else value


def count(mask: Tensor | None, measurement: Tensor) -> Tensor:
    """Number of entries present, ``(B,)``."""
    return total(present(mask, torch.ones_like(measurement)))


def total(entries: Tensor) -> Tensor:
    """The sum over each member's entries, ``(B,)``."""
    return entries.reshape(len(entries), -1).sum(1)
