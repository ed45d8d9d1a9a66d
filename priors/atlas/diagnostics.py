"""What an atlas has learned, in numbers: overlap of its charts, coverage, distortion, use of the latent box.

Every function takes any :class:`~onmanifold.prior.ManifoldPrior`, an autoencoder with one chart included,
works in parts that fit in little memory, and draws its random numbers from a seed.

The distance of a point x to chart k is measured to ``D_k(E_k(x))``, with the code brought into the latent box
first, since descent never leaves it. That is an upper bound of the distance to the chart's nearest point.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from onmanifold.checks import as_generator, check_batch, check_count
from onmanifold.errors import InputError
from onmanifold.geometry import jacobian
from onmanifold.prior import ManifoldPrior, Point
from onmanifold.priors.datasets import draw_examples, stream

LINK = 0.01  # share of a chart from which on two charts count as connected
INACTIVE = 0.1  # of the latent variance; a coordinate whose codes make less of it says nothing
WITHOUT_EFFECT = 0.01  # of the strongest coordinate's effect
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
ENTRIES = 2**21  # worked on at once: all of a point cloud, 128 images of 128 x 128


@dataclass(frozen=True)
class Coverage:
    """How far the data are from the atlas, and the atlas from the data.

    Attributes:
        to_atlas: distance of held-out examples to the atlas, its best chart, ``(n,)``.
        relative: the same as a share of the example's norm, ``(n,)``.
        to_data: distance of samples of the atlas to the true manifold, ``(n,)``; None if it is unknown.
        diameter: largest distance between two examples.
        tolerance: distance up to which a point counts as covered; None where none is defined.
    """

    to_atlas: Tensor
    relative: Tensor
    to_data: Tensor | None
    diameter: float
    tolerance: float | None

    @property
    def covered(self) -> float | None:
        """Share of the data within the tolerance of the atlas."""
        return self._within(self.to_atlas)

    @property
    def on_manifold(self) -> float | None:
        """Share of the atlas's samples within the tolerance of the true manifold."""
        return self._within(self.to_data)

    def _within(self, distance: Tensor | None) -> float | None:
        if distance is None or self.tolerance is None:
            return None
        return float((distance <= self.tolerance).double().mean())


@dataclass(frozen=True)
class LatentUsage:
    """How the codes of the examples that one chart explains best fill its latent box.

    Attributes:
        codes: ``E_k(x)`` of these examples, before they are brought into the box, ``(m, d)``.
        std: their standard deviation in each coordinate, ``(d,)``.
        reference: that of the latent density, ``(d,)``.
        effect: how far the decoded point moves for one standard deviation of the latent density in each
            coordinate, root mean square over the examples, in units of the unknown, ``(d,)``.
        outside: share of the codes outside the box.
    """

    codes: Tensor
    std: Tensor
    reference: Tensor
    effect: Tensor
    outside: float

    @property
    def unused(self) -> tuple[int, ...]:
        """Coordinates that say nothing: their codes hardly vary (posterior collapse), or have no effect.

        An encoder's codes and its noise together have the variance of the latent density; a coordinate counts
        as collapsed if the codes make less than a tenth of it. (Burda, Grosse, Salakhutdinov, ICLR 2016,
        section 5.2, draw the line at 0.01.) It is without effect if it moves the decoded point by
        less than 0.01 of what the strongest one does.
        """
        if len(self.codes) < 2:
            return ()
        collapsed = self.std.square() < INACTIVE * self.reference.square()
        idle = collapsed | (self.effect < WITHOUT_EFFECT * self.effect.max())
        return tuple(idle.nonzero().squeeze(1).tolist())


def overlap_tolerance(prior: ManifoldPrior, x: Tensor) -> float:
    """Distance within which points of two charts cannot be distinguished, in units of the unknown.

    It is twice the error that the atlas itself makes, the 95th percentile of the examples' distances to their
    best chart: if two charts both reproduce an example up to that error, their points are at most twice that
    far from each other. (Never below the examples' norm times the root of the dtype's rounding.)

    Args:
        prior: the atlas.
        x: held-out examples ``(B, *x_shape)``.
    """
    error = float(quantiles(chart_distances(prior, x).amin(dim=1), (0.95,)))
    size = float(x.flatten(1).norm(dim=1).mean())
    rounding = float(torch.finfo(prior.dtype).eps) ** 0.5
    return float(max(2 * error, rounding * size))


