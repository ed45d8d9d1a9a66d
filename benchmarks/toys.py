"""Descent on the toy manifolds: ``python benchmarks/toys.py [--random 200] [--seeds 5]``.

Minimizes |x - target|^2 / 2 on each learned manifold and counts the starts that reach the constrained minimum
of their component, to 0.05 (torus 0.15), in at most 100 steps of Riemannian gradient descent and 25 of
Levenberg-Marquardt. The targets are those of Alberti et al., JMLR 25 (2024), section 5, which takes 500 to
3000 steps. Theory says:

* ring, target (-1, 0), a point of it: the only minimum; (0.5, 0), at the hole, is a saddle where only
  starts on the positive x axis end;
* two circles, target 0: on each one minimum and, opposite, one maximum;
* sphere, target (0, 0, -2): the south pole is the minimum, the north pole a maximum, nothing else;
* torus, target (-5, 0, 0): minimum (-4, 0, 0), maximum (4, 0, 0), saddles (2, 0, 0) and (-2, 0, 0).

So no manifold has a wrong local minimum; a learned one may, where a chart leaves the data. Random starts
come from the data manifold, all but those within 0.05 of a maximum or a saddle, where a descent may stay.
"""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
import typer
from torch import Tensor

from onmanifold import (
    ChartRetraction,
    LevenbergMarquardt,
    ManifoldPrior,
    MaxSteps,
    ProjectionRetraction,
    RiemannianGradientDescent,
    SmallDecrease,
    Solution,
    load_dataset,
    load_prior,
    solve,
)
from onmanifold.descent import Method
from onmanifold.geometry import locate
from onmanifold.priors.datasets import stream
from onmanifold.retraction import Retraction
from shared.options import one_of
from shared.tables import Table

ONE_CHART = Path(__file__).parent / "one_chart"
METHODS: dict[str, tuple[Method[Any], int]] = {
    "gradient": (RiemannianGradientDescent(), 100),
    "LM": (LevenbergMarquardt(), 25),
}
RETRACTIONS: dict[str, Retraction] = {
    "chart": ChartRetraction(),
    "projection": ProjectionRetraction(),
}
COLUMNS = {
    "manifold": "<12",
    "charts": "d",
    "method": "<8",
    "retraction": "<",
    "starts": "<",
    "reached": "",
    "worst": ".3f",
    "median": ".3f",
    "steps": ".0f",
    "max": ".0f",
    "calls": ".0f",
}


class Toy(NamedTuple):
    """A problem of the paper: points of the plane or of space."""

    target: list[float]
    minima: list[list[float]]  # the constrained minimum of each component
    critical: list[list[float]]  # maxima and saddles
    starts: Callable[[int], Tensor]  # makes the paper's starts from a seed
    tolerance: float = 0.05  # largest distance to the minimum that counts as reached

    def goals(self, x: Tensor) -> Tensor:
        """The minimum of the component that each start ``(B, n)`` lies on."""
        minima = torch.tensor(self.minima)
        if len(minima) == 1:
            return minima.expand(len(x), -1)
        return minima[(x[:, 0] > 0).long()]  # the circles lie left and right of the origin


def near_the_north_pole(seed: int) -> Tensor:
    """Ten points of the sphere, 0.1 to 0.5 from its north pole."""
    generator = stream(seed, "held-out", 1)
    polar = 0.1 + 0.4 * torch.rand(10, generator=generator)
    around = 2 * torch.pi * torch.rand(10, generator=generator)
    flat = polar.sin()
    return torch.stack([flat * around.cos(), flat * around.sin(), polar.cos()], dim=1)


