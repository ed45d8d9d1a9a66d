"""The truncated normal distribution of a coordinate whose mode lies on the border of the latent box."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi, sqrt

import torch
from torch import Tensor

_FAR = 20.0  # standard deviations of the mean beyond the border: there the density is exponential


@dataclass(frozen=True)
class TruncatedNormal:
    """The distance t >= 0 from the border, of density proportional to exp(-s t - c t^2 / 2).

    Attributes:
        slope: s, at least 0: how the objective rises away from the border.
        curvature: c, positive, of the same shape.

    Example:
        >>> import torch
        >>> half = TruncatedNormal(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
        >>> print(f"{half.mean().item():.4f} {half.variance().item():.4f}")
        0.7979 0.3634
    """

    slope: Tensor
    curvature: Tensor

    def log_mass(self) -> Tensor:
        """Logarithm of the integral of exp(-s t - c t^2 / 2)."""
        scaled = torch.special.erfcx(self._alpha / sqrt(2))
        mass: Tensor = 0.5 * log(pi / 2) + scaled.log() - 0.5 * self.curvature.log()
        return mass

    def mean(self) -> Tensor:
        alpha = self._alpha
        far = (1 - 2 / alpha.square()) / alpha
        return torch.where(alpha > _FAR, far, _hazard(alpha) - alpha) / self.curvature.sqrt()

    def variance(self) -> Tensor:
        alpha = self._alpha
        far = (1 - 6 / alpha.square()) / alpha.square()
        near = 1 - _hazard(alpha) * (_hazard(alpha) - alpha)
        return torch.where(alpha > _FAR, far, near) / self.curvature

    def quantile(self, upper: Tensor) -> Tensor:
        """The distance that is exceeded with probability ``upper``, in (0, 1]."""
        alpha, e = self._alpha, -upper.log()
        t = 2 * e / (alpha + (alpha.square() + 2 * e).sqrt()).clamp(min=torch.finfo(e.dtype).tiny)
        goal = torch.special.log_ndtr(-alpha) - e
        for _ in range(8):  # Newton's method; the logarithm is concave
            t = (t + (torch.special.log_ndtr(-alpha - t) - goal) / _hazard(alpha + t)).clamp(
                min=0.0
            )
        return t / self.curvature.sqrt()

    @property
    def _alpha(self) -> Tensor:
        return self.slope / self.curvature.sqrt()


def _hazard(a: Tensor) -> Tensor:
    """Density over upper tail of the standard normal distribution."""
    hazard: Tensor = sqrt(2 / pi) / torch.special.erfcx(a / sqrt(2))
    return hazard
