"""A normal component that a border cuts off: density ~ exp(-s t - c t^2 / 2) at distances t >= 0 from it."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi, sqrt

import torch
from torch import Tensor

_FAR = 20.0  # standard deviations of the cut-off mean beyond the border: there the component is exponential


@dataclass(frozen=True)
class CutNormal:
    """The component of the distance from a border on which a mode lies.

    Attributes:
        slope: s, at least 0: how the objective rises away from the border.
        curvature: c, positive, of the same shape.

    Example:
        >>> import torch
        >>> half = CutNormal(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
        >>> print(f"{half.mean().item():.4f} {half.variance().item():.4f}")
        0.7979 0.3634
    """

    slope: Tensor
    curvature: Tensor

    def log_mass(self) -> Tensor:
        """Logarithm of the integral of exp(-s t - c t^2 / 2)."""
        scaled = torch.special.erfcx(self._beyond / sqrt(2))
        mass: Tensor = 0.5 * log(pi / 2) + scaled.log() - 0.5 * self.curvature.log()
        return mass

    def mean(self) -> Tensor:
        a = self._beyond
        far = (1 - 2 / a.square()) / a
        return torch.where(a > _FAR, far, _hazard(a) - a) / self.curvature.sqrt()

    def variance(self) -> Tensor:
        a = self._beyond
        far = (1 - 6 / a.square()) / a.square()
        near = 1 - _hazard(a) * (_hazard(a) - a)
        return torch.where(a > _FAR, far, near) / self.curvature

    def quantile(self, upper: Tensor) -> Tensor:
        """The distance that is exceeded with probability ``upper``, in (0, 1]."""
        a, e = self._beyond, -upper.log()
        t = 2 * e / (a + (a.square() + 2 * e).sqrt()).clamp(min=torch.finfo(a.dtype).tiny)
        goal = torch.special.log_ndtr(-a) - e
        for _ in range(8):  # Newton's method; the logarithm is concave
            t = (t + (torch.special.log_ndtr(-a - t) - goal) / _hazard(a + t)).clamp(min=0.0)
        return t / self.curvature.sqrt()

    @property
    def _beyond(self) -> Tensor:
        return self.slope / self.curvature.sqrt()


def _hazard(a: Tensor) -> Tensor:
    """Density over upper tail of the standard normal distribution."""
    hazard: Tensor = sqrt(2 / pi) / torch.special.erfcx(a / sqrt(2))
    return hazard
