"""Independent errors of known scale: what :class:`Gaussian` and :class:`StudentT` share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from onmanifold.fidelity.entries import (
    along,
    bind_entries,
    bind_mask,
    check_entries,
    check_mask,
    present,
    present_tangents,
    select_rows,
)


@dataclass(frozen=True, eq=False)
class Independent:
    """Independent errors of known scale; a subclass says how they are distributed."""

    std: float | Tensor = 1.0
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        check_entries(self.std, f"{type(self).__name__}: std")
        check_mask(self.mask, f"{type(self).__name__}: mask")

    def bind(self, measurement: Tensor) -> Self:
        name = type(self).__name__
        return replace(
            self,
            std=bind_entries(self.std, measurement, f"{name}: std"),
            mask=bind_mask(self.mask, measurement, f"{name}: mask"),
        )

    def select(self, rows: Tensor) -> Self:
        std, mask = select_rows(self.std, rows), select_rows(self.mask, rows)
        if std is self.std and mask is self.mask:
            return self
        return replace(self, std=std, mask=mask)

    def _scaled(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        """Residuals in standard deviations, zero where nothing was measured."""
        return present(self.mask, (prediction - measurement) / self.std)

    def _weighted(self, tangents: Tensor) -> Tensor:
        """Tangents ``(B, T, *y_shape)`` over the variance, zero where nothing was measured."""
        std = along(torch.as_tensor(self.std).to(tangents), tangents)
        return present_tangents(self.mask, tangents / std / std)
