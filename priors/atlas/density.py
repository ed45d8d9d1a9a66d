"""The latent density: a soft box."""

from __future__ import annotations

from math import log, sqrt

import torch
from torch import Tensor

from onmanifold.checks import as_generator
from onmanifold.errors import InputError

FLAT = 0.7  # the density is constant up to here,
WIDTH = 0.3  # and falls as a parabola over this distance
DROP = 0.95  # by this share; it may go on falling beyond


class SoftBox:
    r"""A density on R^d that makes ``[-1, 1]^d`` a soft box, the same in each coordinate.

    Up to its normalization a coordinate's density is 1 for :math:`|t| \le 0.7` and falls as
    :math:`1 - 0.95 w^2` with :math:`w = (|t| - 0.7) / 0.3`, to 0.05 at :math:`|t| = 1`. Where the slope of
    its logarithm has come to :math:`-\lambda` it goes on as an exponential. So its negative logarithm is
    convex and has a continuous slope.

    Alberti et al., JMLR 25 (2024), section 3, let the density fall linearly from 0.8 to 1. The parabola
    leaves the same mass in the box, and the slope does not jump.

    Args:
        steepness: the decay :math:`\lambda`, positive.

    Example:
        >>> box = SoftBox(100.0)
        >>> box.sample(4, 2, 0).shape
        torch.Size([4, 2])
    """

    def __init__(self, steepness: float) -> None:
        if not steepness > 0:
            raise InputError(f"SoftBox: steepness has to be positive, got {steepness}")
        self.steepness = float(steepness)
        # The tail begins where 2 c w / (1 - c w^2) = steepness * width, with c = DROP.
        slope = 1 / (self.steepness * WIDTH)
        self._join = sqrt(slope**2 + 1 / DROP) - slope
        self._low = 1 - DROP * self._join**2
        falling = WIDTH * (self._join - DROP * self._join**3 / 3)
        self._masses = FLAT, falling, self._low / self.steepness
        self.log_normalization = log(2 * sum(self._masses))

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density of points ``(B, d)``, shape ``(B,)``."""
        w = ((z.abs() - FLAT) / WIDTH).clamp(min=0.0)
        inside = w.clamp(max=self._join)
        beyond = self.steepness * WIDTH * (w - inside)
        return (torch.log1p(-DROP * inside.square()) - beyond - self.log_normalization).sum(dim=-1)

    def sample(self, n: int, dim: int, generator: torch.Generator | int | None = None) -> Tensor:
        """``n`` points ``(n, dim)``, exact, by inversion of the distribution function."""
        source = as_generator(generator)
        u = torch.rand((n, dim), generator=source, dtype=torch.float64)
        sign = 2.0 * torch.randint(0, 2, (n, dim), generator=source) - 1
        flat, falling, tail = self._masses
        mass = u * sum(self._masses)
        # The falling part's mass up to w is WIDTH (w - DROP w^3 / 3): a sine of the triple angle.
        sine = (1.5 * sqrt(DROP) / WIDTH * (mass - flat)).clamp(0.0, 1.0)
        w = 2 / sqrt(DROP) * torch.sin(torch.asin(sine) / 3)
        rest = (1 - (mass - flat - falling) / tail).clamp(min=1e-300)
        far = FLAT + WIDTH * self._join - rest.log() / self.steepness
        t = torch.where(mass <= flat + falling, FLAT + WIDTH * w, far)
        return sign * torch.where(mass <= flat, mass, t)
