"""What an atlas has learned, in numbers: overlap of its charts, coverage, distortion, use of the latent box.

Every function takes any :class:`~onmanifold.prior.ManifoldPrior`, an autoencoder with one chart included,
works in parts that fit in little memory, and draws its random numbers from a seed.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from onmanifold.errors import InputError
from onmanifold.prior import ManifoldPrior, Point
from onmanifold.priors.atlas.probes import (
    chart_distances,
    chart_samples,
    decoded,
    deviation,
    held_out,
    jacobians,
    parts,
    quantiles,
    singular_values,
)

LINK = 0.01  # share of a chart from which on two charts count as connected
INACTIVE = (
    0.1  # share of the latent variance; a coordinate whose codes make less of it says nothing
)
WITHOUT_EFFECT = 0.01  # of the strongest coordinate's effect


@dataclass(frozen=True)
class Overlap:
    """Which charts share how much.

    Attributes:
        shares: ``(K, K)``: the share of chart i's probability mass that chart j reproduces as well.
        tolerance: distance up to which a point counts as reproduced, in units of the unknown.
    """

    shares: Tensor
    tolerance: float


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
        return _share_within(self.to_atlas, self.tolerance)

    @property
    def on_manifold(self) -> float | None:
        """Share of the atlas's samples within the tolerance of the true manifold."""
        return _share_within(self.to_data, self.tolerance)


@dataclass(frozen=True)
class Distortion:
    """Singular values of the decoder's Jacobian in one chart.

    Attributes:
        singular_values: at samples of the chart, largest first, ``(m, d)``.
    """

    singular_values: Tensor

    @property
    def condition(self) -> Tensor:
        """Largest over smallest singular value, ``(m,)``: 1 where the chart is conformal."""
        return self.singular_values[:, 0] / self.singular_values[:, -1]

    @property
    def log_volume(self) -> Tensor:
        """Logarithm of the volume that a unit of latent volume becomes, ``(m,)``."""
        return self.singular_values.log().sum(dim=1)


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


@dataclass(frozen=True)
class Responsibilities:
    """Which charts explain the examples.

    Attributes:
        weights: share of the atlas's samples from each chart, ``(K,)``.
        usage: mean responsibility of each chart for the examples, ``(K,)``.
        largest: largest responsibility for each example, ``(n,)``.
        entropy: entropy of each example's responsibilities, in nats, ``(n,)``; 0: a single chart.
    """

    weights: Tensor
    usage: Tensor
    largest: Tensor
    entropy: Tensor


@dataclass(frozen=True)
class Exactness:
    """Largest ``|E_k(D_k(z)) - z|`` over samples, with the weights as they are and in float64."""

    as_stored: float
    float64: float


def overlap_tolerance(prior: ManifoldPrior, x: Tensor) -> float:
    """Distance within which points of two charts cannot be distinguished, in units of the unknown.

    It is twice the error that the atlas itself makes, the 95th percentile of the examples' distances to their
    best chart: if two charts both reproduce an example up to that error, their points are at most twice that
    far from each other. (Never below the examples' norm times the root of the dtype's rounding.)

    Args:
        prior: the atlas.
        x: held-out examples ``(B, *x_shape)``.
    """
    _, distances = chart_distances(prior, x)
    error = float(quantiles(distances.amin(dim=1), (0.95,)))
    size = float(x.flatten(1).norm(dim=1).mean())
    rounding = float(torch.finfo(prior.dtype).eps) ** 0.5
    return float(max(2 * error, rounding * size))


@torch.no_grad()
def overlap_graph(prior: ManifoldPrior, tolerance: float, n: int = 1000, seed: int = 0) -> Overlap:
    """Which charts share how much: the edges of the atlas's overlap graph.

    Args:
        prior: the atlas.
        tolerance: distance within which chart j reproduces a point of chart i, see
            :func:`overlap_tolerance`.
        n: samples of each chart's latent density.
        seed: their seed.

    Example:
        >>> from onmanifold import load_dataset, load_prior
        >>> prior = load_prior("two-circles")
        >>> tolerance = overlap_tolerance(prior, held_out(load_dataset("two-circles"), 500))
        >>> len(components(overlap_graph(prior, tolerance).shares))
        2
    """
    if not tolerance > 0:
        raise InputError(f"overlap_graph: tolerance has to be positive, got {tolerance}")
    shares = torch.eye(prior.num_charts, dtype=torch.float64)
    for i, z in enumerate(chart_samples(prior, n, seed)):
        if len(z) and prior.num_charts > 1:
            here = torch.full((len(z),), i, device=z.device)
            _, distances = chart_distances(prior, decoded(prior, Point(here, z)))
            shares[i] = (distances <= tolerance).double().mean(dim=0).cpu()
    return Overlap(shares, tolerance)


