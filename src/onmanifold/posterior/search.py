"""The search for the modes of one measurement, by jumps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import cast

import torch
from torch import Tensor

from onmanifold.descent import MaxSteps, SmallDecrease, StoppingRule
from onmanifold.descent.levenberg_marquardt import LMState
from onmanifold.descent.observers import SuccessiveHalving
from onmanifold.errors import InputError
from onmanifold.operator import linearize
from onmanifold.posterior.component import TwoPieceNormal, component_at, split_component
from onmanifold.posterior.descents import Descents
from onmanifold.posterior.linear import ray_reductions
from onmanifold.posterior.target import LocalModel, final_model
from onmanifold.prior import Point, ReachedByJumps
from onmanifold.status import Status

_STAGES = ((2, 2), (5, 1), (10, 1))  # of a jump: after so many steps, so many of each kind go on
_MANY, _FEW = 12, 2  # of more candidates of a kind than this, so many are tried
_WIDTH = 6  # candidates of a jump that are followed further, or one of each kind if these are more
_STEPS = 30  # of the last descent, at most
_ENDLESS = 10**9
_SMALL = SmallDecrease(4e-4)
_CUTOFF = 20.0  # nats above the best of them and the mode left: not followed
_TRUST = 3.0  # so many times the reduction that its model predicts may a descent still bring
_DRAFTED = 10.0  # nats less than the best draft that a draft has at most to become a mode
_BETTER = 1.0  # nats by which a draft near a known mode has to be lower than that one's
_KEPT = 5.0  # nats less than the best that a mode in the mixture has at most: a weight of 0.007
_SAME = 0.04  # relative squared distance below which two images count as one


@dataclass(eq=False)
class Mode:
    """A mode, its component of the mixture, the draft it came from, and whether it was jumped from."""

    local: LocalModel
    component: TwoPieceNormal
    draft_objective: float
    tried: bool = False

    @property
    def log_evidence(self) -> float:
        """Logarithm of the mass around it."""
        return float(self.component.log_mass() - self.local.objective)


class Search:
    """The search for the modes of one measurement.

    Args:
        drafts: descents of candidates, which may be approximate.
        finals: descents to the modes.
        rough: whether drafts serve as modes, but for the best one, and widths are not measured.
    """

    def __init__(self, drafts: Descents, finals: Descents, rough: bool = False) -> None:
        self.drafts, self.finals, self.rough = drafts, drafts if rough else finals, rough
        self.exact = finals
        self.prior = finals.problem.prior
        self.modes: list[Mode] = []
        self._best_draft = -inf  # evidence

    def run(self, ends: Point | LMState, patience: int, slack: float) -> list[Mode]:
        """Jump from ``ends`` as long as that leads to better modes; the best, their widths measured."""
        self._descend_to_modes(ends)
        if not self.modes:
            raise InputError(
                "explore: the operator is not defined where the starts ended; solve from others"
            )
        left = patience
        while left and (mode := self._next(slack)) is not None:
            best = self._best()
            mode.tried = True
            self._jump(mode)
            left = patience if self._best() > best + slack else left - 1
        return self._rough_modes() if self.rough else self._split_modes()

    def first(self, start: Point, stop: StoppingRule, halve_after: int | None) -> LMState:
        """Descents from initial points by successive halving: the final state of those not dropped."""
        steps = halve_after or _ENDLESS
        halving = SuccessiveHalving(len(start), steps)
        state = self.drafts(start, MaxSteps(steps) | stop)
        going = state.steps >= steps
        dropped = torch.zeros_like(going)
        while bool(going.any()):
            status = torch.where(going, int(Status.RUNNING), int(Status.MAX_STEPS))
            dropped |= halving.dropped(state, status, steps)
            steps *= 2
            rows = (going & ~dropped).nonzero().squeeze(1)
            part = self.drafts(state.select(rows), MaxSteps(steps) | stop)
            state = state.merge(rows, part)
            going = torch.zeros_like(going).index_copy(0, rows, part.steps >= steps)
        return state.select(~dropped)

    def _best(self) -> float:
        return max(mode.log_evidence for mode in self.modes)

    def _next(self, slack: float) -> Mode | None:
        """The best mode from which no jump was tried, if it is within ``slack`` nats of the best."""
        least = self._best() - slack
        waiting = [m for m in self.modes if not m.tried and m.log_evidence >= least]
        return max(waiting, key=lambda mode: mode.log_evidence, default=None)

    # Jumps ----------------------------------------------------------------------------------------

    def _jump(self, mode: Mode) -> None:
        """Try the prior's jumps from a mode: a few steps each, some more for the best of each kind."""
        jumps = cast(ReachedByJumps, self.prior).jumps(mode.local.point)
        families = self._promising(mode.local, [points for points in jumps.values() if len(points)])
        if not families:
            return
        family = torch.cat([torch.full((len(f),), i) for i, f in enumerate(families)])
        start: Point | LMState = Point.cat(families)
        for steps, each in _STAGES:
            ends = self.drafts(start, MaxSteps(steps) | _SMALL)
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

    def _bound(self, mode: Mode, state: LMState) -> float:
        """The objective up to which candidates are followed."""
        objective = state.objective.nan_to_num(nan=torch.inf)
        return min(mode.draft_objective, float(objective.min())) + _CUTOFF

    def _near(self, mode: Mode, state: LMState) -> Tensor:
        """Which candidates may still come near the mode that they left, or the best of them: boolean."""
        return state.objective - _TRUST * state.predicted_reduction <= self._bound(mode, state)

    def _promising(self, mode: LocalModel, families: list[Point]) -> list[Point]:
        """Of families of many the candidates of which a linear model at the mode promises most."""
        problem, many = self.drafts.problem, [len(points) > _MANY for points in families]
        if not any(many):
            return families
        at, few = linearize(problem.operator, mode.x), []
        self.drafts.count(0, 1)
        for points, large in zip(families, many, strict=True):
            if large:
                away = self.prior.decode(points) - mode.x
                gain = ray_reductions(at, problem.fidelity, problem.measurement, away)
                cost = self.drafts.members(len(points)).penalty(points) - gain
                points = points.select(cost.nan_to_num(nan=torch.inf).argsort(stable=True)[:_FEW])
            few.append(points)
        return few

    def _new(self, point: Point, objective: Tensor) -> Tensor:
        """Those that are neither near a known mode, unless much lower, nor near a better one of them.

        An index, best first.
        """
        x = self.prior.decode(point)
        known = [
            (int(mode.local.point.chart), mode.local.x[0], mode.draft_objective - _BETTER)
            for mode in self.modes
        ]
        kept = []
        for i in objective.nan_to_num(nan=torch.inf).argsort(stable=True).tolist():
            chart, value = int(point.chart[i]), float(objective[i])
            if not any(
                chart == k and not value < least and _same(x[i], other) for k, other, least in known
            ):
                kept.append(i)
                known.append((chart, x[i], -inf))
        return torch.tensor(kept, dtype=torch.long, device=objective.device)

    # Modes ----------------------------------------------------------------------------------------

    def _descend_to_modes(self, start: Point | LMState) -> None:
        """Descend to the end, and note the modes there."""
        drafts = self._drafted(self.drafts(start, MaxSteps(_STEPS) | _SMALL))
        if drafts is None:
            return
        state = self.finals(drafts.point, MaxSteps(_STEPS) | _SMALL)
        modes = final_model(self.finals.members(len(drafts)), state)
        components = component_at(self.finals.problem, modes)
        sound = torch.isfinite(modes.objective)
        for i in modes.objective.argsort().tolist():
            if bool(sound[i]):
                row = torch.tensor([i])
                objective = float(drafts.objective[i])
                self._add(Mode(modes.select(row), components.select(row), objective))

    def _drafted(self, state: LMState) -> LMState | None:
        """Of drafts those that are distinct and whose evidence may be near that of the best."""
        state = state.select(torch.isfinite(state.objective).nonzero().squeeze(1))
        if len(state) == 0:
            return None
        local = final_model(self.drafts.members(len(state)), state)
        evidence = component_at(self.drafts.problem, local).log_mass() - local.objective
        self._best_draft = max(self._best_draft, float(evidence.max()))
        kept = self._new(state.point, state.objective)
        kept = kept[evidence[kept] >= self._best_draft - _DRAFTED]
        return state.select(kept) if len(kept) else None

    def _add(self, new: Mode) -> None:
        """Note a mode unless it is known; of two that are the same the better one stays."""
        for i, known in enumerate(self.modes):
            if int(known.local.point.chart) == int(new.local.point.chart) and _same(
                known.local.x, new.local.x
            ):
                if new.log_evidence > known.log_evidence:
                    self.modes[i] = replace(new, tried=known.tried)
                return
        self.modes.append(new)

    def _rough_modes(self) -> list[Mode]:
        """The best drafts, best first, as curvature weighs them; the first one descended to its mode."""
        least = self._best() - _KEPT
        best, *others = sorted(self.modes, key=lambda mode: -mode.log_evidence)
        state = self.exact(best.local.point, MaxSteps(_STEPS) | _SMALL)
        local = final_model(self.exact.members(1), state)
        exact = replace(best, local=local, component=component_at(self.exact.problem, local))
        return [exact, *(mode for mode in others if mode.log_evidence >= least)]

    def _split_modes(self) -> list[Mode]:
        """The best modes, best first, their components two-piece normal.

        The widths take evaluations, and lower the evidence of all modes about alike: modes are left out that
        would have too little if theirs fell by as little as any other's did.
        """
        split: list[Mode] = []
        best, change = -inf, -inf
        for mode in sorted(self.modes, key=lambda mode: -mode.log_evidence):
            if split and mode.log_evidence + change < best - _KEPT:
                break
            component = split_component(
                self.prior, mode.local, mode.component, self.finals.objectives
            )
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
