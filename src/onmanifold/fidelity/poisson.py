"""Counts: photons, decays, electrons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from onmanifold.errors import InputError
from onmanifold.fidelity.deviance import FLOOR, estimated_moments, half_deviance
from onmanifold.fidelity.independent import Independent, check_entries, check_mask, present


@dataclass(frozen=True, eq=False)
class Poisson(Independent):
    """Counts with mean ``lambda = gain p + background``: half the Poisson deviance,

        Phi(p, y) = sum lambda - y + y log(y / lambda)

    over the entries present, the negative log-likelihood up to a constant: zero where every mean is its
    count, positive elsewhere (less 1/4 for each count of 0, see below). The measurement holds the counts
    themselves, neither divided by an exposure nor with a background subtracted.

    Learned manifolds may predict negative values, where a logarithm is not defined. So a count whose mean
    is below 1/2 is treated as if its error were normal with variance 1/2: Phi continues as a parabola, with
    the same value and slope at 1/2, defined for every p and convex. The slope is
    ``gain (lambda - y) / max(lambda, 1/2)`` everywhere. It is zero on average at the truth, so there is no
    bias; some precision is lost where means are below 1/2.

    The curvature is the expected one (Fisher's information), ``gain^2 / max(lambda, 1/2)``.

    Mean and standard deviation of Phi at the truth depend on the true means; they are estimated from the
    counts. What each count adds to the mean is off by at most 0.01 on average. The standard deviation
    includes the error of that estimate; it is good to 10 % where means are above 1/2, and too large where
    all are below, by three quarters at 0.1.

    Args:
        gain: counts for each unit of the prediction (exposure, efficiency): a positive number, or a
            tensor that broadcasts to ``y_shape`` or to ``(B, *y_shape)``.
        background: mean number of counts that come without any signal (dark counts, stray light), at
            least 0; as ``gain``.
        mask: boolean, True where an entry was measured; broadcasts to ``y_shape``, or is
            ``(B, *y_shape)``. A missing entry may hold any finite number.

    Raises:
        TypeError: if ``gain`` or ``background`` is not a number, or ``mask`` is not a boolean tensor.
        ValueError: if ``gain`` is not positive or ``background`` negative, or (on use) a shape does not
            fit, or a count is negative.

    Example:
        >>> import torch
        >>> counts = torch.tensor([[0.0, 4.0, 9.0]])
        >>> Poisson(gain=2.0, background=1.0).value(torch.tensor([[1.0, 1.5, 2.5]]), counts)
        tensor([3.3992])
    """

    entrywise: ClassVar[tuple[str, ...]] = ("gain", "background")

    gain: float | Tensor = 1.0
    background: float | Tensor = 0.0
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        check_entries(self.gain, "Poisson: gain")
        check_entries(self.background, "Poisson: background", zero=True)
        check_mask(self.mask, "Poisson: mask")

    def bind(self, measurement: Tensor) -> Poisson:
        bound = super().bind(measurement)
        least = present(bound.mask, measurement).amin()
        if bool(least < 0):
            raise InputError(
                f"Poisson: the measurement holds {float(least):g}, expected counts of at least 0: if a "
                "background was subtracted, add it again and pass it as background"
            )
        return bound

    def _values(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        return half_deviance(self._mean(prediction), measurement)

    def _slopes(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        mean = self._mean(prediction)
        return self.gain * (mean - measurement) / mean.clamp(min=FLOOR)

    def _curved(self, prediction: Tensor, measurement: Tensor, tangents: Tensor) -> Tensor:
        information = self.gain / self._mean(prediction).clamp(min=FLOOR) * self.gain
        return information.unsqueeze(1) * tangents

    def _moments(self, measurement: Tensor) -> tuple[Tensor, Tensor]:
        return estimated_moments(measurement)

    def _mean(self, prediction: Tensor) -> Tensor:
        return self.gain * prediction + self.background
