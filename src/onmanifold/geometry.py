"""Geometry of a learned manifold: tangents, metric, gradients, changes of chart.

A point is ``x = D_k(z)``. The Jacobian ``J`` of ``D_k`` spans the tangent space. A tangent vector
is given by its latent coordinates ``v`` and stands for ``J v`` in the space of x, whose
inner product makes ``G = J^T J`` the metric of the latent coordinates.

Where charts differ in dimension, columns of J, gradients and tangents are 0 for coordinates that a chart
does not have.

Reference: G. S. Alberti, J. Hertrich, M. Santacesaria, S. Sciutto, Manifold Learning by Mixture
    Models of VAEs for Inverse Problems, JMLR 25 (2024), section 4.
"""

from __future__ import annotations

import torch
from torch import Tensor

from onmanifold.autodiff import gradient, gradient_and_hessian
from onmanifold.checks import check_batch
from onmanifold.decoder_error import RANK, DecoderError
from onmanifold.errors import InputError
from onmanifold.prior import ManifoldPrior, Point, charts_overlap, pad_to

_RIM = 0.1  # outermost share of the latent box
_FEW_STEPS = 8  # of a search that starts where the encoders say
_AT_ONCE = 250  # examples projected onto the manifold together
_DAMPING = 1e-3  # at first, as a share of the metric's mean diagonal


def decode_with_jacobian(
    prior: ManifoldPrior, point: Point, width: int | None = None
) -> tuple[Tensor, Tensor]:
    """Decode and differentiate in one pass.

    Args:
        prior: the manifold.
        point: B points.
        width: number n of columns, at least that of the largest chart among the points; by default d.

    Returns:
        ``x = D_k(z)``, shape ``(B, *x_shape)``, and the columns of J, shape ``(B, n, *x_shape)``.
    """
    columns = prior.dim if width is None else width
    both = prior.map_charts(prior.columns_chart, point, 1 + columns)
    return both[:, 0], both[:, 1:]


def jacobian(prior: ManifoldPrior, point: Point) -> Tensor:
    """Columns of the decoder's Jacobian J, shape ``(B, d, *x_shape)``."""
    return decode_with_jacobian(prior, point)[1]


def log_prob_gradient(prior: ManifoldPrior, point: Point) -> Tensor:
    """Gradient ``(B, d)`` of the latent log-density."""
    return gradient(lambda z: prior.log_prob(point.at(z)), point.z)


