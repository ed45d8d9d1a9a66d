"""The modes of a posterior: the final points of the starts, seen from every chart, each one once."""

from __future__ import annotations

import torch
from torch import Tensor

from onmanifold.descent import LevenbergMarquardt, MaxSteps, SmallDecrease, descend
from onmanifold.descent.method import composite_step
from onmanifold.descent.problem import Problem
from onmanifold.errors import InputError
from onmanifold.posterior.target import LocalModel, evaluate, local_model
from onmanifold.prior import Point, charts_overlap
from onmanifold.solution import Solution

_STOP = MaxSteps(100) | SmallDecrease(1e-16)  # to the rounding of the objective
_RESTING = 0.1  # nats by which the objective may still fall at what counts as a mode
_APART = 2.0  # standard deviations: a mixture of two equal normals that are nearer has one mode


def find_modes(problem: Problem, solution: Solution) -> tuple[LocalModel, Tensor]:
    """The distinct modes of each of B measurements.

    From their final points the starts descend further, each within its chart. Charts that overlap share
    the mass: so what is found is expressed in every other chart, and the descent repeated there.

    Returns:
        The modes of all measurements, one after another, each one's best first; and numbers of theirs
        in a table ``(B, M)``, -1 where a measurement has fewer than M.
    """
    final = solution.final_points
    batch, starts = final.chart.shape
    owner = torch.arange(batch, device=solution.z.device).repeat_interleave(starts)
    sound = torch.isfinite(final.objective.flatten())
    ends = Point(final.chart.flatten(), final.z.flatten(0, 1)).select(sound)
    found = _descend_in_chart(problem, ends, owner[sound])
    if found is not None:
        found = _distinct(*found, batch)
        overlap = charts_overlap(problem.prior)
        more = _descend_in_chart(problem, *_views(problem, *found)) if overlap else None
        if more is not None:
            modes, owner = LocalModel.cat([found[0], more[0]]), torch.cat([found[1], more[1]])
            found = _distinct(modes, owner, batch)
    without = sorted(set(range(batch)) - set(found[1].tolist() if found else ()))
    if found is None or without:
        raise InputError(
            f"measurements {without}: no start came to rest at a mode; solve them again with more steps"
        )
    modes, owner = found
    return modes, table_of(owner, batch)


def _views(problem: Problem, modes: LocalModel, owner: Tensor) -> tuple[Point, Tensor]:
    """Each mode in the coordinates of every other chart."""
    charts = range(problem.prior.num_charts)
    prior = problem.prior
    points = [
        prior.clamp(prior.encode(modes.x, torch.full_like(modes.point.chart, k))) for k in charts
    ]
    seen = Point.cat(points)
    other = (seen.chart != modes.point.chart.repeat(len(points))) & torch.isfinite(seen.z).all(
        dim=1
    )
    return seen.select(other), owner.repeat(len(points))[other]


def _descend_in_chart(
    problem: Problem, point: Point, owner: Tensor
) -> tuple[LocalModel, Tensor] | None:
    """Descend to the mode next to each point, within its chart; those that come to rest, and whose."""
    found = evaluate(problem.select(owner), point) if len(point) else None
    if found is None:
        return None
    point, owner = point.select(found[0]), owner[found[0]]
    state = descend(
        problem.select(owner), LevenbergMarquardt(), _STOP, point, change_charts=False
    ).state
    resting = torch.isfinite(state.objective) & (state.predicted_reduction <= _RESTING)
    if not bool(resting.any()):
        return None
    state, owner = state.select(resting), owner[resting]
    members = problem.select(owner)
    # The rest of the way is below the rounding of the objective; the model still shows it.
    v, _ = composite_step(members, state.point, state.model, state.model.misfit_hessian)
    there = evaluate(members, problem.prior.clamp(state.point.at(state.point.z + v)))
    if there is None:
        return None
    rows, trial, x = there
    return local_model(members.select(rows), trial, x), owner[rows]


def _distinct(modes: LocalModel, owner: Tensor, batch: int) -> tuple[LocalModel, Tensor]:
    """Each mode once, the best first: those of a chart within two standard deviations are one."""
    order = modes.objective.argsort(stable=True)
    order = order[owner[order].argsort(stable=True)]
    modes, owner = modes.select(order), owner[order]
    table = table_of(owner, batch)
    some = table.clamp(min=0)
    z, chart = modes.point.z.double()[some], modes.point.chart[some]
    apart = z.unsqueeze(1) - z.unsqueeze(2)
    squared = torch.einsum("bijd,bide,bije->bij", apart, modes.hessian[some], apart)
    same = (chart.unsqueeze(1) == chart.unsqueeze(2)) & (squared < _APART**2)
    kept = table >= 0
    for i in range(table.shape[1] - 1):
        kept[:, i + 1 :] &= ~(kept[:, i : i + 1] & same[:, i, i + 1 :])
    chosen = table[kept]
    return modes.select(chosen), owner[chosen]


def table_of(owner: Tensor, batch: int) -> Tensor:
    """Numbers of each measurement's members in a row ``(B, M)``, filled up by -1; ``owner`` ascends."""
    counts = torch.bincount(owner, minlength=batch)
    numbers = torch.arange(len(owner), device=owner.device)
    table = numbers.new_full((batch, int(counts.max())), -1)
    table[owner, numbers - (counts.cumsum(0) - counts)[owner]] = numbers
    return table
