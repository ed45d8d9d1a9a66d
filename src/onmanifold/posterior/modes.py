"""The modes of a posterior: where the starts ended, looked at from every chart, each one once."""

from __future__ import annotations

import torch
from torch import Tensor

from onmanifold.descent.levenberg_marquardt import LevenbergMarquardt, LMState
from onmanifold.descent.method import composite_step
from onmanifold.descent.problem import Problem
from onmanifold.posterior.target import Local, local, visit
from onmanifold.prior import Point, charts_overlap
from onmanifold.solution import Solution

_STEPS = 100
_RESTING = 0.1  # nats by which the objective may still fall at what counts as a mode
_APART = 2.0  # standard deviations: a mixture of two equal normals that are nearer has one mode


def find_modes(problem: Problem, solution: Solution) -> tuple[Local, Tensor]:
    """The distinct modes of each of B measurements.

    The starts' ends are descended further, each within its chart. What is found is then looked at
    from every other chart, since charts that overlap share the mass, and the descent repeated there.

    Returns:
        The modes of all measurements, one after another, each one's best first; and numbers of theirs
        in a table ``(B, M)``, -1 where a measurement has fewer than M.
    """
    batch, starts = solution.final_points.chart.shape
    owner = torch.arange(batch, device=solution.z.device).repeat_interleave(starts)
    sound = torch.isfinite(solution.final_points.objective.flatten())
    ends = Point(
        solution.final_points.chart.flatten(), solution.final_points.z.flatten(0, 1)
    ).select(sound)
    found = _settled(problem, ends, owner[sound])
    if found is not None:
        found = _distinct(*found, batch)
        overlap = charts_overlap(problem.prior)
        more = _settled(problem, *_views(problem, *found)) if overlap else None
        if more is not None:
            modes, owner = Local.cat([found[0], more[0]]), torch.cat([found[1], more[1]])
            found = _distinct(modes, owner, batch)
    without = sorted(set(range(batch)) - set(found[1].tolist() if found else ()))
    if found is None or without:
        raise ValueError(
            f"measurements {without}: no start came to rest at a mode; solve them again with more steps"
        )
    modes, owner = found
    return modes, _table(owner, batch)


def _views(problem: Problem, modes: Local, owner: Tensor) -> tuple[Point, Tensor]:
    """Each mode in the coordinates of every other chart."""
    charts = range(problem.prior.num_charts)
    prior = problem.prior
    points = [prior.clamp(prior.encode(modes.x, torch.full_like(modes.chart, k))) for k in charts]
    seen = Point.cat(points)
    other = (seen.chart != modes.chart.repeat(len(points))) & torch.isfinite(seen.z).all(dim=1)
    return seen.select(other), owner.repeat(len(points))[other]


def _settled(problem: Problem, point: Point, owner: Tensor) -> tuple[Local, Tensor] | None:
    """Descend to the mode next to each point, within its chart; those that come to rest, and whose."""
    found = visit(problem.select(owner), point) if len(point) else None
    if found is None:
        return None
    point, owner = point.select(found.rows), owner[found.rows]
    members = problem.select(owner)
    method = LevenbergMarquardt()
    state = method.init(members, point)
    going = torch.isfinite(state.objective)
    for _ in range(_STEPS):
        rows = (going & ~_done(state)).nonzero().squeeze(1)
        if len(rows) == 0:
            break
        state = state.merge(rows, method.step(members.select(rows), state.select(rows)))
    resting = (going & (state.predicted_reduction <= _RESTING)).nonzero().squeeze(1)
    if len(resting) == 0:
        return None
    state, owner = state.select(resting), owner[resting]
    members = problem.select(owner)
    # What is left to descend is too little to be seen in the objective, but not in the model.
    v, _ = composite_step(members, state.point, state.model, state.model.misfit_hessian)
    last = problem.prior.clamp(state.point.at(state.point.z + v))
    there = visit(members, last)
    if there is None:
        return None
    return local(members.select(there.rows), there.trial, there.x), owner[there.rows]


def _done(state: LMState) -> Tensor:
    left = torch.minimum(state.decrease, state.predicted_reduction)
    return state.stalled | (left <= state.resolution)


def _distinct(modes: Local, owner: Tensor, batch: int) -> tuple[Local, Tensor]:
    """Each mode once, the best first: the others of its chart within two standard deviations are it."""
    order = modes.objective.argsort(stable=True)
    order = order[owner[order].argsort(stable=True)]
    modes, owner = modes.select(order), owner[order]
    table = _table(owner, batch)
    some = table.clamp(min=0)
    z, chart = modes.z.double()[some], modes.chart[some]
    apart = z.unsqueeze(1) - z.unsqueeze(2)
    squared = torch.einsum("bijd,bide,bije->bij", apart, modes.hessian[some], apart)
    same = (chart.unsqueeze(1) == chart.unsqueeze(2)) & (squared < _APART**2)
    kept = table >= 0
    for i in range(table.shape[1] - 1):
        kept[:, i + 1 :] &= ~(kept[:, i : i + 1] & same[:, i, i + 1 :])
    chosen = table[kept]
    return modes.select(chosen), owner[chosen]


def _table(owner: Tensor, batch: int) -> Tensor:
    """Numbers of each measurement's members in a row ``(B, M)``, filled up by -1; ``owner`` ascends."""
    counts = torch.bincount(owner, minlength=batch)
    numbers = torch.arange(len(owner), device=owner.device)
    table = numbers.new_full((batch, int(counts.max())), -1)
    table[owner, numbers - (counts.cumsum(0) - counts)[owner]] = numbers
    return table
