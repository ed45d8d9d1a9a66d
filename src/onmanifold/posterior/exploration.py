"""Modes in charts that do not touch each other, found by jumps and compared by evidence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import Any, cast

import torch
from numpy.typing import NDArray
from torch import Tensor

from onmanifold.checks import check_count, check_number
from onmanifold.descent import LevenbergMarquardt, MaxSteps, SmallDecrease, StoppingRule, descend
from onmanifold.descent.levenberg_marquardt import LMState
from onmanifold.descent.problem import Problem
from onmanifold.errors import InputError, InputTypeError
from onmanifold.evaluation_mode import computing
from onmanifold.fidelity import Fidelity
from onmanifold.in_kind import in_kind
from onmanifold.initial_points import InitialPoints
from onmanifold.operator import OperatorLike, linearize
from onmanifold.posterior.component import TwoPieceNormal, component_at, split_component
from onmanifold.posterior.laplace import Laplace, laplace, mixture
from onmanifold.posterior.linear import ray_reductions
from onmanifold.posterior.modes import table_of
from onmanifold.posterior.target import LocalModel, final_model, problem_of, warn_inconsistent
from onmanifold.prior import ManifoldPrior, Point, ReachedByJumps
from onmanifold.solution import Solution
from onmanifold.solve import solve, unfinished
from onmanifold.status import Status

_STAGES = ((2, 2), (5, 1), (10, 1))  # of a jump: after so many steps, so many of each kind go on
_MANY, _FEW = 12, 2  # of more candidates of a kind than this, so many are tried
_WIDTH = 6  # candidates of a jump that are followed further, or one of each kind if these are more
_STEPS = 30  # of the last descent, at most
_CUTOFF = 20.0  # nats above the best of them and the mode left: not followed
_TRUST = 3.0  # so many times the reduction that its model predicts may a descent still bring
_KEPT = 5.0  # nats less than the best that a mode in the mixture has at most: a weight of 0.007
_SAME = 0.04  # relative squared distance below which two images count as one


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
    options: dict[str, Any] = {"fidelity": fidelity, "starts": starts, "stop": stop, "seed": seed}
    with unfinished():
        solution = solve(operator, measurement, prior, **options)
    if Status.INTERRUPTED in solution.status:
        raise KeyboardInterrupt
    if isinstance(prior, ReachedByJumps):
        return explore(solution, patience=patience, slack=slack)
    return laplace(solution)


@in_kind
@torch.no_grad()
def explore(
    solution: Solution,
    *,
    patience: int = 3,
    slack: float = 6.0,
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

    Args:
        solution: of :func:`onmanifold.solve`, with a fidelity, on a prior with ``jumps``.
        patience: modes in a row whose jumps may lead to nothing better before the search ends.
        slack: modes of so much less evidence, in nats, are not jumped from; a smaller rise counts as none.

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
    if not isinstance(problem.prior, ReachedByJumps):
        raise InputTypeError(
            f"{type(problem.prior).__name__} has no jumps(point): its charts are reached by descent, take "
            "laplace(solution)"
        )
    check_count(patience, "explore: patience")
    check_number(slack, "explore: slack")
    parts = []
    with computing(problem.prior):
        for b in range(len(problem)):
            search = _Search(problem.select(torch.tensor([b])))
            kept = solution.final_points.status[b] != Status.DROPPED
            ends = Point(solution.final_points.chart[b], solution.final_points.z[b]).select(kept)
            parts.append(search.run(ends, patience, slack))
    found = _gathered(problem, parts)
    warn_inconsistent(found.consistent, stacklevel=4)  # one is that of no_grad
    return found


@dataclass(eq=False)
class _Mode:
    """A mode, its component of the mixture, and whether jumps were tried from it."""

    local: LocalModel
    component: TwoPieceNormal
    tried: bool = False

    @property
    def log_evidence(self) -> float:
        return float(self.component.log_mass() - self.local.objective)


class _Search:
    """The search for the modes of one measurement."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.modes: list[_Mode] = []

    def run(self, ends: Point, patience: int, slack: float) -> list[_Mode]:
        self._descend_to_modes(ends)
        if not self.modes:
            raise InputError(
                "explore: the operator is not defined where the starts ended; solve from others"
            )
        left = patience
        while left and (mode := self._next(slack)) is not None:
            best = self._best()
            mode.tried = True
            self._jump(mode.local)
            left = patience if self._best() > best + slack else left - 1
        return self._split_modes()

    def _best(self) -> float:
        return max(mode.log_evidence for mode in self.modes)

    def _next(self, slack: float) -> _Mode | None:
        """The best mode from which no jump was tried, if it is within ``slack`` nats of the best."""
        least = self._best() - slack
        waiting = [m for m in self.modes if not m.tried and m.log_evidence >= least]
        return max(waiting, key=lambda mode: mode.log_evidence, default=None)

    def _jump(self, mode: LocalModel) -> None:
        """Try the prior's jumps from a mode: a few steps each, some more for the best of each kind."""
        jumps = cast(ReachedByJumps, self.problem.prior).jumps(mode.point)
        families = self._promising(mode, [points for points in jumps.values() if len(points)])
        if not families:
            return
        family = torch.cat([torch.full((len(f),), i) for i, f in enumerate(families)])
        start: Point | LMState = Point.cat(families)
        for steps, each in _STAGES:
            ends = self._descend(start, steps)
            new = self._new(ends.point, ends.objective)
            new = new[self._near(mode, ends)[new]]
            if len(new) == 0:
                return
            kept = new[_best_of_each(ends.objective[new], family[new], each)]
            start = state = ends.select(kept)
            family = family[kept]
        near = state.objective <= self._bound(mode, state)
        if bool(near.any()):
            self._descend_to_modes(state.select(near))

    def _bound(self, mode: LocalModel, state: LMState) -> float:
        """The objective up to which candidates are followed."""
        objective = state.objective.nan_to_num(nan=torch.inf)
        return min(float(mode.objective), float(objective.min())) + _CUTOFF

    def _near(self, mode: LocalModel, state: LMState) -> Tensor:
        """Which candidates may still come near the mode that they left, or the best of them: boolean."""
        return state.objective - _TRUST * state.predicted_reduction <= self._bound(mode, state)

    def _promising(self, mode: LocalModel, families: list[Point]) -> list[Point]:
        """Of families of many the candidates of which a linear model at the mode promises most."""
        problem, many = self.problem, [len(points) > _MANY for points in families]
        if not any(many):
            return families
        at, few = linearize(problem.operator, mode.x), []
        for points, large in zip(families, many, strict=True):
            if large:
                away = problem.prior.decode(points) - mode.x
                gain = ray_reductions(at, problem.fidelity, problem.measurement, away)
                cost = self._members(len(points)).penalty(points) - gain
                points = points.select(cost.nan_to_num(nan=torch.inf).argsort(stable=True)[:_FEW])
            few.append(points)
        return few

    def _new(self, point: Point, objective: Tensor) -> Tensor:
        """Those that are neither near a mode that is known nor near a better one: an index, best first."""
        x = self.problem.prior.decode(point)
        known = [(int(mode.local.point.chart), mode.local.x[0]) for mode in self.modes]
        kept = []
        for i in objective.nan_to_num(nan=torch.inf).argsort(stable=True).tolist():
            chart = int(point.chart[i])
            if not any(chart == k and _same(x[i], other) for k, other in known):
                kept.append(i)
                known.append((chart, x[i]))
        return torch.tensor(kept, dtype=torch.long, device=objective.device)

    def _descend(self, start: Point | LMState, steps: int) -> LMState:
        stop = MaxSteps(steps) | SmallDecrease(4e-4)
        problem = self._members(len(start)).repeat(1)
        return descend(problem, LevenbergMarquardt(), stop, start).state

    def _descend_to_modes(self, start: Point | LMState) -> None:
        """Descend to the end, and note the modes there."""
        state = self._descend(start, _STEPS)
        state = state.select(torch.isfinite(state.objective).nonzero().squeeze(1))
        if len(state.objective) == 0:
            return
        modes = final_model(self._members(len(state.objective)), state)
        components = component_at(self.problem, modes)
        for i in modes.objective.argsort().tolist():
            row = torch.tensor([i])
            self._add(_Mode(modes.select(row), components.select(row)))

    def _members(self, n: int) -> Problem:
        return self.problem.select(
            torch.zeros(n, dtype=torch.long, device=self.problem.members.device)
        )

    def _add(self, new: _Mode) -> None:
        """Note a mode unless it is known; of two that are the same the better one stays."""
        for i, known in enumerate(self.modes):
            if int(known.local.point.chart) == int(new.local.point.chart) and _same(
                known.local.x, new.local.x
            ):
                if new.log_evidence > known.log_evidence:
                    self.modes[i] = replace(new, tried=known.tried)
                return
        self.modes.append(new)

    def _split_modes(self) -> list[_Mode]:
        """The best modes, best first, their components two-piece normal.

        The widths take evaluations, and lower the evidence of all modes about alike: modes are left out that
        would have too little if theirs fell by as little as any other's did.
        """
        split: list[_Mode] = []
        best, change = -inf, -inf
        for mode in sorted(self.modes, key=lambda mode: -mode.log_evidence):
            if split and mode.log_evidence + change < best - _KEPT:
                break
            component = split_component(self.problem, mode.local, mode.component)
            split.append(replace(mode, component=component))
            best = max(best, split[-1].log_evidence)
            change = max(change, split[-1].log_evidence - mode.log_evidence)
        split.sort(key=lambda mode: -mode.log_evidence)
        return [mode for mode in split if mode.log_evidence >= best - _KEPT]


def _best_of_each(objective: Tensor, family: Tensor, each: int) -> Tensor:
    """The ``each`` best of every family, and the best of the others up to six in all: an index."""
    order = objective.argsort(stable=True).tolist()
    taken: dict[int, int] = {}
    first: list[int] = []
    rest: list[int] = []
    for i in order:
        number = int(family[i])
        taken[number] = taken.get(number, 0) + 1
        (first if taken[number] <= each else rest).append(i)
    return torch.tensor(first + rest[: max(_WIDTH - len(first), 0)])


def _same(one: Tensor, other: Tensor) -> bool:
    size = one.square().sum() + other.square().sum()
    return bool((one - other).square().sum() <= _SAME * size)


def _gathered(problem: Problem, parts: list[list[_Mode]]) -> Laplace:
    """The mixture of the modes of all measurements."""
    modes = [mode for part in parts for mode in part]
    owner = torch.tensor([b for b, part in enumerate(parts) for _ in part])
    local = LocalModel.cat([mode.local for mode in modes])
    components = TwoPieceNormal.cat([mode.component for mode in modes])
    return mixture(problem, local, components, table_of(owner, len(parts)))
