"""Central credible intervals of many draws."""

from __future__ import annotations

import torch
from torch import Tensor

from onmanifold.checks import check_number
from onmanifold.prior import ManifoldPrior, Point

_PIXELS = 2**12  # sorted at once


def check_level(level: float) -> None:
    """Raise unless ``level`` is a probability."""
    check_number(level, "level", 0.0, 1.0)


def central_interval(values: Tensor, weights: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """Ends of the interval that leaves ``(1 - level) / 2`` of the weight on either side.

    Args:
        values: draws along the last axis, ``(..., N)``.
        weights: theirs, broadcasts to the values; no weight at all gives NaN.
        level: share of the weight inside.

    Returns:
        Lower and upper ends, ``(...)`` each.
    """
    ordered, order = values.sort(dim=-1)
    mass = weights.expand_as(values).gather(-1, order).cumsum(-1)
    total = mass[..., -1:]
    ends = []
    for share in ((1 - level) / 2, (1 + level) / 2):
        at = torch.searchsorted(mass, share * total).clamp(max=values.shape[-1] - 1)
        ends.append(torch.where(total > 0, ordered.gather(-1, at), torch.nan).squeeze(-1))
    return ends[0], ends[1]


def latent_intervals(
    prior: ManifoldPrior, chart: Tensor, z: Tensor, weights: Tensor, level: float
) -> tuple[Tensor, Tensor]:
    """Intervals of the latent coordinates in each chart, given that the point lies in it.

    Args:
        prior: the atlas, of K charts.
        chart: of N draws for each measurement, ``(B, N)``.
        z: their coordinates, ``(B, N, d)``.
        weights: theirs, ``(B, N)``.
        level: share inside.

    Returns:
        Lower and upper ends, ``(B, K, d)`` each, NaN for charts without a draw and for coordinates that a
        chart does not have.
    """
    values = z.mT.contiguous()
    charts = torch.arange(prior.num_charts, device=chart.device)
    sides = [
        central_interval(values, torch.where(chart == k, weights, 0.0).unsqueeze(1), level)
        for k in charts
    ]
    low, high = (torch.stack(ends, dim=1) for ends in zip(*sides, strict=True))
    active = prior.active(charts)
    return torch.where(active, low, torch.nan), torch.where(active, high, torch.nan)


def x_intervals(
    prior: ManifoldPrior, draws: Point, batch: int, level: float
) -> tuple[Tensor, Tensor]:
    """Intervals of the entries of x, from the same number of draws for each of ``batch`` measurements.

    Returns:
        Lower and upper ends, ``(B, *x_shape)`` each.
    """
    sides = []
    for rows in torch.arange(len(draws), device=draws.z.device).view(batch, -1):
        x = prior.decode(draws.select(rows)).flatten(1).mT
        even = x.new_ones(1, len(rows))
        parts = [torch.stack(central_interval(part, even, level)) for part in x.split(_PIXELS)]
        sides.append(torch.cat(parts, dim=1).reshape(2, *prior.x_shape))
    both = torch.stack(sides, dim=1)
    return both[0], both[1]