def log_prob_derivatives(prior: ManifoldPrior, point: Point) -> tuple[Tensor, Tensor]:
    """Gradient ``(B, d)`` and Hessian ``(B, d, d)`` of the latent log-density."""

    def log_prob(z: Tensor) -> Tensor:
        charts = point.chart.repeat_interleave(len(z) // len(point))
        return prior.log_prob(Point(charts, z))

    return gradient_and_hessian(log_prob, point.z)


def pullback_metric(columns: Tensor, active: Tensor | None = None) -> Tensor:
    """G = J^T J: the columns ``(B, n, *x_shape)`` to ``(B, d, d)``.

    Args:
        columns: of J; the first n if all others are 0.
        active: which coordinates each chart has, ``(B, d)`` boolean, if not all of n; the others get
            the metric's own size on the diagonal, so that it stays regular.
    """
    flat = columns.flatten(2)
    metric = flat @ flat.mT
    return metric if active is None else filled(metric, active)


def filled(matrix: Tensor, active: Tensor, size: float | None = None) -> Tensor:
    """Pad matrices ``(B, n, n)`` to ``(B, d, d)``, with ``size`` on the diagonal of inactive coordinates.

    Args:
        matrix: zero in rows and columns of inactive coordinates.
        active: which coordinates count, ``(B, d)`` boolean.
        size: by default the largest entry of the matrix's own diagonal; 1 where all are 0.
    """
    matrix = pad_to(matrix, *2 * active.shape[1:])
    if bool(active.all()):
        return matrix
    diagonal = matrix.diagonal(dim1=1, dim2=2)
    largest = diagonal.amax(1, keepdim=True)
    own = torch.where(largest > 0, largest, 1.0) if size is None else size
    return matrix + torch.diag_embed(torch.where(active, 0.0, own).to(matrix))


def push_forward(columns: Tensor, v: Tensor) -> Tensor:
    """J v: columns ``(B, d, *x_shape)`` and coordinates ``(B, d)`` to ``(B, *x_shape)``."""
    return torch.einsum("bd...,bd->b...", columns, v)


def pull_back(columns: Tensor, gradient: Tensor) -> Tensor:
    """J^T g: columns ``(B, d, *x_shape)`` and a gradient ``(B, *x_shape)`` to ``(B, d)``."""
    flat = gradient.reshape(len(gradient), -1, 1)
    return (columns.flatten(2) @ flat).squeeze(2)


def transport(metric: Tensor, columns: Tensor, before: Tensor) -> Tensor:
    """Vector transport by projection, as matrices ``(B, d, d)`` of latent coordinates.

    It maps the tangent ``v`` at the point before to ``T v``: ``J v``, projected onto the tangent space at
    the point after. The two points may be in different charts.

    Args:
        metric: J^T J at the point after, ``(B, d, d)``.
        columns: J there, ``(B, d, *x_shape)``.
        before: J at the point before, ``(B, d, *x_shape)``.
    """
    return solve_spd(metric, columns.flatten(2) @ before.flatten(2).mT)


def solve_spd(matrix: Tensor, rhs: Tensor) -> Tensor:
    """Solve positive semidefinite systems, singular ones included: ``(B, d, d) v = (B, d)`` or ``(B, d, m)``.

    With the metric and partial derivatives in the latent coordinates, v are the coordinates of the
    Riemannian gradient: pushed forward by J it is the Euclidean gradient's tangential part.

    The diagonal is raised by the rounding error of the smallest eigenvalues, and by more where
    the factorization still fails. Members do not depend on each other.
    """
    d = matrix.shape[-1]
    eye = torch.eye(d, dtype=matrix.dtype, device=matrix.device)
    limits = torch.finfo(matrix.dtype)
    largest = matrix.diagonal(dim1=-2, dim2=-1).abs().amax(-1)
    shift = largest * (d * limits.eps) + limits.tiny
    for _ in range(8):
        factor, info = torch.linalg.cholesky_ex(matrix + shift[:, None, None] * eye)
        if not bool(info.any()):
            break
        shift = torch.where(info > 0, shift * 100, shift)
    columns = rhs.unsqueeze(-1) if rhs.ndim == 2 else rhs
    return torch.cholesky_solve(columns, factor).reshape(rhs.shape)


def project_codes(prior: ManifoldPrior, point: Point) -> Point:
    """The points, clamped to their boxes and projected to the codes of the data."""
    return prior.clamp(prior.project_code(prior.clamp(point)))


def locate(prior: ManifoldPrior, x: Tensor) -> Point:
    """The point of the manifold nearest to each ``x`` of ``(B, *x_shape)``, inside its latent box.

    Where the encoders are exact inverses, it is the point that they give; where they are learned, a local
    search continues from there.

    Example:
        >>> from onmanifold import load_prior, locate
        >>> prior = load_prior("two-circles")
        >>> x = prior.decode(prior.sample(3, 0))
        >>> bool((prior.decode(locate(prior, x)) - x).abs().max() < 1e-2)
        True
    """
    found = prior.recognize(x)
    return found if prior.inverse_error == 0 else nearest(prior, found, x)


@torch.no_grad()
def nearest(prior: ManifoldPrior, point: Point, x: Tensor, steps: int = 30) -> Point:
    """The point of the manifold nearest to ``x`` ``(B, *x_shape)``, by a local search from ``point``.

    Levenberg-Marquardt steps in the chart that each point is in, each followed by the prior's
    ``project_code``.

    Args:
        prior: the manifold.
        point: the initial points.
        x: the targets.
        steps: maximal number of steps.
    """
    eye = torch.eye(prior.dim, dtype=x.dtype, device=x.device)
    resolution = 10 * torch.finfo(x.dtype).eps
    point = project_codes(prior, point)
    z, mu = point.z.clone(), x.new_full((len(x),), _DAMPING)
    rows = torch.arange(len(x), device=x.device)  # not yet converged
    for _ in range(steps):
        chart = point.chart[rows]
        here, columns = decode_with_jacobian(prior, Point(chart, z[rows]))
        rest = x[rows] - here
        metric = pullback_metric(columns)
        scale = mu[rows] * mean_diagonal(metric, prior.active(chart))
        v = solve_spd(metric + scale[:, None, None] * eye, pull_back(columns, rest))
        tried = project_codes(prior, Point(chart, z[rows] + v))
        miss = (x[rows] - prior.decode(tried)).flatten(1).norm(dim=1)
        better = miss < rest.flatten(1).norm(dim=1)
        z[rows] = torch.where(better[:, None], tried.z, z[rows])
        mu[rows] = torch.where(better, mu[rows] / 5, mu[rows] * 5)
        moved = (v.norm(dim=1) > resolution * (1 + z[rows].norm(dim=1))) & (mu[rows] < 1e6)
        rows = rows[moved]
        if len(rows) == 0:
            break
    return Point(point.chart, z)


@torch.no_grad()
def measure_decoder_error(prior: ManifoldPrior, x: Tensor, rank: int = RANK) -> DecoderError:
    """How far genuine unknowns ``(n, *x_shape)``, which the prior has not learned from, lie off it.

    With ``prior.decoder_error = measure_decoder_error(prior, x)`` the prior knows it: it is stored and
    loaded with the weights, and :func:`~onmanifold.solve` counts it as a part of normal noise.

    Raises:
        ValueError: fewer than two unknowns, or of another shape than the prior's.

    Example:
        >>> from onmanifold import load_dataset, load_prior
        >>> prior = load_prior("two-circles")
        >>> x, _ = load_dataset("two-circles", noise=0.1).sample(500, torch.Generator().manual_seed(0))
        >>> bool(0.05 < measure_decoder_error(prior, x).variance.sum().sqrt() < 0.15)
        True
    """
    check_batch(x, prior.x_shape, "x", finite=True)
    if len(x) < 2:
        raise InputError(f"the decoder's error needs examples, got {len(x)}")
    exact = prior.inverse_error == 0 and prior.num_charts == 1

    def on_manifold(part: Tensor) -> Tensor:
        found = prior.recognize(part)
        return prior.decode(found if exact else nearest(prior, found, part, _FEW_STEPS))

    there = torch.cat([on_manifold(part) for part in x.split(_AT_ONCE)])
    return DecoderError.of(x - there, rank)


def mean_diagonal(matrix: Tensor, active: Tensor) -> Tensor:
    """Mean of the diagonal of matrices ``(B, d, d)`` over active coordinates, 0 at the others: ``(B,)``."""
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1) / active.sum(-1).clamp(min=1)


