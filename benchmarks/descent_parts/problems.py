"""The problems of benchmarks/descent.py: operator, measurements, prior, and where descents start."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from onmanifold import (
    Fidelity,
    ForwardOperator,
    Gaussian,
    GradientNorm,
    InitialPoints,
    LevenbergMarquardt,
    ManifoldPrior,
    MaxSteps,
    Point,
    RiemannianGradientDescent,
    SmallDecrease,
    as_operator,
    load_prior,
    simulate,
)
from onmanifold.descent import build_problem, descend
from onmanifold.descent.problem import Problem
from onmanifold.geometry import locate
from onmanifold.initial_points import choose_initial_points
from onmanifold.operators import Blur, gaussian_kernel
from onmanifold.priors.datasets import Bar, stream

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benchmarks")]

from balls import Balls  # noqa: E402
from bars import NOISE as BAR_NOISE  # noqa: E402
from toys import TOYS  # noqa: E402

SHARE = 0.01  # above the best known objective: still a success, ...
NATS = 1.0  # ... if it is no less likely than by this much: of noisy data, 1 % hides a wrong answer
POLISHED = MaxSteps(200) | SmallDecrease(1e-10) | GradientNorm(1e-9)


@dataclass(frozen=True)
class Case:
    """A problem of B measurements with S starts each.

    Attributes:
        name: of the problem.
        operator: A.
        measurement: y, ``(B, *y_shape)``.
        prior: the manifold.
        fidelity: of the data, or ``None`` for least squares without a density.
        starts: S points for each measurement in turn.
        target: objective at which a descent has succeeded, ``(B,)``.
        budget: steps that a method may take.
        published: steps of fixed length in the paper, 0 where there is none.
    """

    name: str
    operator: ForwardOperator
    measurement: Tensor
    prior: ManifoldPrior
    fidelity: Fidelity | None
    starts: Point
    target: Tensor
    budget: int
    published: int = 0

    @property
    def each(self) -> int:
        """S."""
        return len(self.starts) // len(self.measurement)

    def problem(self, operator: ForwardOperator | None = None) -> Problem:
        """The objective of each start."""
        problem = build_problem(
            operator or self.operator, self.measurement, self.prior, self.fidelity
        )
        return problem.repeat(self.each)


def toys() -> Iterator[Case]:
    """The toy manifolds with the paper's starts; each start is a measurement of its own."""
    for name, toy in TOYS.items():
        prior = load_prior(name)
        start = locate(prior, toy.starts(0))
        y = torch.tensor(toy.target).expand(len(start), -1)
        operator = as_operator(lambda x: x, prior.x_shape)
        problem = build_problem(operator, y, prior)
        ends = [
            descend(problem, method, POLISHED, start).state.objective
            for method in (LevenbergMarquardt(), RiemannianGradientDescent())
        ]
        best, began = torch.stack(ends).amin(0), problem.at(start).objective
        # The least objective may be 0: what counts is 1 % of what there is to gain.
        yield Case(name, operator, y, prior, None, start, best + SHARE * (began - best), 500, 500)


def bars(count: int, starts: int) -> Case:
    """Blurred, noisy bars."""
    truth, _ = Bar().sample(count, stream(0, "held-out"))
    operator = Blur(gaussian_kernel(40, 15.0), Bar().x_shape)
    y = simulate(operator, truth, BAR_NOISE, 0)
    return _posed("bars", operator, y, load_prior("bar"), Gaussian(BAR_NOISE), starts, 500)


def balls(count: int, starts: int) -> Case:
    """Two balls from electrode voltages."""
    made = Balls.make(count, 0)
    prior, fidelity = load_prior("two-balls"), Gaussian(made.std)
    return _posed("two balls", made.operator, made.measurement, prior, fidelity, starts, 100)


def tanks(starts: int, levels: tuple[int, ...] = (1, 7)) -> Iterator[Case]:
    """Measured water tanks, cut to a level of the challenge; the data lie in $ONMANIFOLD_DATA."""
    from benchmarks.tanks_parts.data_terms import WATER, noise, nominal_operator, saturating
    from benchmarks.tanks_parts.picture import WATER_STD
    from onmanifold.applications.tanks import read_cases
    from onmanifold.operators.eit import ktc
    from onmanifold.priors.nuisance import BackgroundOffset

    folder = Path(os.environ.get("ONMANIFOLD_DATA", ROOT.parent / "shared" / "data"))
    folder = folder / "ktc2023" / "training"
    if not folder.is_dir():
        print(f"tanks: no measured data in {folder}, set ONMANIFOLD_DATA: skipped")
        return
    reference = ktc.read(folder / "ref.mat")
    prior = BackgroundOffset(load_prior("tank"), WATER_STD)
    operator = nominal_operator(reference, saturating(WATER), prior.x_shape)
    for level in levels:
        measured = [case.measurement for case in read_cases(folder, None, [level])]
        mask = torch.stack([m.mask for m in measured])
        std = [noise(reference, m.voltages, m.mask) for m in measured]
        y = torch.stack([m.voltages for m in measured]).to(prior.dtype)
        fidelity = Gaussian(torch.stack(std).to(prior.dtype), mask=mask)
        yield _posed(f"tanks, level {level}", operator, y, prior, fidelity, starts, 0)


def _posed(
    name: str,
    operator: ForwardOperator,
    y: Tensor,
    prior: ManifoldPrior,
    fidelity: Fidelity,
    starts: int,
    published: int,
) -> Case:
    """The case, started from samples of the prior as they come; the pool of ``solve`` would be there at once.

    The best known objective is that of 16 chosen starts beside, all polished.
    """
    problem = build_problem(operator, y, prior, fidelity)
    point = prior.sample(starts * len(y), 1)
    chosen, each = choose_initial_points(problem, InitialPoints(256, 16), 0)
    rows = torch.arange(len(y))[:, None]
    own, more = (rows * s + torch.arange(s) for s in (starts, each))
    both = torch.cat([own, more + len(point)], dim=1).flatten()  # measurement by measurement
    many = Point.cat([point, chosen]).select(both)
    ends = descend(problem.repeat(starts + each), LevenbergMarquardt(), POLISHED, many).state
    best = ends.objective.nan_to_num(nan=torch.inf).view(len(y), -1).amin(1)
    target = best + (SHARE * best.abs()).clamp(max=NATS)
    return Case(name, operator, y, prior, fidelity, point, target, published or 200, published)
