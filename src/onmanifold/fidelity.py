"""What a residual costs: the data term of the objective.

A fidelity compares predictions ``p = A(x)`` with measurements ``y``. The solver asks for its value,
its gradient in ``p`` and its curvature in ``p`` (a positive semidefinite matrix, applied to
tangents), and nothing else: a user's class with the members of :class:`Fidelity` serves as well as
:class:`Gaussian` and :class:`StudentT`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from onmanifold._checks import check_number


@runtime_checkable
class Fidelity(Protocol):
    """What the solver asks of a data term Phi(p, y)."""

    def bind(self, measurement: Tensor) -> Fidelity:
        """Check against measurements ``(B, *y_shape)``; return it in their dtype and on their
        device.

        The other members are called on what this returns.
        """
        ...

    def select(self, rows: Tensor) -> Fidelity:
        """The same for the measurements ``rows`` (a mask or an index)."""
        ...

    def value(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        """Phi(p, y): two ``(B, *y_shape)`` to ``(B,)``."""
        ...

    def gradient(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        """The derivative of Phi in ``p``, shape ``(B, *y_shape)``."""
        ...

    def curvature(self, prediction: Tensor, measurement: Tensor, tangents: Tensor) -> Tensor:
        """The (Gauss-Newton) second derivative of Phi in ``p`` applied to ``(B, T, *y_shape)``."""
        ...

    def expected(self, measurement: Tensor) -> Tensor:
        """What :meth:`value` is on average when ``x`` is the truth, shape ``(B,)``."""
        ...


@dataclass(frozen=True, eq=False)
class _Independent:
    """Independent errors of known scale; a subclass says how they are distributed."""

    std: float | Tensor = 1.0
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        name = type(self).__name__
        if isinstance(self.std, bool) or not isinstance(self.std, int | float | Tensor):
            raise TypeError(
                f"{name}: std has to be a number or a tensor, got {type(self.std).__name__}"
            )
        std = torch.as_tensor(self.std)
        if std.dtype == torch.bool or std.is_complex():
            raise TypeError(f"{name}: std has to hold real numbers, got {std.dtype}")
        good = (std > 0) & torch.isfinite(std)
        if not bool(good.all()):
            bad = self.std if std.ndim == 0 else f"{int((~good).sum())} other entries"
            raise ValueError(f"{name}: std has to be positive and finite, got {bad}")
        if self.mask is not None and not (
            isinstance(self.mask, Tensor) and self.mask.dtype == torch.bool
        ):
            got = self.mask.dtype if isinstance(self.mask, Tensor) else type(self.mask).__name__
            raise TypeError(f"{name}: mask has to be a boolean tensor, got {got}")

    def bind(self, measurement: Tensor) -> Self:
        name = type(self).__name__
        std = torch.as_tensor(self.std).to(measurement)
        mask = None if self.mask is None else self.mask.to(measurement.device)
        return replace(
            self,
            std=_per_row(std, measurement, f"{name}: std"),
            mask=None if mask is None else _per_row(mask, measurement, f"{name}: mask"),
        )

    def select(self, rows: Tensor) -> Self:
        std = self.std if not isinstance(self.std, Tensor) else _rows(self.std, rows)
        mask = None if self.mask is None else _rows(self.mask, rows)
        if std is self.std and mask is self.mask:
            return self
        return replace(self, std=std, mask=mask)

    def _scaled(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        """Residuals in standard deviations, zero where nothing was measured."""
        return self._present((prediction - measurement) / self.std)

    def _present(self, entries: Tensor) -> Tensor:
        # Chosen, not multiplied: infinity times zero would be NaN.
        return entries if self.mask is None else torch.where(self.mask, entries, 0.0)

    def _weighted(self, tangents: Tensor) -> Tensor:
        """Tangents ``(B, T, *y_shape)`` over the variance, zero where nothing was measured."""
        # The tangents' axis comes after the batch's, so that the terms with one need a new axis
        # there.
        std, mask = self.std, self.mask
        axes = tangents.ndim - 1
        if isinstance(std, Tensor) and std.ndim == axes:
            std = std.unsqueeze(1)
        if mask is not None and mask.ndim == axes:
            mask = mask.unsqueeze(1)
        weighted = tangents / std / std
        return weighted if mask is None else torch.where(mask, weighted, 0.0)

    def _count(self, measurement: Tensor) -> Tensor:
        """Number of entries present, ``(B,)``."""
        return _total(self._present(torch.ones_like(measurement)))


@dataclass(frozen=True, eq=False)
class Gaussian(_Independent):
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

    def value(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        return 0.5 * _total(self._scaled(prediction, measurement).square())

    def gradient(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        return self._scaled(prediction, measurement) / self.std

    def curvature(self, prediction: Tensor, measurement: Tensor, tangents: Tensor) -> Tensor:
        return self._weighted(tangents)

    def expected(self, measurement: Tensor) -> Tensor:
        """Half the number of entries present, shape ``(B,)``."""
        return 0.5 * self._count(measurement)


@dataclass(frozen=True, eq=False)
class StudentT(_Independent):
    """Independent errors with heavy tails: a few entries may be far off without bending the result.

    With ``t = (p - y) / std`` and ``n`` degrees of freedom,

        Phi(p, y) = sum (n + 1) / 2 log(1 + t^2 / n)

    over the entries present: the negative logarithm of Student's density, without its constant. An entry
    within one or two ``std`` counts about as with :class:`Gaussian`; the pull of one far off falls like 1/t.

    Args:
        std: scale of the error, in the measurement's unit; as for :class:`Gaussian`.
        mask: True where an entry was measured; as for :class:`Gaussian`.
        freedom: n, positive. 1 is Cauchy's distribution, the limit of large n is normal.

    Raises:
        TypeError: if ``std`` or ``freedom`` is not a number, or ``mask`` is not a boolean tensor.
        ValueError: if ``std`` or ``freedom`` is not positive and finite, or (on use) a shape does not fit.

    Example:
        >>> import torch
        >>> StudentT(1.0, freedom=3).gradient(torch.tensor([[0.1, 1.0, 100.0]]), torch.zeros(1, 3))
        tensor([[0.1329, 1.0000, 0.0400]])
    """

    freedom: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self.freedom, "StudentT: freedom")

    def value(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        t = self._scaled(prediction, measurement)
        return 0.5 * (self.freedom + 1) * _total((t.square() / self.freedom).log1p())

    def gradient(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        t = self._scaled(prediction, measurement)
        return self._weight(t) * t / self.std

    def curvature(self, prediction: Tensor, measurement: Tensor, tangents: Tensor) -> Tensor:
        # Not the second derivative, which is negative where |t| > sqrt(n), but that of the parabola
        # in p that touches Phi here: the logarithm is concave in t^2, so the parabola lies above Phi,
        # and where it falls Phi falls. Its minimum is the step of iteratively reweighted least squares.
        t = self._scaled(prediction, measurement)
        return self._weighted(self._weight(t).unsqueeze(1) * tangents)

    def expected(self, measurement: Tensor) -> Tensor:
        """``(n + 1) / 2 (psi((n + 1) / 2) - psi(n / 2))`` for each entry present, shape ``(B,)``."""
        half = torch.tensor([self.freedom / 2, (self.freedom + 1) / 2], dtype=torch.float64)
        low, high = torch.digamma(half).tolist()
        each: float = (self.freedom + 1) / 2 * (high - low)
        return each * self._count(measurement)

    def _weight(self, t: Tensor) -> Tensor:
        weight: Tensor = (self.freedom + 1) / (self.freedom + t.square())
        return weight


def _total(entries: Tensor) -> Tensor:
    return entries.reshape(len(entries), -1).sum(1)


def _per_row(value: Tensor, measurement: Tensor, name: str) -> Tensor:
    """Give ``value`` a leading axis: 1 where all measurements share it, else B."""
    batch, y_shape = len(measurement), tuple(measurement.shape[1:])
    if tuple(value.shape) == (batch, *y_shape):
        return value
    try:
        return value.expand(y_shape).unsqueeze(0)
    except RuntimeError:
        raise ValueError(
            f"{name} has shape {tuple(value.shape)}, expected one that broadcasts to "
            f"{y_shape}, or {(batch, *y_shape)} for {batch} measurements"
        ) from None


def _rows(value: Tensor, rows: Tensor) -> Tensor:
    return value if len(value) == 1 else value[rows]
