"""The density of the objects' centres and sizes: it keeps objects apart."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log, pi

import torch
from torch import Tensor

from onmanifold.checks import check_field, check_number
from onmanifold.errors import InputError
from onmanifold.tensors import real_array


@dataclass(frozen=True)
class Arrangement:
    """Objects in the unit disk: sizes log-normal, centres uniform, apart from each other and from the wall.

    The size is the radius R of a disk of the object's area. An energy keeps disks of ``reach * R`` from
    overlapping, and from crossing the wall: half the square of the overlap's depth over ``softness``.
    Outlines are not disks, so that ``reach`` is below one.

    Attributes:
        radius: median of R, in radii of the disk that the scene fills.
        spread: standard deviation of log R.
        reach: share of R that nothing else may enter.
        softness: of that, in the same unit as the radius.
        counts: relative frequency of 0, 1, 2, ... objects.

    Example:
        >>> Arrangement().energy(torch.zeros(1, 2, 2), torch.full((1, 2), 0.2)) > 1
        tensor([True])
    """

    radius: float = 0.25
    spread: float = 0.35
    reach: float = 0.8
    softness: float = 0.03
    counts: tuple[float, ...] = (0.02, 0.3, 0.3, 0.2, 0.12, 0.06)

    def __post_init__(self) -> None:
        counts = real_array(self.counts, "Arrangement: counts")
        object.__setattr__(self, "counts", tuple(float(n) for n in counts.flatten()))
        for name in ("radius", "spread", "reach", "softness"):
            check_field(self, name, check_number)
        if len(self.counts) < 2 or not min(self.counts) >= 0 or not 0 < sum(self.counts) < inf:
            raise InputError(
                "Arrangement: counts has to hold frequencies of 0, 1, ... objects, none negative, got "
                f"{self.counts}"
            )

    def size(self, t: Tensor) -> Tensor:
        """R of standard normal coordinates."""
        return self.radius * (self.spread * t).exp()

    def size_coordinate(self, radius: Tensor) -> Tensor:
        """The inverse of :meth:`size`."""
        return (radius / self.radius).log() / self.spread

    def energy(self, centre: Tensor, radius: Tensor, present: Tensor | None = None) -> Tensor:
        """Penalty of overlaps: ``(B, n, 2)`` and ``(B, n)`` to ``(B,)``.

        Args:
            centre: of each object.
            radius: R.
            present: which of the objects are there, ``(B, n)``, boolean; by default all.
        """
        own = self.reach * radius
        # the square root has no derivative at 0, where the middle of the tank is
        out = ((centre.square().sum(2) + 1e-8).sqrt() + own - 1).clamp(min=0)
        first, second = torch.triu_indices(own.shape[1], own.shape[1], 1, device=own.device)
        between = (centre[:, first] - centre[:, second]).square().sum(2)
        apart = (between + 1e-8).sqrt()
        into = (own[:, first] + own[:, second] - apart).clamp(min=0)
        if present is not None:
            out = torch.where(present, out, 0.0)
            into = torch.where(present[:, first] & present[:, second], into, 0.0)
        return (out.square().sum(1) + into.square().sum(1)) / (2 * self.softness**2)

    def log_prob(self, centre: Tensor, t: Tensor, present: Tensor | None = None) -> Tensor:
        """Log-density of centres ``(B, n, 2)`` and size coordinates, up to :meth:`log_partition`."""
        each = -0.5 * (t.square() + log(2 * pi)) - log(pi)
        if present is not None:
            each = torch.where(present, each, 0.0)
        return each.sum(1) - self.energy(centre, self.size(t), present)

    def log_partition(self, n: int, draws: int = 20_000, seed: int = 0) -> float:
        """Log of the share of independent arrangements that the energy leaves, by simulation."""
        if n == 0:
            return 0.0
        centre, t = self.independent(draws, n, torch.Generator().manual_seed(seed))
        # centres beyond the disk are left out: the wall's energy leaves next to nothing of them
        return float((-self.energy(centre, self.size(t))).exp().mean().clamp(min=1e-12).log())

    def independent(self, draws: int, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Centres ``(draws, n, 2)``, uniform in the disk, and size coordinates ``(draws, n)``."""
        shape = (draws, n)
        distance = torch.rand(shape, generator=generator, dtype=torch.float64).sqrt()
        angle = 2 * pi * torch.rand(shape, generator=generator, dtype=torch.float64)
        t = torch.randn(shape, generator=generator, dtype=torch.float64)
        return torch.stack([distance * angle.cos(), distance * angle.sin()], dim=2), t.clamp(-3, 3)

    def sample(self, draws: int, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The same with the energy, by rejection."""
        centre, t = torch.zeros(0, n, 2).double(), torch.zeros(0, n).double()
        while len(centre) < draws:
            c, s = self.independent(max(256, 4 * draws), n, generator)
            chance = torch.rand(len(c), generator=generator, dtype=torch.float64)
            kept = chance < (-self.energy(c, self.size(s))).exp()
            centre, t = torch.cat([centre, c[kept]]), torch.cat([t, s[kept]])
        return centre[:draws], t[:draws]
