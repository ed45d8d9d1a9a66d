"""The mixture component of a mode: two-piece normal along its axes, truncated at the border of the box."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import log, pi, sqrt

import torch
from torch import Tensor

from onmanifold import geometry
from onmanifold.descent.model import Rows
from onmanifold.descent.problem import Problem
from onmanifold.posterior.target import LocalModel
from onmanifold.prior import ManifoldPrior, Point

_NARROW = 0.05  # of the box's half-widths: over less, curvature says all of an axis
_THINNEST = 0.01  # width along an axis on which the operator is not defined
_TINY = 1e-30
_FAR = 20.0  # standard deviations of the mean beyond the border: there the density is exponential
_MEAN = sqrt(2 / pi)  # of the absolute value of a standard normal number


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
    hazard: Tensor = _MEAN / torch.special.erfcx(a / sqrt(2))
    return hazard


@dataclass(frozen=True)
class TwoPieceNormal(Rows):
    """Distributions of ``mode + axes u + border t`` with independent numbers u and t, around B modes.

    u is two-piece (split) normal: on either side of 0 it has the widths ``low`` and ``high`` (Geweke,
    Econometrica 57, 1989). t is truncated normal: the distance from the border of coordinates whose mode
    lies there.

    Attributes:
        mode: ``(..., d)``, float64.
        axes: a square root of the free coordinates' covariance, as far as widths are 1, ``(..., d, d)``;
            columns that are not used are 0.
        low: width of u below 0, ``(..., d)``.
        high: the same above.
        log_size: logarithm of the free coordinates' volume, all widths 1: ``(...)``.
        border: how all coordinates follow one that lies on the border, ``(..., d, d)``.
        inward: away from the border where the mode lies on one, +-1, else 0, ``(..., d)``.
        slope: of the objective away from the border, ``(..., d)``.
        curvature: of the objective there, ``(..., d)``.
    """

    mode: Tensor
    axes: Tensor
    low: Tensor
    high: Tensor
    log_size: Tensor
    border: Tensor
    inward: Tensor
    slope: Tensor
    curvature: Tensor

    @property
    def _distance(self) -> TruncatedNormal:
        return TruncatedNormal(self.slope, self.curvature)

    def mean(self) -> Tensor:
        """``(..., d)``."""
        moved = _times(self.axes, _MEAN * (self.high - self.low))
        return self.mode + moved + _times(self.border, self.inward * self._distance.mean())

    def root(self) -> Tensor:
        """A square root R of the covariance ``R R^T``, ``(..., d, 2 d)``."""
        variance = (1 - _MEAN**2) * (self.high - self.low).square() + self.low * self.high
        bound = torch.where(self.inward == 0, 0.0, self._distance.variance())
        scaled = [
            columns * v.sqrt().unsqueeze(-2)
            for columns, v in ((self.axes, variance), (self.border, bound))
        ]
        return torch.cat(scaled, dim=-1)

    def log_mass(self) -> Tensor:
        """Logarithm of the integral, with density 1 at the mode."""
        border = torch.where(self.inward == 0, 0.0, self._distance.log_mass()).sum(-1)
        return self.log_size + (0.5 * (self.low + self.high)).log().sum(-1) + border

    def sample(self, source: torch.Generator) -> Tensor:
        """One point of each component, ``(..., d)``; it may lie outside the box."""
        normal = torch.empty_like(self.mode).normal_(generator=source)
        upper = 1 - torch.empty_like(self.mode).uniform_(generator=source)
        t = self.inward * self._distance.quantile(upper)
        return self.mode + _times(self.axes, self._two_piece(normal)) + _times(self.border, t)

    def _two_piece(self, normal: Tensor) -> Tensor:
        """Standard normal numbers to two-piece normal ones, by their quantiles."""
        share, below = torch.special.ndtr(normal), self.low / (self.low + self.high)
        down = self.low * torch.special.ndtri((0.5 * share / below).clamp(max=0.5))
        up = self.high * torch.special.ndtri((0.5 * (1 - share) / (1 - below)).clamp(max=0.5))
        return torch.where(share < below, down, -up)


def component_at(problem: Problem, modes: LocalModel) -> TwoPieceNormal:
    """Normal components: coordinates on the border are truncated there, the free ones follow them."""
    hessian = modes.hessian
    bound = geometry.on_border(problem.prior, modes.point)
    kept = problem.prior.active(modes.point.chart) & ~bound
    both = kept.unsqueeze(1) & kept.unsqueeze(2)
    free = geometry.filled(torch.where(both, hessian, 0.0), kept, size=1.0)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(free))
    axes = torch.where(both, torch.linalg.cholesky(inverse), 0.0)
    size = axes.diagonal(dim1=1, dim2=2)
    crossed = torch.where(kept.unsqueeze(2) & bound.unsqueeze(1), hessian, 0.0)
    follow = -inverse @ crossed
    # Schur complement's diagonal
    eased = hessian.diagonal(dim1=1, dim2=2) + (crossed * follow).sum(1)
    inward = torch.where(bound, -modes.point.z.double().sign(), 0.0)
    return TwoPieceNormal(
        mode=modes.point.z.double(),
        axes=axes,
        low=torch.ones_like(size),
        high=torch.ones_like(size),
        log_size=torch.where(kept, 0.5 * log(2 * pi) + size.log(), 0.0).sum(1),
        border=torch.where(bound.unsqueeze(1), follow + torch.eye(size.shape[1]).to(size), 0.0),
        inward=inward,
        slope=torch.where(bound, (inward * modes.gradient).clamp(min=0.0), 0.0),
        curvature=torch.where(bound, eased, 1.0),
    )


def split_component(
    prior: ManifoldPrior,
    modes: LocalModel,
    component: TwoPieceNormal,
    objectives: Callable[[Point], Tensor],
) -> TwoPieceNormal:
    """The two-piece component of one measurement's mode, its widths measured along its axes.

    The curvature at the mode may say little of how far the posterior reaches. One evaluation one width
    away, on either side of each axis, says more: along the axis the objective is taken to rise as
    ``u^2 / 2 + e u^4``, and the width is where it has risen by 1/2. Along an axis that is narrow in the
    latent box nothing bends, and the width stays 1.

    Args:
        prior: the manifold.
        modes: one mode.
        component: its normal component.
        objectives: of points ``(B)``, ``(B,)``.
    """
    vectors, sizes, _ = torch.linalg.svd(component.axes[0])
    axes = vectors * sizes
    used = torch.arange(len(sizes), device=sizes.device) < (component.axes[0] != 0).any(0).sum()
    box = prior.box_half_width(modes.point.chart[0], axes)
    bounded = torch.isfinite(box).all()
    used &= ~bounded | ((axes.T / box.clamp(min=_TINY)).norm(dim=1) > _NARROW)
    if not bool(used.any()):
        return component
    ends = component.mode + torch.cat([axes.mT[used], -axes.mT[used]])
    chart = modes.point.chart.expand(len(ends))
    points = prior.clamp(Point(chart, ends.to(modes.point.z.dtype)))
    there = objectives(Point.cat([modes.point, points])).double()
    high, low = (_width(part) for part in (there[1:] - there[0]).chunk(2))
    return replace(
        component,
        axes=axes[None],
        low=torch.ones_like(component.low).masked_scatter(used[None], low),
        high=torch.ones_like(component.high).masked_scatter(used[None], high),
    )


def _width(rise: Tensor) -> Tensor:
    """Where ``u^2 / 2 + e u^4`` is 1/2, if at 1 it is ``rise``."""
    e = (rise.nan_to_num(nan=torch.inf) - 0.5).clamp(min=-0.125)
    return ((0.25 + 2 * e).sqrt() + 0.5).rsqrt().clamp(min=_THINNEST)


def _times(matrix: Tensor, v: Tensor) -> Tensor:
    return (matrix @ v.unsqueeze(-1)).squeeze(-1)
