"""Independent errors: sums over a measurement's entries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor

from onmanifold.checks import check_field, check_number
from onmanifold.errors import InputError, InputTypeError
from onmanifold.printing import Brief
from onmanifold.tensors import as_mask, as_real


@dataclass(frozen=True, eq=False, repr=False)
class Independent(Brief, ABC):
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
            check_field(self, name, as_entries)
        check_field(self, "mask", optional_mask)

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


@dataclass(frozen=True, eq=False, repr=False)
class Gaussian(Independent):
    """Independent normal errors: Phi(p, y) = sum (p - y)^2 / (2 std^2) over the entries present.

    Args:
        std: standard deviation of the error, in the measurement's unit: a positive number, or a
            tensor that broadcasts to ``y_shape`` or to ``(B, *y_shape)``.
        mask: boolean, True where an entry was measured; broadcasts to ``y_shape``, or is
            ``(B, *y_shape)`` when each measurement lacks others. A missing entry may hold any
            finite number: it is never used.

    Raises:
        TypeError: if ``std`` is not a number, or ``mask`` is not a boolean tensor.
        ValueError: if ``std`` is not positive and finite, or (on use) a shape does not fit.

    Example:
        >>> import torch
        >>> y = torch.zeros(1, 3)
        >>> present = torch.tensor([True, True, False])
        >>> Gaussian(0.5, mask=present).value(torch.ones(1, 3), y)
        tensor([4.])
    """

    std: float | Tensor = 1.0
    mask: Tensor | None = None

    def _values(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        return 0.5 * ((prediction - measurement) / self.std).square()

    def _slopes(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        return (prediction - measurement) / self.std / self.std

    def _curved(self, prediction: Tensor, measurement: Tensor, tangents: Tensor) -> Tensor:
        std = beside(torch.as_tensor(self.std).to(tangents), tangents)
        return tangents / std / std

    def _moments(self, measurement: Tensor) -> tuple[Tensor, Tensor]:
        half = measurement.new_tensor(0.5)  # of half a chi-square variable both
        return half, half


@dataclass(frozen=True, eq=False, repr=False)
class StudentT(Independent):
    """Independent errors with heavy tails: a few entries that are far off hardly change the result.

    With ``t = (p - y) / std`` and ``n`` degrees of freedom,

        Phi(p, y) = sum (n + 1) / 2 log(1 + t^2 / n)

    over the entries present: the negative logarithm of Student's density, without its constant. An entry
    within one or two ``std`` counts about as with :class:`Gaussian`; the influence of one far off falls like
    1/t.

    Args:
        std: scale of the error, in the measurement's unit; as for :class:`Gaussian`.
        mask: True where an entry was measured; as for :class:`Gaussian`.
        df: n, positive. 1 is Cauchy's distribution, the limit of large n is normal.

    Raises:
        TypeError: if ``std`` or ``df`` is not a number, or ``mask`` is not a boolean tensor.
        ValueError: if ``std`` or ``df`` is not positive and finite, or (on use) a shape does not fit.

    Example:
        >>> import torch
        >>> StudentT(1.0, df=3).gradient(torch.tensor([[0.1, 1.0, 100.0]]), torch.zeros(1, 3))
        tensor([[0.1329, 1.0000, 0.0400]])
    """

    std: float | Tensor = 1.0
    mask: Tensor | None = None
    df: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_field(self, "df", check_number)

    def _values(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        t = (prediction - measurement) / self.std
        return 0.5 * (self.df + 1) * (t.square() / self.df).log1p()

    def _slopes(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        t = (prediction - measurement) / self.std
        return self._weight(t) * t / self.std

    def _curved(self, prediction: Tensor, measurement: Tensor, tangents: Tensor) -> Tensor:
        # Not the second derivative, which is negative where |t| > sqrt(n), but that of the parabola
        # in p that touches Phi here: the logarithm is concave in t^2, so the parabola lies above Phi,
        # and where it falls Phi falls. Its minimum is the step of iteratively reweighted least squares.
        weight = self._weight((prediction - measurement) / self.std).unsqueeze(1)
        std = beside(torch.as_tensor(self.std).to(tangents), tangents)
        return weight * tangents / std / std

    def _weight(self, t: Tensor) -> Tensor:
        weight: Tensor = (self.df + 1) / (self.df + t.square())
        return weight

    def _moments(self, measurement: Tensor) -> tuple[Tensor, Tensor]:
        scale = (self.df + 1) / 2
        mean, variance = scale * self._polygamma_fall(0), scale**2 * self._polygamma_fall(1)
        return measurement.new_tensor(mean), measurement.new_tensor(variance)

    def _polygamma_fall(self, order: int) -> float:
        """Distance of polygamma at n / 2 and (n + 1) / 2: cumulants of log(1 + t^2 / n).

        Under the noise ``1 / (1 + t^2 / n)`` has the beta distribution of n / 2 and 1 / 2.
        """
        halves = torch.tensor([self.df / 2, (self.df + 1) / 2], dtype=torch.float64)
        low, high = torch.special.polygamma(order, halves).tolist()
        distance: float = abs(high - low)
        return distance


def as_entries(value: Any, name: str, zero: bool = False) -> float | Tensor:
    """A number or a tensor, its entries finite and positive, or 0 with ``zero``; else raise."""
    if isinstance(value, bool | str | None):
        raise InputTypeError(f"{name} has to be a number or a tensor, got {type(value).__name__}")
    entries = as_real(value, name)
    good = ((entries >= 0) if zero else (entries > 0)) & torch.isfinite(entries)
    if not bool(good.all()):
        bad = value if entries.ndim == 0 else f"{int((~good).sum())} other entries"
        kind = "at least 0" if zero else "positive"
        raise InputError(f"{name} has to be {kind} and finite, got {bad}")
    return float(value) if isinstance(value, Real) else entries


def optional_mask(mask: Any, name: str) -> Tensor | None:
    """``None``, or a boolean tensor; else raise ``TypeError``."""
    return None if mask is None else as_mask(mask, name)


def bind_entries(value: float | Tensor, measurement: Tensor, name: str) -> Tensor:
    """``value`` for each entry of ``measurement``, in its dtype: ``(1 or B, *y_shape)``."""
    given = as_real(value, name)
    entries = given.to(measurement)
    if bool((torch.isinf(entries) | ((entries == 0) & (given.to(entries.device) != 0))).any()):
        raise InputError(f"{name} is beyond the range of {measurement.dtype}, the measurement's")
    return _per_row(entries, measurement, name)


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


def total(entries: Tensor) -> Tensor:
    """The sum over each member's entries, ``(B,)``."""
    return entries.reshape(len(entries), -1).sum(1)
