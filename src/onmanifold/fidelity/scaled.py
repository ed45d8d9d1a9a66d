"""A fidelity in other units."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from onmanifold.errors import InputError
from onmanifold.fidelity.protocol import Fidelity
from onmanifold.printing import Brief


@dataclass(frozen=True, eq=False, repr=False)
class ScaledFidelity(Brief):
    """``factor * Phi(p, y)``.

    Args:
        fidelity: Phi, bound to B measurements.
        factor: a positive number for each, ``(B,)``.
    """

    fidelity: Fidelity
    factor: Tensor

    @property
    def indefinite(self) -> bool:
        return getattr(self.fidelity, "indefinite", False)

    def bind(self, measurement: Tensor) -> ScaledFidelity:
        raise InputError("a ScaledFidelity is made of a bound fidelity")

    def select(self, rows: Tensor) -> ScaledFidelity:
        return ScaledFidelity(self.fidelity.select(rows), self.factor[rows])

    def value(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        return self.factor * self.fidelity.value(prediction, measurement)

    def gradient(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        return self._times(self.fidelity.gradient(prediction, measurement))

    def curvature(self, prediction: Tensor, measurement: Tensor, tangents: Tensor) -> Tensor:
        return self._times(self.fidelity.curvature(prediction, measurement, tangents))

    def expected(self, measurement: Tensor) -> Tensor:
        return self.factor * self.fidelity.expected(measurement)

    def deviation(self, measurement: Tensor) -> Tensor:
        return self.factor * self.fidelity.deviation(measurement)

    def _times(self, value: Tensor) -> Tensor:
        return self.factor.view(-1, *[1] * (value.ndim - 1)) * value
