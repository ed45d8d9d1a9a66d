"""Independent normal errors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from onmanifold.fidelity.independent import Independent, beside


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