def transition(
    prior: ManifoldPrior, point: Point, x: Tensor, margin: float = 0.1
) -> tuple[Point, Tensor]:
    """Move each point to another chart if that one represents it better.

    That is the chart of the highest responsibility, if it exceeds the present chart's by a margin.
    For a point on the border of its latent box, beyond which its chart is not valid, it is the chart
    whose projection is nearest to ``x``.

    Args:
        prior: the atlas.
        point: points, B of them.
        x: their decoded values, ``(B, *x_shape)``.
        margin: how far the other chart's responsibility has to exceed the present one's.

    Returns:
        The points, with coordinates ``E_k'(x)`` in the new chart k', and which have moved, ``(B,)``
        boolean.
    """
    stay = torch.zeros_like(point.chart, dtype=torch.bool)
    if not charts_overlap(prior) or len(point) == 0:
        return point, stay
    share = prior.responsibilities_at(point, x)
    best, chart = share.max(dim=1)
    present = share.gather(1, point.chart.unsqueeze(1)).squeeze(1)
    moves = best > present + margin
    stuck = (on_border(prior, point).any(dim=1) & ~moves).nonzero().squeeze(1)
    if len(stuck):
        own, distances = point.chart[stuck].unsqueeze(1), prior.views(x[stuck])[1]
        nearest_other = distances.scatter(1, own, torch.inf).argmin(dim=1)
        chart = chart.index_copy(0, stuck, nearest_other)
        moves = moves.index_fill(0, stuck, True)
    rows = moves.nonzero().squeeze(1)
    if len(rows) == 0:
        return point, stay
    z = prior.clamp(prior.encode(x[rows], chart[rows])).z
    return Point(torch.where(moves, chart, point.chart), point.z.index_copy(0, rows, z)), moves


def on_border(prior: ManifoldPrior, point: Point, rim: float = 0.0) -> Tensor:
    """Which coordinates are on the border of the box, or in its outermost share ``rim``: ``(B, d)``."""
    box = prior.box_half_width(point.chart, point.z)
    return (point.z.abs() >= (1 - rim) * box) & prior.active(point.chart)


def neighbour(prior: ManifoldPrior, point: Point, seen: Tensor) -> tuple[Point, Tensor]:
    """For points close to the border of their latent box, the nearest point of another chart.

    Close is the outermost tenth of the box, where a chart has seen few examples or none. A
    chart is a neighbour if its projection is nearer than the centre of the point's own chart.

    Args:
        prior: the atlas.
        point: points, B of them.
        seen: charts to leave out, the point's own among them, ``(B, K)`` boolean.

    Returns:
        The points of the neighbours, and which of the given points have one, ``(B,)`` boolean; for
        the others, they themselves.
    """
    if not charts_overlap(prior):
        return point, torch.zeros_like(point.chart, dtype=torch.bool)
    close = on_border(prior, point, _RIM).any(dim=1) & ~seen.all(dim=1)
    rows = close.nonzero().squeeze(1)
    if len(rows) == 0:
        return point, close
    own = point.select(rows)
    x, centre = (prior.decode(own.at(z)) for z in (own.z, torch.zeros_like(own.z)))
    distances = torch.where(seen[rows], torch.inf, prior.views(x)[1]).nan_to_num(nan=torch.inf)
    gap, chart = distances.min(dim=1)
    near = gap < (x - centre).flatten(1).norm(dim=1)
    if not bool(near.any()):
        return point, torch.zeros_like(close)
    rows, chart = rows[near], chart[near]
    z = prior.clamp(prior.encode(x[near], chart)).z
    moved = Point(point.chart.index_copy(0, rows, chart), point.z.index_copy(0, rows, z))
    return moved, torch.zeros_like(close).index_fill(0, rows, True)
