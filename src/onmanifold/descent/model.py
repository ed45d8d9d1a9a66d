"""Local models of the objective in the latent coordinates, and their minimizers on the latent box.

Everything is a batch: one row a member.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from onmanifold.geometry import solve_spd, transport
from onmanifold.prior import Point


@dataclass(frozen=True)
class Rows:
    """A dataclass whose fields hold one row a member: tensors, points, other such objects."""

    def select(self, rows: Tensor | tuple[Tensor, ...]) -> Self:
        """The members ``rows`` (a mask or an index, or of more axes a tuple)."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: _select(value, rows) for name, value in values.items()})

    def merge(self, rows: Tensor, part: Self) -> Self:
        """These members, with ``part`` in the place of the members ``rows`` (an index)."""
        if len(rows) == 0:
            return self
        names = [field.name for field in fields(self)]
        merged = {n: _merge(getattr(self, n), rows, getattr(part, n)) for n in names}
        return replace(self, **merged)

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """All members of ``parts``, in order."""
        columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(cls)}
        return cls(
            **{n: (torch if isinstance(c[0], Tensor) else c[0]).cat(c) for n, c in columns.items()}
        )


def _select(value: Any, rows: Tensor | tuple[Tensor, ...]) -> Any:
    if value is None:  # not known of any
        return None
    return value[rows] if isinstance(value, Tensor) else value.select(rows)


def _merge(value: Any, rows: Tensor, part: Any) -> Any:
    if isinstance(value, Tensor):
        return value.index_copy(0, rows, part)
    if isinstance(value, Point):
        return Point(_merge(value.chart, rows, part.chart), _merge(value.z, rows, part.z))
    return value.merge(rows, part)


@dataclass(frozen=True)
class Model(Rows):
    """The objective to first order, and the metric.

    Attributes:
        misfit_gradient: ``(B, d)``.
        penalty_gradient: ``(B, d)``.
        metric: G = J^T J, regular also where charts have fewer coordinates, ``(B, d, d)``.
    """

    misfit_gradient: Tensor
    penalty_gradient: Tensor
    metric: Tensor

    @property
    def gradient(self) -> Tensor:
        """Of the objective, ``(B, d)``."""
        return self.misfit_gradient + self.penalty_gradient


@dataclass(frozen=True)
class FirstOrderModel(Model):
    """The same, and the tangent space.

    Attributes:
        columns: J, ``(B, d, *x_shape)``.
    """

    columns: Tensor

    @property
    def penalty_hessian(self) -> Tensor:
        """Zero: nothing is known of it."""
        return torch.zeros_like(self.metric)

    @property
    def natural_gradient(self) -> Tensor:
        """Coordinates of the Riemannian gradient of the misfit, ``(B, d)``."""
        return solve_spd(self.metric, self.misfit_gradient)

    def transport_from(self, before: FirstOrderModel) -> Tensor:
        """The matrix that carries tangents from ``before`` to here, ``(B, d, d)``."""
        return transport(self.metric, self.columns, before.columns)


@dataclass(frozen=True)
class QuadraticModel(Model):
    """The objective to second order, and the metric.

    Attributes:
        misfit_hessian: the Gauss-Newton matrix, ``(B, d, d)``.
        penalty_hessian: its positive part, ``(B, d, d)``.
        tangents: F, the derivative of the prediction, ``(B, d, m)`` of its m numbers; ``(B, 0, m)`` where it
            is not kept.
        prediction: where F was taken, ``(B, *y_shape)``.
    """

    misfit_hessian: Tensor
    penalty_hessian: Tensor
    tangents: Tensor
    prediction: Tensor

    @property
    def hessian(self) -> Tensor:
        """Of the objective, ``(B, d, d)``."""
        return self.misfit_hessian + self.penalty_hessian


def minimize_on_box(matrix: Tensor, gradient: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Minimize the model g.v + v.M v / 2 over the box lower <= v <= upper, from ``v = 0``.

    A primal active-set method: go towards the minimizer on the present face, stop at the first
    bound met, stay on it; at the minimizer of a face, release the bounds that descent points away
    from, each once. The model falls with every leg, so that the result is a descent direction
    also where it is not the minimizer; it is the minimizer when no bound is met.

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
    releasable = torch.ones_like(free)
    for _ in range(3 * gradient.shape[1]):
        leg = -solve_free(matrix, gradient + times(matrix, v), free)
        bound = torch.where(leg > 0, upper, lower)
        room = torch.where(leg == 0, torch.inf, (bound - v) / leg)
        share = room.amin(1, keepdim=True).clamp(max=1.0)
        met = free & (room <= share)
        v = torch.where(met, bound, v + share * leg)
        at_minimizer = ~met.any(1, keepdim=True)
        inwards = _free(gradient + times(matrix, v), lower - v, upper - v)
        release = at_minimizer & ~free & releasable & inwards
        free, releasable = (free & ~met) | release, releasable & ~release
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

    As a Hessian it keeps steps bounded along directions of negative curvature: about as long as the distance
    over which the gradient changes by its own size, whatever the coordinates are.

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
    # On a bound, with descent pointing outwards, or with no room at all: not free.
    outwards = ((upper <= 0) & (gradient < 0)) | ((lower >= 0) & (gradient > 0))
    return ~outwards & (lower < upper)