TOYS = {
    "ring": Toy(
        [-1.0, 0.0],
        [[-1.0, 0.0]],
        [[0.5, 0.0]],
        lambda seed: torch.tensor([[1.0, 0.4], [1.0, -0.4]]),
    ),
    "two-circles": Toy(
        [0.0, 0.0],
        [[-0.5, 0.0], [0.5, 0.0]],
        [[-2.5, 0.0], [2.5, 0.0]],
        lambda seed: torch.tensor([[-2.2, 0.714], [-2.2, -0.714], [2.2, 0.714], [2.2, -0.714]]),
    ),
    "sphere": Toy([0.0, 0.0, -2.0], [[0.0, 0.0, -1.0]], [[0.0, 0.0, 1.0]], near_the_north_pole),
    "torus": Toy(
        [-5.0, 0.0, 0.0],
        [[-4.0, 0.0, 0.0]],
        [[4.0, 0.0, 0.0], [2.0, 0.0, 0.0], [-2.0, 0.0, 0.0]],
        lambda seed: random_starts("torus", 30, seed),
        tolerance=0.15,
    ),
}


def random_starts(name: str, n: int, seed: int) -> Tensor:
    """``n`` points of a manifold, none within 0.05 of a maximum or a saddle (the axis, on the ring)."""
    x, _ = load_dataset(name, noise=0.0).sample(2 * n, stream(seed, "held-out", 2))
    if name == "ring":  # all of the ray descends to the saddle
        far = (x[:, 0] < 0) | (x[:, 1].abs() > 0.05)
    else:
        far = (torch.cdist(x, torch.tensor(TOYS[name].critical)) > 0.05).all(dim=1)
    return x[far][:n]


def identity(x: Tensor) -> Tensor:
    """The operator."""
    return x


def descend(
    name: str, prior: ManifoldPrior, x: Tensor, method: str = "LM", retraction: str = "chart"
) -> Solution:
    """Descend from each start ``(B, n)``, as a measurement of its own."""
    how, most = METHODS[method]
    return solve(
        identity,
        torch.tensor(TOYS[name].target).expand(len(x), -1),
        prior,
        method=how,
        starts=locate(prior, x),
        stop=MaxSteps(most) | SmallDecrease(1e-6),
        retraction=RETRACTIONS[retraction],
        trajectory=True,
    )


def multi_start(name: str, prior: ManifoldPrior, seeds: int) -> Tensor:
    """Distance to the nearest global minimum of what ``solve`` without given starts finds, ``(seeds,)``."""
    target, minima = torch.tensor([TOYS[name].target]), torch.tensor(TOYS[name].minima)
    found = [solve(identity, target, prior, seed=seed).x for seed in range(seeds)]
    return torch.cdist(torch.cat(found), minima).amin(dim=1)


def off_the_minimum(name: str, x: Tensor, solution: Solution) -> Tensor:
    """Distance of the final points to the minimum of the component that they started on, ``(B,)``."""
    return (solution.x - TOYS[name].goals(x)).norm(dim=1)


def report(table: Table, name: str, prior: ManifoldPrior, random: int, seeds: int) -> None:
    """Print the rows of one prior."""
    toy, charts = TOYS[name], prior.num_charts
    kinds = {"paper": toy.starts(0), "random": random_starts(name, random, 0)}
    for method, retraction, kind in product(METHODS, RETRACTIONS, kinds):
        x = kinds[kind]
        solution = descend(name, prior, x, method, retraction)
        off, steps = off_the_minimum(name, x, solution), solution.steps.float()
        reached = f"{int((off <= toy.tolerance).sum())}/{len(x)}"
        found = off.max(), off.median(), steps.median(), steps.max()
        calls = solution.operator_calls.float().median()
        table.row(name, charts, method, retraction, kind, reached, *found, calls)
    off = multi_start(name, prior, seeds)
    print(
        f"{name:12s}  {charts:6d}  multi-start, LM, chart: {int((off <= toy.tolerance).sum())} of "
        f"{seeds} seeds reach the global minimum, farthest {off.max():.3f}"
    )


ToyName = one_of(TOYS)


def main(
    random: int = 200,
    seeds: int = 5,
    manifolds: list[ToyName] = tuple(ToyName),
) -> None:
    """Print the rows of each prior, and of the same manifold with a single chart.

    With so many random starts a manifold, and so many seeds of the multi-start.
    """
    table = Table(COLUMNS)
    for name in manifolds:
        for source in (name, ONE_CHART / f"{name}-1"):
            report(table, name, load_prior(source), random, seeds)


if __name__ == "__main__":
    typer.run(main)
