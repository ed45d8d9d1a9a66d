"""Initial points of descents: the most promising of many samples of the prior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from onmanifold.checks import check_count, check_field, check_seed
from onmanifold.descent.problem import Problem
from onmanifold.errors import InputError, InputTypeError
from onmanifold.operator import OutsideDomain
from onmanifold.prior import Point, numbers

_CHUNK = 64  # samples that the operator sees at once


@dataclass(frozen=True)
class InitialPoints:
    """Draw ``pool`` samples of the prior and start from the ``keep`` best, chart by chart.

    The pool is drawn once for all measurements and goes through the operator once. For each
    measurement the best sample of each chart comes first, then the second best of each, and so on,
    so that the starts are spread over the charts. More starts find the global minimum more reliably; the
    best of a larger pool tend to be close to each other.

    Args:
        pool: number of samples.
        keep: number of starts.
        halve_after: successive halving: drop the worse half of each measurement's starts after this number
            of steps, again after twice as many, and so on; ``None`` for never.
        also: points that join the pool of every measurement, such as estimates by another method.

    Example:
        >>> InitialPoints(pool=256, keep=8)
        InitialPoints(pool=256, keep=8, halve_after=None)
    """

    pool: int = 64
    keep: int = 8
    halve_after: int | None = None
    also: Point | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_field(self, "pool", check_count)
        check_field(self, "keep", check_count)
        if self.halve_after is not None:
            check_field(self, "halve_after", check_count)
        if self.keep > self.pool:
            raise InputError(f"InitialPoints: cannot keep {self.keep} of a pool of {self.pool}")


def as_initial_points(starts: InitialPoints | int | Point | None) -> InitialPoints | Point:
    """The argument ``starts`` of :func:`onmanifold.solve` in full."""
    if starts is None:
        return InitialPoints()
    if isinstance(starts, InitialPoints | Point):
        return starts
    starts = check_count(starts, "starts")
    return InitialPoints(pool=max(64, starts), keep=starts)


def choose_initial_points(
    problem: Problem,
    starts: InitialPoints | Point,
    seed: int | torch.Generator,
    evaluate: Callable[[Problem, Point], Tensor] | None = None,
) -> tuple[Point, int]:
    """S initial points for each of B measurements in turn (B * S), and S.

    The pool is evaluated by ``evaluate``, by default :func:`objectives`.
    """
    if isinstance(starts, Point):
        return _given(problem, starts)
    if not isinstance(seed, torch.Generator):
        seed = check_seed(seed)
    pool = problem.prior.clamp(problem.prior.sample(starts.pool, seed))
    if starts.also is not None:
        pool = Point.cat([pool, _checked(problem, starts.also)])
    objective = (evaluate or objectives)(problem, pool)
    problem.counts.evaluations.add_(len(pool))
    chosen = torch.stack([_rank(row, pool.chart)[: starts.keep] for row in objective])
    return pool.select(chosen.flatten()), starts.keep


def _given(problem: Problem, point: Point) -> tuple[Point, int]:
    each, rest = divmod(len(point), len(problem))
    if rest or each == 0:
        raise InputError(
            f"starts holds {len(point)} points of dimension {point.z.shape[1]}; expected the same "
            f"number for each of {len(problem)} measurements, of dimension {problem.prior.dim}"
        )
    return _checked(problem, point), each


def _checked(problem: Problem, point: Point) -> Point:
    """The given points, checked and clamped to their boxes."""
    if point.z.shape[1] != problem.prior.dim:
        raise InputError(
            f"starts holds points of dimension {point.z.shape[1]}, expected {problem.prior.dim}"
        )
    if point.z.dtype != problem.prior.dtype:
        raise InputTypeError(
            f"starts are {point.z.dtype}, the prior {problem.prior.dtype}: convert them"
        )
    numbers(point.chart, problem.prior.num_charts)
    return problem.prior.clamp(point)


def objectives(problem: Problem, pool: Point) -> Tensor:
    """The objective of each measurement at each of P points: ``(B, P)``.

    Infinite outside the operator's domain. Evaluations are not counted.
    """
    columns = []
    for rows in torch.split(torch.arange(len(pool), device=pool.z.device), _CHUNK):
        point = pool.select(rows)
        columns.append(_each_at(problem, point))
    return torch.cat(columns, dim=1)


def _each_at(problem: Problem, point: Point) -> Tensor:
    """The objective of each measurement at some points, infinite outside the operator's domain."""
    try:
        prediction = problem.operator.A(problem.prior.decode(point))
    except OutsideDomain as error:
        inside = (~error.members).nonzero().squeeze(1)
        objective = point.z.new_full((len(problem), len(point)), torch.inf)
        if len(inside) == 0:
            return objective
        return objective.index_copy(1, inside, _each_at(problem, point.select(inside)))
    log_prob = problem.prior.log_prob(point) if problem.weighted else point.z[:, 0]
    rows = torch.arange(len(problem), device=point.chart.device)[:, None].expand(-1, len(point))
    each = (problem.select(row) for row in rows)
    return torch.stack([one.misfit(prediction) + one.weigh(log_prob) for one in each])


def _rank(objective: Tensor, chart: Tensor) -> Tensor:
    """Indices of the pool in the order in which to start from them; the best replaces impossible ones."""
    objective = torch.nan_to_num(objective, nan=torch.inf, posinf=torch.inf)
    order = objective.argsort(stable=True)
    sorted_chart = chart[order]
    earlier = (sorted_chart.unsqueeze(0) == sorted_chart.unsqueeze(1)).tril(-1)
    rank_in_chart = earlier.sum(1)
    ranked = order[rank_in_chart.argsort(stable=True)]
    possible = torch.isfinite(objective[ranked])
    return torch.cat([ranked[possible], order[:1].expand(int((~possible).sum()))])
