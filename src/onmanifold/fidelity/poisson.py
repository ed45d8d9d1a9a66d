"""Counts: photons, decays, electrons."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from onmanifold.checks import check_field
from onmanifold.errors import InputError
from onmanifold.fidelity.independent import Independent, as_entries, optional_mask, present

_FLOOR = 0.5  # smallest variance of a count
_MANY = 40  # counts from which on the moments are those of large ones
_ALIKE = 3000  # entries of one mean for which the estimates are made


@dataclass(frozen=True, eq=False, repr=False)
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
        check_field(self, "gain", as_entries)
        check_field(self, "background", as_entries, zero=True)
        check_field(self, "mask", optional_mask)

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
        return _half_deviance(self._mean(prediction), measurement)

    def _slopes(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        mean = self._mean(prediction)
        return self.gain * (mean - measurement) / mean.clamp(min=_FLOOR)

    def _curved(self, prediction: Tensor, measurement: Tensor, tangents: Tensor) -> Tensor:
        information = self.gain / self._mean(prediction).clamp(min=_FLOOR) * self.gain
        return information.unsqueeze(1) * tangents

    def _moments(self, measurement: Tensor) -> tuple[Tensor, Tensor]:
        return _estimated_moments(measurement)

    def _mean(self, prediction: Tensor) -> Tensor:
        return self.gain * prediction + self.background


def _half_deviance(mean: Tensor, counts: Tensor) -> Tensor:
    """``mean - y + y log(y / mean)`` of each entry; a parabola where the mean is below ``_FLOOR``.

    Shifted to be zero where the mean is the count, for counts below ``_FLOOR``, too.
    """
    return _excess(mean, counts) - _excess(counts, counts)


def _excess(mean: Tensor, counts: Tensor) -> Tensor:
    inside = mean.clamp(min=_FLOOR)
    u = (counts - inside) / inside  # log1p(u) keeps the digits of many counts close to their mean
    log = u.clamp(
        min=torch.finfo(u.dtype).eps - 1
    ).log1p()  # of no counts: finite, and counts for nothing
    deviance: Tensor = counts * log - inside * u
    return deviance + (mean - inside) * (mean + inside - 2 * counts) / (2 * inside)


def _estimated_moments(counts: Tensor) -> tuple[Tensor, Tensor]:
    """The half deviance's mean at the unknown mean of each count, and the variance about that estimate.

    Summed over the distribution of the counts, the first is off by at most 0.01, whatever the mean; the
    square root of the second by 10 % for means above 1/2, and too large below: by a third at 0.2, by three
    quarters at 0.1.
    """
    index = counts.round().clamp(0, _MANY - 1).long()
    mean, variance = (table.to(counts)[index] for table in _tables())
    many = counts >= _MANY
    return torch.where(many, _mean_of_many(counts), mean), torch.where(many, 0.5, variance)


def _mean_of_many(counts: Tensor) -> Tensor:
    return 0.5 + 1 / (12 * counts.clamp(min=1.0))


@cache
def _tables() -> tuple[Tensor, Tensor]:
    """The estimates for the counts 0 to ``_MANY - 1``."""
    means = torch.logspace(-3, 1.7, 150, dtype=torch.float64).unsqueeze(1)
    counts = torch.arange(2.5 * _MANY, dtype=torch.float64)
    weight = torch.exp(torch.xlogy(counts, means) - means - torch.lgamma(counts + 1))
    deviance = _half_deviance(means, counts)
    mean = _estimate(weight, deviance, _mean_of_many(counts), _ALIKE)
    error = deviance - mean
    error = error - (weight * error).sum(1, keepdim=True)
    variance = _estimate(weight, error.square(), torch.full_like(counts, 0.5), _ALIKE // 100)
    return mean[:_MANY], variance[:_MANY].clamp(min=0.0)


def _estimate(weight: Tensor, target: Tensor, many: Tensor, alike: int) -> Tensor:
    """The function h of a count that best predicts a target, summed over ``alike`` entries of one mean.

    It minimizes, summed over M means, the mean square of ``target - h`` plus ``alike - 1`` times the square
    of its mean: with many entries it matters little how h scatters, and much whether it is off.

    Args:
        weight: probability of each of K counts for each mean, ``(M, K)``.
        target: ``(M, K)``.
        many: h for counts from ``_MANY`` on, ``(K,)``. That of 0 is 0: no light, no deviance.
        alike: number of entries.
    """
    expected = (weight * target).sum(1)
    matrix = torch.diag(weight.sum(0)) + (alike - 1) * weight.mT @ weight
    rhs = (weight * target).sum(0) + (alike - 1) * weight.mT @ expected
    free = slice(1, _MANY)
    h = many.clone()
    h[0] = 0.0
    rhs = rhs - matrix[:, _MANY:] @ many[_MANY:]
    h[free] = torch.linalg.solve(matrix[free, free], rhs[free])
    return h
