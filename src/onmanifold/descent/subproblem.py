"""The step that minimizes a quadratic misfit plus the penalty as it really is."""

from __future__ import annotations

import torch
from torch import Tensor

from onmanifold.descent.derivatives import Model, Slope
from onmanifold.descent.problem import Problem
from onmanifold.descent.quadratic import minimize_on_box, model_decrease, times
from onmanifold.prior import Point

_ROUNDS = 30
_HALVINGS = 16
_ACCURACY = 0.1  # share of its decrease by which a model of the penalty may be wrong
_WORTHWHILE = 0.02  # share of what is gained already that a further round has to add


def composite_step(
    problem: Problem, point: Point, model: Slope | Model, matrix: Tensor
) -> tuple[Tensor, Tensor]:
    """Minimize ``g.v + v.M v / 2 + R(z + v)`` over v in the latent box, about, and never above 0.

    The penalty R costs nothing next to the operator, and may have kinks of which its derivatives at
    ``z`` know nothing. So it is modelled again and again: by its slope at the best v so far, and a
    curvature. Where R rises above that, the coordinates whose slope turned against them may go just
    past half the turn, and the others are solved for again: a kink becomes a border, which holds
    back who runs into it, and nobody else. A smooth penalty has no kinks to run into: there the step is
    halved as a whole, until the model holds.

    Args:
        problem: B members.
        point: where they are.
        model: g is the misfit's gradient there, R has the slope and the bend given there.
        matrix: M, positive semidefinite, ``(B, d, d)``.

    Returns:
        v, shape ``(B, d)``, and the decrease of the penalty ``R(z) - R(z + v)``, ``(B,)``.
    """
    box = problem.bounds(point)
    v = torch.zeros_like(model.slope)
    if not problem.weighted:
        return minimize_on_box(matrix, model.gradient, *box), v.sum(1)
    start = value = problem.penalty(point)
    slope, bend, gained = model.slope, model.bend, torch.zeros_like(value)
    (low, high), going = box, torch.isfinite(value)
    cut, s = torch.zeros_like(going), v
    smooth = not problem.prior.kinked
    rounding = 10 * torch.finfo(value.dtype).eps * value.abs()
    for _ in range(_ROUNDS):
        gradient = model.gradient + times(matrix, v) + slope
        s = 0.5 * s if smooth else s
        rows = (going & ~(cut & smooth)).nonzero().squeeze(1)
        if len(rows):
            parts = (t[rows] for t in (matrix + bend, gradient, low, high))
            s = s.index_copy(0, rows, minimize_on_box(*parts))
        after, turn = _look(problem, point, v + s, slope)
        bent = times(bend, s)
        promised = model_decrease(matrix + bend, gradient, s)
        above = after - value - ((slope + 0.5 * bent) * s).sum(1)  # of R over its model
        covered = going & (above <= _ACCURACY * promised + rounding)

        # Where the model holds, go on from there, with the curvature seen on the way, ...
        v = torch.where(covered[:, None], v + s, v)
        slope = torch.where(covered[:, None], slope + turn, slope)
        value = torch.where(covered, after, value)
        secant = torch.diag_embed(_ratio(turn, s).clamp(min=0.0))
        bend = torch.where(covered[:, None, None], secant, bend)
        gain = promised - above
        gained = torch.where(covered, gained + gain, gained)
        # ... until that gains no more, or the model was right and its minimizer not cut off.
        right = (above.abs() <= _ACCURACY * promised) & ~cut
        going = going & ~(covered & (right | (gain <= _WORTHWHILE * gained + rounding)))
        if not bool(going.any()):
            break
        # Elsewhere set borders.
        cut = going & ~covered
        share = torch.ones_like(s)
        if bool(cut.any()) and not smooth:
            share = _half_turn(problem, point, v, s, slope, turn, bent)
        up, down = (share < 1) & (s > 0), (share < 1) & (s < 0)
        free = covered[:, None]
        high = torch.where(free, box[1] - v, torch.where(up, share * s, high))
        low = torch.where(free, box[0] - v, torch.where(down, share * s, low))
    return v, start - value


def _look(problem: Problem, point: Point, v: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """The penalty at ``z + v``, and by how much its gradient differs from ``slope``."""
    target = Point(point.chart, point.z + v)
    return problem.penalty(target), problem.penalty_gradient(target) - slope


def _half_turn(
    problem: Problem, point: Point, v: Tensor, s: Tensor, slope: Tensor, turn: Tensor, bent: Tensor
) -> Tensor:
    """The share of each coordinate's step after which its slope has made half its turn: ``(B, d)``.

    1 where the slope did not turn against the step by more than the model has it.
    """
    against = (turn - bent) * s > 0
    low, high = torch.zeros_like(s), torch.ones_like(s)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        so_far = _look(problem, point, v + middle * s, slope)[1]
        early = so_far * s.sign() < 0.5 * turn.abs()
        low, high = torch.where(early, middle, low), torch.where(early, high, middle)
    return torch.where(against, high, 1.0)


def _ratio(turn: Tensor, s: Tensor) -> Tensor:
    return torch.where(s == 0, 0.0, turn / s).nan_to_num(0.0, 0.0, 0.0)
