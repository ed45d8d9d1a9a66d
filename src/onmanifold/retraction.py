"""Retractions: how a point of the manifold moves along a tangent and stays on the manifold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from onmanifold.autodiff import jvp
from onmanifold.geometry import (
    decode_with_jacobian,
    project_codes,
    pull_back,
    pullback_metric,
    solve_spd,
)
from onmanifold.prior import ManifoldPrior, Point

_COUNTS = 1e-3  # responsibility below which a chart does not count


class Retraction(Protocol):
    """Moves points along tangent vectors; the result is on the manifold.

    ``R_x(0) = x`` and ``R_x(t h) = x + t h + O(t^2)`` for ``h = J v``.
    """

    def __call__(self, prior: ManifoldPrior, point: Point, v: Tensor) -> Point:
        """Move ``point`` along tangents with coordinates ``v`` ``(B, d)``; end inside the box."""
        ...


@dataclass(frozen=True)
class ChartRetraction:
    """R_x(J v) = D_k(z + v): a straight line in the chart. Costs nothing."""

    def __call__(self, prior: ManifoldPrior, point: Point, v: Tensor) -> Point:
        return project_codes(prior, Point(point.chart, point.z + v))


@dataclass(frozen=True)
class ProjectionRetraction:
    """R_x(J v) = D_k(E_k(x + J v)): a straight line in the space of x, projected back.

    A retraction since ``D_k E_k`` is idempotent (Alberti et al., Lemma 6). It depends on the
    chart's coordinates through their box alone. Where the encoder is a learned inverse, not an exact one,
    its error at ``D_k(z + v)`` is subtracted: ``z + v + E_k(x + J v) - E_k(D_k(z + v))``. That is the
    same if ``E_k D_k`` is the identity, and a retraction in any case.
    """

    def __call__(self, prior: ManifoldPrior, point: Point, v: Tensor) -> Point:
        def decode(z: Tensor) -> Tensor:
            return prior.decode(point.at(z))

        x, h = jvp(decode, point.z, v)
        straight = point.at(point.z + v)
        z = prior.encode_near(x + h, straight).z
        if prior.inverse_error > 0:
            z = straight.z + z - prior.encode_near(decode(straight.z), straight).z
        return project_codes(prior, point.at(z))


@dataclass(frozen=True)
class AveragedRetraction:
    """The mean of all charts' steps, weighted by their responsibilities at x, projected back.

    Chart k moves along the projection of ``h = J v`` onto its own tangents,
    ``s_k = D_k(E_k(x) + J_k^+ h) - D_k(E_k(x))``, and the point goes to
    ``E(x + sum_k gamma_k(x) s_k)`` in the chart where it is. It is continuous where charts disagree
    by a little; where one chart alone has all responsibility it is the chart retraction. Charts in whose
    latent box x does not lie do not count; every other is decoded and differentiated once.

    References:
        Alberti et al., JMLR 25 (2024), section 4.2, where the mean itself is the next iterate.

    Example:
        >>> AveragedRetraction()
        AveragedRetraction()
    """

    def __call__(self, prior: ManifoldPrior, point: Point, v: Tensor) -> Point:
        if prior.num_charts == 1:
            return ChartRetraction()(prior, point, v)
        x, h = jvp(lambda z: prior.decode(point.at(z)), point.z, v)
        share = prior.responsibilities_at(point, x)
        total, weights = torch.zeros_like(x), torch.zeros_like(share[:, 0])
        for k in range(prior.num_charts):
            own, there = point.chart == k, torch.full_like(point.chart, k)
            at = Point(there, torch.where(own[:, None], point.z, prior.encode(x, there).z))
            inside = (prior.clamp(at).z == at.z).all(dim=1)
            rows = ((share[:, k] > _COUNTS) & inside | own).nonzero().squeeze(1)
            if len(rows) == 0:
                continue
            given = torch.where(own[rows, None], v[rows], torch.nan)
            step = _displacement(prior, at.select(rows), h[rows], given)
            weight = share[rows, k].clamp(min=_COUNTS)
            total = total.index_add(0, rows, weight.view(-1, *[1] * (x.ndim - 1)) * step)
            weights = weights.index_add(0, rows, weight)
        mean = x + total / weights.view(-1, *[1] * (x.ndim - 1))
        z = prior.encode_near(mean, point).z - prior.encode_near(x, point).z
        return project_codes(prior, Point(point.chart, point.z + z))


def _displacement(prior: ManifoldPrior, point: Point, h: Tensor, v: Tensor) -> Tensor:
    """A chart's step from ``point`` along ``h``, or ``v`` where given: ``(B, *x_shape)``."""
    start, columns = decode_with_jacobian(prior, point)
    metric = pullback_metric(columns, prior.active(point.chart))
    along = solve_spd(metric, pull_back(columns, h))
    end = project_codes(prior, Point(point.chart, point.z + torch.where(v.isnan(), along, v)))
    return prior.decode(end) - start