def components(shares: Tensor, threshold: float = LINK) -> tuple[tuple[int, ...], ...]:
    """Connected components of the overlap graph, each a tuple of charts.

    Args:
        shares: as in :class:`Overlap`, ``(K, K)``.
        threshold: two charts are linked if either shares at least this much of itself with the other.

    Example:
        >>> components(torch.tensor([[1.0, 0.2, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
        ((0, 1), (2,))
    """
    linked = torch.maximum(shares, shares.T) >= threshold
    number, label = connected_components(linked.numpy(), directed=False)
    return tuple(tuple((label == c).nonzero()[0].tolist()) for c in range(number))


def coverage(
    prior: ManifoldPrior, data: Any, n: int = 10_000, seed: int = 0, tolerance: float | None = None
) -> Coverage:
    """How much of the data the atlas covers, and how much of the atlas lies on the data's manifold.

    Args:
        prior: the atlas.
        data: a data set; where it has ``distance(x)``, the true distance to it, samples of the atlas are
            measured by it.
        n: number of held-out examples, and of samples of the atlas (of images at most 100: their true
            distance takes a fit to each).
        seed: seed of both.
        tolerance: distance that counts as covered. Default for vectors with a known ``noise``: three of its
            standard deviations and 0.02 diameters of the data; for other data there is none, and the
            distances speak for themselves.
    """
    x = held_out(data, n, seed).to(prior.device, prior.dtype)
    to_atlas = chart_distances(prior, x)[1].amin(dim=1)
    some = x[:2000].flatten(1)
    diameter = float(torch.cdist(some, some).max())
    if tolerance is None and x.ndim == 2 and hasattr(data, "noise"):
        tolerance = 3 * data.noise + 0.02 * diameter
    to_data = None
    if hasattr(data, "distance"):
        samples = n if x.ndim == 2 else min(n, 100)
        to_data = data.distance(decoded(prior, prior.sample(samples, seed)))
    relative = to_atlas / x.flatten(1).norm(dim=1).clamp(min=torch.finfo(x.dtype).tiny)
    return Coverage(to_atlas, relative, to_data, diameter, tolerance)


@torch.no_grad()
def distortion(prior: ManifoldPrior, n: int = 200, seed: int = 0) -> tuple[Distortion, ...]:
    """Singular values of the decoder's Jacobian at ``n`` samples of each chart."""
    return tuple(
        Distortion(singular_values(prior, z, k))
        for k, z in enumerate(chart_samples(prior, n, seed))
    )


@torch.no_grad()
def latent_usage(prior: ManifoldPrior, x: Tensor, n: int = 200) -> tuple[LatentUsage, ...]:
    """How the held-out examples ``(B, *x_shape)`` fill the latent box of the chart nearest to them.

    Args:
        prior: the atlas.
        x: the examples.
        n: at most so many of each chart, and as many latent samples, for derivatives and deviations.
    """
    codes, distances = chart_distances(prior, x)
    nearest = distances.argmin(dim=1)
    usages = []
    for k, samples in enumerate(chart_samples(prior, max(n, 1000))):
        own = codes[nearest == k, k]
        there = torch.full((len(own),), k, device=own.device)
        inside = prior.clamp(Point(there, own)).z
        reference = deviation(samples)
        lengths = [j.square().sum(dim=1) for j in jacobians(prior, inside[:n], k)]
        moves = torch.cat([own.new_empty(0, prior.dim), *lengths])
        effect = reference * moves.mean(dim=0).nan_to_num().sqrt()
        outside = (own != inside).any(dim=1).double().mean().nan_to_num()
        std = deviation(own)
        usages.append(LatentUsage(own, std, reference, effect, float(outside)))
    return tuple(usages)


@torch.no_grad()
def responsibilities(prior: ManifoldPrior, x: Tensor, seed: int = 0) -> Responsibilities:
    """Which charts explain the examples ``(B, *x_shape)``, and which of them the atlas draws."""
    gamma = torch.cat(
        [prior.responsibilities(part) for part in parts(x, prod(prior.x_shape))]
    ).double()
    drawn = torch.bincount(prior.sample(10_000, seed).chart, minlength=prior.num_charts)
    entropy = -torch.special.xlogy(gamma, gamma).sum(dim=1)
    return Responsibilities(
        drawn / drawn.sum(), gamma.mean(dim=0), gamma.amax(dim=1), entropy.clamp(min=0)
    )


@torch.no_grad()
def exactness(prior: ManifoldPrior, n: int = 200, seed: int = 0) -> Exactness:
    """How exactly the encoders undo the decoders, at ``n`` samples of the atlas."""

    def largest(some: ManifoldPrior) -> float:
        point = some.sample(n, seed)
        trip = some.encode(some.decode(point), point.chart).z - point.z
        return float(trip.abs().max())

    return Exactness(largest(prior), largest(copy.deepcopy(prior).double()))


def _share_within(distance: Tensor | None, tolerance: float | None) -> float | None:
    if distance is None or tolerance is None:
        return None
    return float((distance <= tolerance).double().mean())