@torch.no_grad()
def overlap_graph(prior: ManifoldPrior, tolerance: float, n: int = 1000, seed: int = 0) -> Tensor:
    """Which charts share how much: the edges of the atlas's overlap graph.

    Args:
        prior: the atlas.
        tolerance: distance within which chart j reproduces a point of chart i, see
            :func:`overlap_tolerance`.
        n: samples of each chart's latent density.
        seed: their seed.

    Returns:
        ``(K, K)``: the share of chart i's probability mass that chart j reproduces as well.

    Example:
        >>> from onmanifold import load_dataset, load_prior
        >>> prior = load_prior("two-circles")
        >>> tolerance = overlap_tolerance(prior, held_out(load_dataset("two-circles"), 500))
        >>> len(components(overlap_graph(prior, tolerance)))
        2
    """
    if not tolerance > 0:
        raise InputError(f"overlap_graph: tolerance has to be positive, got {tolerance}")
    shares = torch.eye(prior.num_charts, dtype=torch.float64)
    for i, z in enumerate(chart_samples(prior, n, seed)):
        if len(z) and prior.num_charts > 1:
            distances = chart_distances(prior, decoded(prior, _in_chart(i, z)))
            shares[i] = (distances <= tolerance).double().mean(dim=0).cpu()
    return shares


def components(shares: Tensor, threshold: float = LINK) -> tuple[tuple[int, ...], ...]:
    """Connected components of the overlap graph, each a tuple of charts.

    Args:
        shares: as :func:`overlap_graph` gives them, ``(K, K)``.
        threshold: two charts are linked if either shares at least this much of itself with the other.

    Example:
        >>> components(torch.tensor([[1.0, 0.2, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
        ((0, 1), (2,))
    """
    linked = torch.maximum(shares, shares.T) >= threshold
    number, label = connected_components(linked.numpy(), directed=False)
    return tuple(tuple((label == c).nonzero()[0].tolist()) for c in range(number))


def coverage(prior: ManifoldPrior, data: Any, n: int = 10_000, seed: int = 0) -> Coverage:
    """How much of the data the atlas covers, and how much of the atlas lies on the data's manifold.

    For vectors with a known ``noise`` the distance that counts as covered is three of its standard deviations
    and 0.02 diameters of the data; for other data there is none, and the distances speak for themselves.

    Args:
        prior: the atlas.
        data: a data set; where it has ``distance(x)``, the true distance to it, samples of the atlas are
            measured by it.
        n: number of held-out examples, and of samples of the atlas.
        seed: seed of both.
    """
    x = held_out(data, n, seed).to(prior.device, prior.dtype)
    to_atlas = chart_distances(prior, x).amin(dim=1)
    some = x[:2000].flatten(1)
    diameter = float(torch.cdist(some, some).max())
    tolerance = to_data = None
    if x.ndim == 2 and hasattr(data, "noise"):
        tolerance = 3 * data.noise + 0.02 * diameter
    if hasattr(data, "distance"):
        to_data = data.distance(decoded(prior, prior.sample(n, seed)))
    return Coverage(to_atlas, relative_to_norm(to_atlas, x), to_data, diameter, tolerance)


@torch.no_grad()
def distortion(prior: ManifoldPrior, n: int = 200, seed: int = 0) -> tuple[Tensor, ...]:
    """Singular values of the decoder's Jacobian at ``n`` samples of each chart, largest first, ``(n, d)``.

    Their ratio is 1 where the chart is conformal. None is below what rounding makes of the largest, so that
    ratios and logarithms are finite.
    """
    found = []
    for k, z in enumerate(chart_samples(prior, n, seed)):
        limits = torch.finfo(z.dtype)
        each = [torch.linalg.svdvals(j) for j in jacobians(prior, z, k)]
        values = torch.cat([z.new_empty(0, prior.dim), *each])
        found.append(torch.maximum(values, limits.eps * values[:, :1] + limits.tiny))
    return tuple(found)


def condition(singular_values: Tensor) -> Tensor:
    """Largest over smallest singular value, ``(m, d)`` to ``(m,)``."""
    return singular_values[:, 0] / singular_values[:, -1]


