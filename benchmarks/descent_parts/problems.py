"""The problems of benchmarks/descent.py: operator, measurements, prior, and the initial points."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from balls import Balls
from bars import NOISE, blurred_bars
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
)
from onmanifold.descent import build_problem, descend
from onmanifold.descent.problem import Problem
from onmanifold.geometry import locate
from onmanifold.initial_points import choose_initial_points
from onmanifold.operators.eit import EIT, flag_channels, ktc
from tanks_parts.cases import load_real, measured_tanks
from tanks_parts.methods import noise, offset_images, saturating
from toys import TOYS

SHARE = 0.01  # above the best known objective: still a success, ...
NATS = 1.0  # ... if it is no less likely than by this much: of noisy data, 1 % hides a wrong answer
POLISHED = MaxSteps(200) | SmallDecrease(1e-10) | GradientNorm(1e-9)


class Race(NamedTuple):
    """B measurements with S starts each, which several methods descend from."""

    name: str  # of the problem
    operator: ForwardOperator
    measurement: Tensor  # (B, *y_shape)
    prior: ManifoldPrior
    fidelity: Fidelity | None  # None: least squares without a density
    starts: Point  # S points for each measurement in turn
    target: Tensor  # objective at which a descent has succeeded, (B,)
    published: int = 0  # steps of fixed length in the paper, 0 where there is none

    @property
    def each(self) -> int:
        """S."""
        return len(self.starts) // len(self.measurement)

    @property
    def budget(self) -> int:
        """Steps that a method may take."""
        return self.published or 200

    def problem(self) -> Problem:
        """The objective of each start."""
        one = build_problem(self.operator, self.measurement, self.prior, self.fidelity)
        return one.repeat(self.each)


def toys() -> Iterator[Race]:
    """The toy manifolds with the paper's starts; each start is a measurement of its own."""
    for name, toy in TOYS.items():
        prior = load_prior(name)
        start = locate(prior, toy.starts(0))
        y = torch.tensor(toy.target).expand(len(start), -1)
        operator = as_operator(lambda x: x, prior.x_shape)
        problem = build_problem(operator, y, prior)
        reached = [
            descend(problem, method, POLISHED, start).state.objective
            for method in (LevenbergMarquardt(), RiemannianGradientDescent())
        ]
        best, began = torch.stack(reached).amin(0), problem.at(start).objective
        # The least objective may be 0: what counts is 1 % of what there is to gain.
        yield Race(name, operator, y, prior, None, start, best + SHARE * (began - best), 500)


def bars(count: int, starts: int) -> Race:
    """Blurred, noisy bars."""
    _, _, operator, y = blurred_bars(count)
    return _race("bars", operator, y, load_prior("bar"), Gaussian(NOISE), starts, 500)


def balls(count: int, starts: int) -> Race:
    """Two balls from electrode voltages."""
    made, prior = Balls.make(count, 0), load_prior("two-balls")
    fidelity = Gaussian(made.std)
    return _race("two balls", made.operator, made.measurement, prior, fidelity, starts, 100)


def tanks(starts: int, levels: tuple[int, ...] = (1, 7)) -> Iterator[Race]:
    """Measured water tanks as they are described, cut to a level of the challenge."""
    if not measured_tanks().is_dir():
        print(f"tanks: no measured data in {measured_tanks()}, set ONMANIFOLD_DATA: skipped")
        return
    cases, prior = load_real(), offset_images()
    reference = cases[0].reference
    operator = EIT(
        ktc.tank(),
        reference.protocol,
        prior.x_shape,
        conductivity=saturating(ktc.WATER_CONDUCTIVITY),
        reference=reference.voltages,
    )
    bad = flag_channels(reference).bad
    for level in levels:
        measured = [case.at(level).measurement for case in cases]
        std = torch.stack([noise(reference, m, bad) for m in measured])
        y = torch.stack([m.voltages for m in measured]).to(prior.dtype)
        fidelity = Gaussian(std.to(prior.dtype), mask=torch.stack([m.mask for m in measured]))
        yield _race(f"tanks, level {level}", operator, y, prior, fidelity, starts, 0)


def _race(
    name: str,
    operator: ForwardOperator,
    y: Tensor,
    prior: ManifoldPrior,
    fidelity: Fidelity,
    starts: int,
    published: int,
) -> Race:
    """The starts are samples of the prior as they come: the pool of ``solve`` would be there at once.

    The best known objective is that of 16 chosen starts and these, all polished.
    """
    problem = build_problem(operator, y, prior, fidelity)
    point = prior.sample(starts * len(y), 1)
    chosen, each = choose_initial_points(problem, InitialPoints(256, 16), 0)
    rows = torch.arange(len(y))[:, None]
    own, more = (rows * s + torch.arange(s) for s in (starts, each))
    both = torch.cat([own, more + len(point)], dim=1).flatten()  # measurement by measurement
    many = Point.cat([point, chosen]).select(both)
    final = descend(problem.repeat(starts + each), LevenbergMarquardt(), POLISHED, many).state
    best = final.objective.nan_to_num(nan=torch.inf).view(len(y), -1).amin(1)
    target = best + (SHARE * best.abs()).clamp(max=NATS)
    return Race(name, operator, y, prior, fidelity, point, target, published)
