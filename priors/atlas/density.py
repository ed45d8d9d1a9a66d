"""The latent density: a soft box."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor

from onmanifold.checks import as_generator

FLAT = 0.8  # the density is constant up to here,
EDGE = 1.0  # falls linearly to
LOW = 0.05  # this value here, and exponentially from here on


class SoftBox:
    r"""A density on R^d that makes ``[-1, 1]^d`` a soft box, the same in each coordinate.

    Up to its normalization a coordinate's density is 1 for :math:`|t| \le 0.8`, falls linearly to 0.05 at
    :math:`|t| = 1`, and goes on as :math:`0.05 \exp(-\lambda(|t| - 1))`. Its negative logarithm is convex.

    Source: Alberti et al., JMLR 25 (2024), section 3.

    Args:
        steepness: the decay :math:`\lambda`, positive.

    Example:
        >>> box = SoftBox(100.0)
        >>> box.sample(4, 2, 0).shape
        torch.Size([4, 2])
    """

    def __init__(self, steepness: float) -> None:
        if not steepness > 0:
            raise ValueError(f"SoftBox: steepness has to be positive, got {steepness}")
        self.steepness = float(steepness)
        ramp, tail = (EDGE - FLAT) * (1 + LOW) / 2, LOW / self.steepness
        self._masses = torch.tensor([FLAT, ramp, tail], dtype=torch.float64)
        self.log_normalization = log(2 * float(self._masses.sum()))

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density of points ``(B, d)``, shape ``(B,)``."""
        t = z.abs()
        slope = (1 - LOW) / (EDGE - FLAT)
        # clamped on both sides: where() differentiates the branch that it does not take, too; a little
        # beyond the edge, since the derivative of clamp vanishes at its limits and descent ends there
        ramp = torch.log1p(-slope * (t.clamp(FLAT, EDGE + 1e-3) - FLAT))
        tail = log(LOW) - self.steepness * (t - EDGE)
        each = torch.where(t <= FLAT, torch.zeros_like(t), torch.where(t <= EDGE, ramp, tail))
        return (each - self.log_normalization).sum(dim=-1)

    def sample(self, n: int, dim: int, generator: torch.Generator | int | None = None) -> Tensor:
        """``n`` points ``(n, dim)``, exact, by inversion of the distribution function."""
        source = as_generator(generator)
        u = torch.rand((n, dim), generator=source, dtype=torch.float64)
        sign = 2.0 * torch.randint(0, 2, (n, dim), generator=source) - 1
        flat, ramp, tail = self._masses
        mass = u * self._masses.sum()
        slope = (1 - LOW) / (EDGE - FLAT)
        # on the ramp the mass up to FLAT + w is w - slope w^2 / 2
        w = (1 - torch.sqrt((1 - 2 * slope * (mass - flat)).clamp(min=0))) / slope
        rest = (1 - (mass - flat - ramp) / tail).clamp(min=1e-300)
        t = torch.where(mass <= flat + ramp, FLAT + w, EDGE - rest.log() / self.steepness)
        return sign * torch.where(mass <= flat, mass, t)
