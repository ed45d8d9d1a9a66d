"""Modes in charts that do not touch each other, found by jumps and compared by evidence."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onmanifold.checks import check_count, check_number
from onmanifold.descent import LevenbergMarquardt, MaxSteps, SmallDecrease, StoppingRule
from onmanifold.descent.build import build_problem
from onmanifold.descent.problem import Problem
from onmanifold.errors import InputError, InputTypeError
from onmanifold.evaluation_mode import computing
from onmanifold.fidelity import EstimatedGaussian, Fidelity
from onmanifold.in_kind import as_arrays, in_kind
from onmanifold.initial_points import InitialPoints, as_initial_points, choose_initial_points
from onmanifold.operator import OperatorLike, as_operator
from onmanifold.posterior.component import TwoPieceNormal
from onmanifold.posterior.descents import Descents, shared_objectives
from onmanifold.posterior.laplace import Laplace, laplace, mixture
from onmanifold.posterior.modes import table_of
from onmanifold.posterior.search import Mode, Search
from onmanifold.posterior.target import LocalModel, problem_of, warn_inconsistent
from onmanifold.prior import ManifoldPrior, Point, has_jumps
from onmanifold.processes import Processes
from onmanifold.solution import Solution
from onmanifold.solve import solve, unfinished
from onmanifold.status import Status

_SECANT = 2  # steps of a candidate by Broyden's formula before its tangents are computed anew


def find_posterior(
    operator: OperatorLike,
    measurement: Tensor | NDArray[Any],
    prior: ManifoldPrior,
    *,
    fidelity: Fidelity,
    starts: InitialPoints | int | Point | None = None,
    stop: StoppingRule | None = None,
    seed: int | torch.Generator = 0,
    patience: int = 3,
    slack: float = 6.0,
    draft: OperatorLike | None = None,
    jobs: int = 1,
    rough: bool = False,
) -> Laplace:
    """Solve, look for more modes, and weigh them: the posterior of measurements.

    The same as :func:`onmanifold.solve` and then :func:`explore`, or :func:`laplace` where the prior has no
    jumps. The first descents may well end in charts that are inconsistent with the data, since jumps lead
    out of them: only the result is tested for consistency.

    Args:
        operator: as for :func:`onmanifold.solve`.
        measurement: y, as for :func:`onmanifold.solve`.
        prior: the learned manifold.
        fidelity: what a residual costs, with the noise level.
        starts: initial points, as for :func:`onmanifold.solve`.
        stop: when the first descents end.
        seed: of the initial points.
        patience: as for :func:`explore`.
        slack: as for :func:`explore`.
        draft: as for :func:`explore`.
        jobs: as for :func:`explore`.
        rough: for modes that another search goes on from: quicker. All but the best are where drafts ended,
            their components are normal, and their evidence is of curvature alone.

    Warns:
        InconsistentWarning: the highest-evidence mode of some measurement is inconsistent with the noise.

    Example:
        >>> import torch
        >>> from onmanifold import Gaussian, load_prior
        >>> y = torch.tensor([[1.5]])  # the first coordinate: a point below, or one above
        >>> prior = load_prior("two-circles")
        >>> posterior = find_posterior(lambda x: x[:, :1], y, prior, fidelity=Gaussian(0.05))
        >>> posterior.x(3, 0).shape, posterior.consistent
        (torch.Size([1, 3, 2]), tensor([True]))
    """
    if not has_jumps(prior):
        options: dict[str, Any] = {"starts": starts, "stop": stop, "seed": seed}
        with unfinished():
            solution = solve(operator, measurement, prior, fidelity=fidelity, **options)
        if Status.INTERRUPTED in solution.status:
            raise KeyboardInterrupt
        return laplace(solution)
    _check(patience, slack)
    if isinstance(fidelity, EstimatedGaussian):
        raise InputError(
            "find_posterior weighs modes at one noise level: estimate it first, solution = solve(..., "
            f"fidelity={type(fidelity).__name__}()), then explore(solution)"
        )
    problem = build_problem(operator, measurement, prior, fidelity)
    drafted = _drafted(problem, draft)
    starts = as_initial_points(starts)
    halve_after = starts.halve_after if isinstance(starts, InitialPoints) else None
    stop = MaxSteps(100) | SmallDecrease(1e-6) if stop is None else stop
    with torch.no_grad(), computing(prior), Processes(jobs) as processes:
        evaluate = partial(shared_objectives, processes)
        points, each = choose_initial_points(drafted, starts, seed, evaluate)
        parts = []
        for b in range(len(problem)):
            search = _search(problem, drafted, b, processes, rough)
            start = points.select(torch.arange(b * each, (b + 1) * each))
            ends = search.first(start, stop, halve_after)
            parts.append(search.run(ends, patience, slack))
    found = _gathered(problem, parts)
    return cast(Laplace, as_arrays(found)) if isinstance(measurement, np.ndarray) else found


@in_kind
@torch.no_grad()
def explore(
    solution: Solution,
    *,
    patience: int = 3,
    slack: float = 6.0,
    draft: OperatorLike | None = None,
    jobs: int = 1,
) -> Laplace:
    """Jump from the final points of a solution to other charts, and weigh the modes found by evidence.

    The prior's jumps are tried from the highest-evidence mode: a few steps from each candidate, more
    from the best of each kind of jump, and a full descent from those that come near the mode's objective,
    or would by their models. Of many candidates of a kind, such as an object more in any place, those are
    tried of which the operator's linearization at the mode promises most.
    Each gives a mode with a Laplace evidence of its own. Jumps go on from the best mode from which none
    was tried. The search ends when no such mode is within ``slack`` nats of the best, or when the jumps
    from ``patience`` modes in a row have raised the best evidence by no more than that.

    The components of the best modes are then made two-piece normal, with widths measured along each axis.
    Where an operator is far from linear, curvature alone makes modes of many coordinates weigh too much.

    Candidates are drafts: many of their steps take tangents that Broyden's formula has brought up to date,
    and the operator may be a cheaper one. Modes come from drafts by exact steps with the operator itself.

    Args:
        solution: of :func:`onmanifold.solve`, with a fidelity, on a prior with ``jumps``.
        patience: modes in a row whose jumps may lead to nothing better before the search ends.
        slack: modes of so much less evidence, in nats, are not jumped from; a smaller rise counts as none.
        draft: an operator that stands for the solution's own in the descents of candidates, such as the same
            one on a coarser mesh.
        jobs: processes that share the candidates; the result is the same, to the last bit.

    Returns:
        The posterior over all modes found, within 5 nats of the best; their components are two-piece
        normal.

    Warns:
        InconsistentWarning: the highest-evidence mode of some measurement is inconsistent with the noise.

    Raises:
        TypeError: the prior has no jumps.
        ValueError: the solution carries no problem or no noise level, or all starts failed.

    Example:
        >>> import torch
        >>> from onmanifold import Gaussian, as_operator, solve
        >>> from onmanifold.priors.scene import Arrangement, RadialOutlines, Scene
        >>> scene = Scene(RadialOutlines(3), size=24, arrangement=Arrangement(counts=(1, 1, 1)))
        >>> two, one = scene.sample(1, 0), scene.sample(1, 2)  # points with two objects, and one
        >>> y = scene.decode(two)
        >>> operator = as_operator(lambda x: x, scene.x_shape)
        >>> solution = solve(operator, y, scene, fidelity=Gaussian(0.1), starts=one)
        >>> explore(solution, patience=2).chart[:, 0] == two.chart
        tensor([True])
    """
    problem = problem_of(solution)
    if not has_jumps(problem.prior):
        raise InputTypeError(
            f"{type(problem.prior).__name__} has no jumps(point): its charts are reached by descent, take "
            "laplace(solution)"
        )
    _check(patience, slack)
    drafted, parts = _drafted(problem, draft), []
    with computing(problem.prior), Processes(jobs) as processes:
        for b in range(len(problem)):
            kept = solution.final_points.status[b] != Status.DROPPED
            ends = Point(solution.final_points.chart[b], solution.final_points.z[b]).select(kept)
            search = _search(problem, drafted, b, processes)
            parts.append(search.run(ends, patience, slack))
    return _gathered(problem, parts)


def _check(patience: int, slack: float) -> None:
    check_count(patience, "explore: patience")
    check_number(slack, "explore: slack")


def _drafted(problem: Problem, draft: OperatorLike | None) -> Problem:
    """The same problem with the operator of drafts; the counts stay shared."""
    if draft is None:
        return problem
    prior = problem.prior
    operator = as_operator(draft, prior.x_shape, dtype=prior.dtype, device=prior.device)
    return replace(problem, operator=operator)


def _search(
    problem: Problem, drafted: Problem, b: int, processes: Processes, rough: bool = False
) -> Search:
    """That for the modes of measurement ``b``."""
    row = torch.tensor([b], device=problem.measurement.device)
    return Search(
        Descents(drafted.select(row), LevenbergMarquardt(secant=_SECANT), processes),
        Descents(problem.select(row), LevenbergMarquardt(), processes),
        rough,
    )


def _gathered(problem: Problem, parts: list[list[Mode]]) -> Laplace:
    """The mixture of the modes of all measurements."""
    modes = [mode for part in parts for mode in part]
    owner = torch.tensor([b for b, part in enumerate(parts) for _ in part])
    local = LocalModel.cat([mode.local for mode in modes])
    components = TwoPieceNormal.cat([mode.component for mode in modes])
    found = mixture(problem, local, components, table_of(owner, len(parts)))
    warn_inconsistent(found.consistent, stacklevel=4)  # one is that of no_grad
    return found
