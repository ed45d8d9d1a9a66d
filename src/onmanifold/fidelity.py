"""What a residual costs: the data term of the objective.

A fidelity compares predictions ``p = A(x)`` with measurements ``y``. The solver asks for its value,
its gradient in ``p`` and its curvature in ``p`` (a positive semidefinite matrix, applied to
tangents), and nothing else: a user's class with the members of :class:`Fidelity` serves as well as
:class:`Gaussian`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


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
class Gaussian:
    """Independent normal errors: Phi(p, y) = sum (p - y)^2 / (2 std^2) over the entries present.

    Args:
        std: standard deviation of the error, in the measurement's unit: a positive number, or a
            tensor that broadcasts to ``y_shape`` or to ``(B, *y_shape)``.
        mask: boolean, True where an entry was measured; broadcasts to ``y_shape``, or is
            ``(B, *y_shape)`` when each measurement lacks others. A missing entry may hold any
            finite
            number: it is never used.

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

    def __post_init__(self) -> None:
        if isinstance(self.std, bool) or not isinstance(self.std, int | float | Tensor):
            raise TypeError(
                f"Gaussian: std has to be a number or a tensor, got {type(self.std).__name__}"
            )
        std = torch.as_tensor(self.std)
        if std.dtype == torch.bool or std.is_complex():
            raise TypeError(f"Gaussian: std has to hold real numbers, got {std.dtype}")
        good = (std > 0) & torch.isfinite(std)
        if not bool(good.all()):
            bad = self.std if std.ndim == 0 else f"{int((~good).sum())} other entries"
            raise ValueError(f"Gaussian: std has to be positive and finite, got {bad}")
        if self.mask is not None and not (
            isinstance(self.mask, Tensor) and self.mask.dtype == torch.bool
        ):
            got = self.mask.dtype if isinstance(self.mask, Tensor) else type(self.mask).__name__
            raise TypeError(f"Gaussian: mask has to be a boolean tensor, got {got}")

    def bind(self, measurement: Tensor) -> Gaussian:
        std = torch.as_tensor(self.std).to(measurement)
        mask = None if self.mask is None else self.mask.to(measurement.device)
        return Gaussian(
            _per_row(std, measurement, "std"),
            None if mask is None else _per_row(mask, measurement, "mask"),
        )

    def select(self, rows: Tensor) -> Gaussian:
        std = self.std if not isinstance(self.std, Tensor) else _rows(self.std, rows)
        mask = None if self.mask is None else _rows(self.mask, rows)
        if std is self.std and mask is self.mask:
            return self
        return replace(self, std=std, mask=mask)

    def value(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        scaled = self._present((prediction - measurement) / self.std)
        return 0.5 * scaled.reshape(len(scaled), -1).square().sum(1)

    def gradient(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        return self._present((prediction - measurement) / self.std / self.std)

    def curvature(self, prediction: Tensor, measurement: Tensor, tangents: Tensor) -> Tensor:
        # The tangents' axis comes after the batch's, so that the terms with one need a new axis
        # there.
        std, mask = self.std, self.mask
        if isinstance(std, Tensor) and std.ndim == measurement.ndim:
            std = std.unsqueeze(1)
        if mask is not None and mask.ndim == measurement.ndim:
            mask = mask.unsqueeze(1)
        weighted = tangents / std / std
        return weighted if mask is None else torch.where(mask, weighted, 0.0)

    def expected(self, measurement: Tensor) -> Tensor:
        """Half the number of entries present, shape ``(B,)``."""
        present = self._present(torch.ones_like(measurement))
        return 0.5 * present.reshape(len(present), -1).sum(1)

    def _present(self, entries: Tensor) -> Tensor:
        # Chosen, not multiplied: infinity times zero would be NaN.
        return entries if self.mask is None else torch.where(self.mask, entries, 0.0)


def _per_row(value: Tensor, measurement: Tensor, name: str) -> Tensor:
    """Give ``value`` a leading axis: 1 where all measurements share it, else B."""
    batch, y_shape = len(measurement), tuple(measurement.shape[1:])
    if tuple(value.shape) == (batch, *y_shape):
        return value
    try:
        return value.expand(y_shape).unsqueeze(0)
    except RuntimeError:
        raise ValueError(
            f"Gaussian: {name} has shape {tuple(value.shape)}, expected one that broadcasts to "
            f"{y_shape}, or {(batch, *y_shape)} for {batch} measurements"
        ) from None


def _rows(value: Tensor, rows: Tensor) -> Tensor:
    return value if len(value) == 1 else value[rows]