@torch.no_grad()
def latent_usage(prior: ManifoldPrior, x: Tensor, n: int = 200) -> tuple[LatentUsage, ...]:
    """How the held-out examples ``(B, *x_shape)`` fill the latent box of the chart nearest to them.

    Args:
        prior: the atlas.
        x: the examples.
        n: at most so many of each chart, and as many latent samples, for derivatives and deviations.
    """
    nearest = chart_distances(prior, x).argmin(dim=1)
    usages = []
    for k, samples in enumerate(chart_samples(prior, max(n, 1000))):
        own = [prior.encode_chart(part, k) for part in parts(x[nearest == k], prod(x.shape[1:]))]
        codes = torch.cat([x.new_empty(0, prior.dim), *own])
        inside = prior.clamp(_in_chart(k, codes)).z
        reference = deviation(samples)
        lengths = [j.square().sum(dim=1) for j in jacobians(prior, inside[:n], k)]
        moves = torch.cat([codes.new_empty(0, prior.dim), *lengths])
        effect = reference * moves.mean(dim=0).nan_to_num().sqrt()
        outside = (codes != inside).any(dim=1).double().mean().nan_to_num()
        usages.append(LatentUsage(codes, deviation(codes), reference, effect, float(outside)))
    return tuple(usages)


@torch.no_grad()
def responsibilities(prior: ManifoldPrior, x: Tensor) -> Tensor:
    """Which charts explain the examples ``(B, *x_shape)``: ``(B, K)``."""
    each = [prior.responsibilities(part) for part in parts(x, prod(prior.x_shape))]
    return torch.cat(each).double()


@torch.no_grad()
def decode_encode(prior: ManifoldPrior, n: int = 200, seed: int = 0) -> float:
    """Largest ``|E_k(D_k(z)) - z|`` over ``n`` samples: how exactly the encoders undo the decoders."""
    point = prior.sample(n, seed)
    trip = prior.encode(prior.decode(point), point.chart).z - point.z
    return float(trip.abs().max())


# What all of them look at -------------------------------------------------------------------------


def held_out(data: Any, n: int, seed: int = 0) -> Tensor:
    """``n`` examples of a data set ``(n, *x_shape)`` that training never saw."""
    check_count(n, "number of examples")
    return draw_examples(data, "held-out", n, stream(seed, "held-out"))


def relative_to_norm(distance: Tensor, x: Tensor) -> Tensor:
    """Distances ``(B,)`` as shares of the norms of examples ``(B, *x_shape)``.

    Where a norm is 0 the mean of all takes its place.

    Example:
        >>> relative_to_norm(torch.ones(2), torch.tensor([[0.0, 0.0], [0.0, 4.0]]))
        tensor([0.5000, 0.2500])
    """
    norm = x.flatten(1).norm(dim=1)
    norm = torch.where(norm > 0, norm, norm.mean())
    return distance / norm.clamp(min=torch.finfo(x.dtype).tiny)


def chart_samples(prior: ManifoldPrior, n: int, seed: int = 0) -> list[Tensor]:
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
        point = Point.cat(found)
        if int(torch.bincount(point.chart, minlength=prior.num_charts).min()) >= n:
            break
    z = prior.clamp(point).z
    return [z[point.chart == k][:n] for k in range(prior.num_charts)]


@torch.no_grad()
def chart_distances(prior: ManifoldPrior, x: Tensor) -> Tensor:
    """Distances of points ``(B, *x_shape)`` to every chart, ``(B, K)``."""
    check_batch(x, prior.x_shape, "x", finite=True)
    return torch.cat([prior.views(part)[1] for part in parts(x, prod(prior.x_shape))])


@torch.no_grad()
def decoded(prior: ManifoldPrior, point: Point) -> Tensor:
    """The points ``(B, *x_shape)``."""
    rows = torch.arange(len(point), device=point.z.device)
    return torch.cat([prior.decode(point.select(r)) for r in parts(rows, prod(prior.x_shape))])


def jacobians(prior: ManifoldPrior, z: Tensor, chart: int) -> Iterator[Tensor]:
    """Jacobians ``(b, n, d)`` at latent points ``(B, d)`` of a chart, some points at a time."""
    for some in parts(z, prod(prior.x_shape) * (1 + prior.dim)):
        yield jacobian(prior, _in_chart(chart, some)).flatten(2).mT


def _in_chart(chart: int, z: Tensor) -> Point:
    return Point(torch.full((len(z),), chart, device=z.device), z)


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
