"""Independent normal errors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from onmanifold.fidelity.entries import count, total
from onmanifold.fidelity.independent import Independent


@dataclass(frozen=True, eq=False)
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

    def value(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        return 0.5 * total(self._scaled(prediction, measurement).square())

    def gradient(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        return self._scaled(prediction, measurement) / self.std

    def curvature(self, prediction: Tensor, measurement: Tensor, tangents: Tensor) -> Tensor:
        return self._weighted(tangents)

    def expected(self, measurement: Tensor) -> Tensor:
        """Half the number of entries present, shape ``(B,)``."""
        return 0.5 * count(self.mask, measurement)

    def deviation(self, measurement: Tensor) -> Tensor:
        """The square root of that: the value is half a chi-square variable. Shape ``(B,)``."""
        return self.expected(measurement).sqrt()
