"""Small dense quadratic models on the latent box, a batch at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from onmanifold.geometry import solve_spd


def minimize_on_box(matrix: Tensor, gradient: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Minimize the model g.v + v.M v / 2 over the box lower <= v <= upper, from ``v = 0``.

    A primal active-set method: go towards the minimizer on the present face, stop at the first
    border met, stay on it; at the minimizer of a face, leave the borders that descent points away
    from, each once. The model falls with every leg, so that the result is a descent direction
    whatever was cut off; it is the minimizer itself when no border is met.

    Args:
        matrix: M, positive semidefinite, ``(B, d, d)``.
        gradient: g, ``(B, d)``.
        lower: lower bounds, at most 0, ``(B, d)``.
        upper: upper bounds, at least 0, ``(B, d)``.

    Returns:
        v, shape ``(B, d)``.
    """
    v = torch.zeros_like(gradient)
    free = _free(gradient, lower, upper)
    bound = torch.ones_like(free)  # may still be released
    for _ in range(3 * gradient.shape[1]):
        slope = gradient + times(matrix, v)
        leg = -solve_free(matrix, slope, free)
        border = torch.where(leg > 0, upper, lower)
        room = torch.where(leg == 0, torch.inf, (border - v) / leg)
        share = room.amin(1, keepdim=True).clamp(max=1.0)
        met = free & (room <= share)
        v = torch.where(met, border, v + share * leg)
        slope = gradient + times(matrix, v)
        settled = ~met.any(1, keepdim=True)
        release = settled & ~free & bound & _free(slope, lower - v, upper - v)
        free, bound = (free & ~met) | release, bound & ~release
        if not bool((met | release).any()):
            break
    return v


def solve_free(matrix: Tensor, rhs: Tensor, free: Tensor) -> Tensor:
    """Solve M v = rhs among the free coordinates ``(B, d)``; the others of v are 0."""
    both = free.unsqueeze(1) & free.unsqueeze(2)
    reduced = torch.where(both, matrix, 0.0)
    # An identity block keeps the system square; of the matrix's own size, to keep it well scaled.
    size = matrix.diagonal(dim1=-2, dim2=-1).abs().amax(-1, keepdim=True)
    reduced = reduced + torch.diag_embed(torch.where(free, 0.0, size))
    return torch.where(free, solve_spd(reduced, torch.where(free, rhs, 0.0)), 0.0)


def model_decrease(matrix: Tensor, gradient: Tensor, v: Tensor) -> Tensor:
    """How far the model g.v + v.M v / 2 falls from 0 to ``v``: ``(B,)``."""
    return -((gradient + 0.5 * times(matrix, v)) * v).sum(1)


def times(matrix: Tensor, v: Tensor) -> Tensor:
    """Matrices ``(B, d, d)`` times vectors ``(B, d)``."""
    return (matrix @ v.unsqueeze(2)).squeeze(2)


def inner(metric: Tensor, v: Tensor, w: Tensor) -> Tensor:
    """<v, w> in the metric ``(B, d, d)``: ``(B,)``."""
    return (times(metric, v) * w).sum(1)


def length(metric: Tensor, v: Tensor) -> Tensor:
    """|v| in the metric ``(B, d, d)``: ``(B,)``."""
    return inner(metric, v, v).clamp(min=0.0).sqrt()


def projected_norm(metric: Tensor, gradient: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Length of the Riemannian gradient among the coordinates free to descend: ``(B,)``."""
    free = _free(gradient, lower, upper)
    kept = torch.where(free, gradient, 0.0)
    return (kept * solve_free(metric, gradient, free)).sum(1).clamp(min=0.0).sqrt()


def clip_to_psd(matrix: Tensor) -> Tensor:
    """The positive semidefinite matrix nearest to a symmetric one, ``(B, d, d)``."""
    values, vectors = torch.linalg.eigh(matrix)
    clipped: Tensor = (vectors * values.clamp(min=0.0).unsqueeze(1)) @ vectors.mT
    return clipped


def magnitude(matrix: Tensor, metric: Tensor) -> Tensor:
    """A symmetric matrix ``(B, d, d)`` with its eigenvalues' absolute values, relative to a metric.

    As curvature it keeps steps bounded along directions that bend downwards, and as long as the distance
    over which the slope changes by its own size, whatever the coordinates are.

    Reference: Y. Dauphin et al., Identifying and attacking the saddle point problem in high-dimensional
    non-convex optimization, NeurIPS 2014.
    """
    scales, axes = torch.linalg.eigh(metric)
    least = scales[:, -1:].abs() * (metric.shape[1] * torch.finfo(metric.dtype).eps)
    root = axes * scales.maximum(least).clamp(min=torch.finfo(metric.dtype).tiny).sqrt().unsqueeze(
        1
    )
    inverse = root / root.square().sum(1, keepdim=True)  # columns of root are orthogonal
    values, vectors = torch.linalg.eigh(inverse.mT @ matrix @ inverse)
    back = root @ vectors
    result: Tensor = (back * values.abs().unsqueeze(1)) @ back.mT
    return result


def _free(gradient: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    # On a border, with descent pointing outwards, or with no room at all: not free.
    outwards = ((upper <= 0) & (gradient < 0)) | ((lower >= 0) & (gradient > 0))
    return ~outwards & (lower < upper)
