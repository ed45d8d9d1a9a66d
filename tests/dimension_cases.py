"""Points of charts of different dimension, and an operator."""

import torch

from onmanifold import Point

DOUBLE = torch.float64


def warp(x):
    """A nonlinear operator."""
    return torch.cat([x + 0.2 * x.square(), x.sum(1, keepdim=True).sin()], dim=1)


def of_each_chart(prior, each=4, seed=0):
    """So many points of each chart, well inside its box, one chart after the other."""
    source = torch.Generator().manual_seed(seed)
    chart = torch.arange(prior.num_charts).repeat_interleave(each)
    z = 1.4 * torch.rand(len(chart), prior.dim, generator=source, dtype=DOUBLE) - 0.7
    return Point(chart, (z * prior.active(chart)).to(prior.dtype))


def unused(prior, solution):
    """Coordinates that the charts do not have, of every end and every step."""
    ends = solution.final_points.z[~prior.active(solution.final_points.chart)]
    path = solution.history.z[~prior.active(solution.history.chart)]
    return torch.cat([ends, path, solution.z[~prior.active(solution.chart)]])
