"""How an atlas is looked at: samples, distances and derivatives of each chart, in parts of little memory.

The distance of a point x to chart k is measured to ``D_k(E_k(x))``, with the code brought into the latent box
first, since descent never leaves it. That is an upper bound of the distance to the chart's nearest point.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import torch
from torch import Tensor

from onmanifold.checks import as_generator, check_batch, check_count
from onmanifold.geometry import jacobian
from onmanifold.prior import ManifoldPrior, Point
from onmanifold.priors.datasets import part_of, stream

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
ENTRIES = (
    2**21
)  # of a batch that is worked on at once: all of a point cloud, 128 images of 128 x 128


def held_out(data: Any, n: int, seed: int = 0) -> Tensor:
    """``n`` examples of a data set ``(n, *x_shape)`` that training never saw."""
    check_count(n, "number of examples")
    examples: Tensor = part_of(data, "held-out").sample(n, stream(seed, "held-out"))[0]
    return examples


def chart_samples(
    prior: ManifoldPrior, n: int, seed: torch.Generator | int | None = 0
) -> list[Tensor]:
    """Latent samples of each chart, brought into its box: K tensors ``(n, d)``.

    A chart of tiny weight may get fewer, after samples for a hundred charts of average weight.

    Example:
        >>> from onmanifold import load_prior
        >>> [tuple(z.shape) for z in chart_samples(load_prior("sphere"), 5)]
        [(5, 2), (5, 2)]
    """
    check_count(n, "number of samples")
    source = as_generator(seed)
    found: list[Point] = []
    for _ in range(100):
        found.append(prior.sample(n * prior.num_charts, source))
        chart = torch.cat([point.chart for point in found])
        if int(torch.bincount(chart, minlength=prior.num_charts).min()) >= n:
            break
    z = prior.clamp(Point(chart, torch.cat([point.z for point in found]))).z
    return [z[chart == k][:n] for k in range(prior.num_charts)]


@torch.no_grad()
def chart_distances(prior: ManifoldPrior, x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes of points in every chart, and their distances to every chart.

    Args:
        prior: the atlas.
        x: points ``(B, *x_shape)``.

    Returns:
        The codes ``E_k(x)``, ``(B, K, d)``, and the distances to ``D_k(E_k(x))`` with the codes brought into
        the box, ``(B, K)``.
    """
    check_batch(x, prior.x_shape, "x", finite=True)
    codes, distances = [], []
    for part in parts(x, prod(prior.x_shape)):
        charts = torch.arange(prior.num_charts, device=part.device)[:, None].expand(-1, len(part))
        each = [prior.encode(part, chart) for chart in charts]
        near = [prior.clamp(point) for point in each]
        codes.append(torch.stack([point.z for point in each], dim=1))
        off = [(prior.decode(p) - part).flatten(1).norm(dim=1) for p in near]
        distances.append(torch.stack(off, dim=1))
    return torch.cat(codes), torch.cat(distances)


@torch.no_grad()
def decoded(prior: ManifoldPrior, point: Point) -> Tensor:
    """The points ``(B, *x_shape)``."""
    rows = torch.arange(len(point), device=point.z.device)
    return torch.cat([prior.decode(point.select(r)) for r in parts(rows, prod(prior.x_shape))])


@torch.no_grad()
def singular_values(prior: ManifoldPrior, z: Tensor, chart: int) -> Tensor:
    """Singular values of the Jacobian at latent points ``(B, d)`` of a chart, largest first, ``(B, d)``.

    None is below what rounding makes of the largest, so that their ratios and logarithms are finite.
    """
    limits = torch.finfo(z.dtype)
    found = [torch.linalg.svdvals(j) for j in jacobians(prior, z, chart)]
    values = torch.cat([z.new_empty(0, prior.dim), *found])
    return torch.maximum(values, limits.eps * values[:, :1] + limits.tiny)


def jacobians(prior: ManifoldPrior, z: Tensor, chart: int) -> Iterator[Tensor]:
    """Jacobians ``(b, n, d)`` at latent points ``(B, d)`` of a chart, some points at a time."""
    for some in parts(z, prod(prior.x_shape) * (1 + prior.dim)):
        point = Point(torch.full((len(some),), chart, device=z.device), some)
        yield jacobian(prior, point).flatten(2).mT


def parts(values: Tensor, size: int) -> tuple[Tensor, ...]:
    """Rows of ``values`` in batches, if a row leads to ``size`` entries; no batch of no rows."""
    return values.split(max(1, ENTRIES // size)) if len(values) else ()


def deviation(values: Tensor) -> Tensor:
    """Standard deviation over the first axis; of no values, zeros."""
    if len(values) == 0:
        return values.new_zeros(values.shape[1:])
    return values.std(dim=0, correction=0)


def quantiles(values: Tensor, levels: tuple[float, ...] = QUANTILES) -> Tensor:
    """Quantiles over the first axis, ``(Q, ...)``; of no values, zeros."""
    if len(values) == 0:
        return values.new_zeros(len(levels), *values.shape[1:])
    return values.quantile(torch.tensor(levels, dtype=values.dtype, device=values.device), dim=0)
