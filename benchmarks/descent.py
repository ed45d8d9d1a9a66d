"""Methods of descent on the same problems, from the same starts: ``python benchmarks/descent.py [PART ...]``.

Parts: ``toys`` (the paper's manifolds and starts), ``bars`` (20, blurred), ``balls`` (10 pairs by electrical
impedance tomography), ``tanks`` (4 measured ones, levels 1 and 7) and ``batch`` (64 bars in one call against
64 calls). Every descent stops as soon as it is within 1 % of the best objective known for its measurement
and within 1 (toys: within 1 % of what there is to gain), or out of steps, or of its own accord where it finds
nothing to gain. Bars, balls and tanks start from random samples of the prior.

- *success*: measurements of which some start gets there; *starts*: single descents that do;
- *steps*, *evaluations*, *linearizations*: medians of the starts that get there;
- *calls*: evaluations of all starts of a measurement, mean;
- *outside*: share of the time spent neither in the operator nor in a network or its derivatives.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.descent_parts.controls import FixedStep, Reaches  # noqa: E402
from benchmarks.descent_parts.problems import Case, balls, bars, tanks, toys  # noqa: E402
from benchmarks.descent_parts.timing import Clock, TimedOperator, networks_on  # noqa: E402
from onmanifold import (  # noqa: E402
    LBFGS,
    ConjugateGradient,
    Latent,
    LatentAdam,
    LevenbergMarquardt,
    MaxSteps,
    Point,
    RiemannianGradientDescent,
    SmallDecrease,
    Status,
    solve,
)
from onmanifold.descent import Method, descend  # noqa: E402

METHODS: dict[str, Method[Any]] = {
    "Levenberg-Marquardt": LevenbergMarquardt(),
    "gradient (BB)": RiemannianGradientDescent(),
    "conjugate gradient": ConjugateGradient(),
    "L-BFGS": LBFGS(),
    "latent L-BFGS": Latent(LBFGS()),
    "latent Adam 0.03": LatentAdam(0.03),
    "latent Adam 0.1": LatentAdam(0.1),
    "fixed step 0.2": FixedStep(0.2),
    "fixed step 0.5": FixedStep(0.5),
}
HEAD = "method                success   starts  steps  evaluations  linearizations   calls  seconds  outside"


def measured(case: Case, method: Method[Any]) -> tuple[str, float]:
    """The row of a method, and the median of evaluations of the starts that reach the target."""
    clock = Clock()
    problem = case.problem(TimedOperator(case.operator, clock))
    stop = MaxSteps(case.budget) | Reaches(case.target, case.each) | SmallDecrease(1e-9)
    with networks_on(clock, case.prior):
        began = time.perf_counter()
        descent = descend(problem, method, stop, case.starts)
        seconds = time.perf_counter() - began
    reached = descent.status == Status.DISCREPANCY
    won = reached.view(len(case.measurement), -1).any(1)
    counts = problem.counts
    medians = [
        float(values[reached].double().median()) if reached.any() else torch.nan
        for values in (descent.state.steps, counts.evaluations, counts.linearizations)
    ]
    calls = float(counts.evaluations.double().mean()) * case.each
    row = (
        f"{int(won.sum()):4d} of {len(won):2d} {int(reached.sum()):4d}/{len(reached):<4d} {medians[0]:5.0f} "
        f"{medians[1]:12.0f} {medians[2]:15.0f} {calls:7.0f} {seconds:8.1f} "
        f"{1 - clock.seconds / seconds:8.1%}"
    )
    return row, medians[1]


def table(case: Case, names: list[str]) -> None:
    """Print the table of a problem."""
    print(f"\n{case.name}: {len(case.measurement)} measurements, {case.each} starts each")
    print(HEAD, flush=True)
    spent = {}
    for name in names:
        row, spent[name] = measured(case, METHODS[name])
        print(f"{name:20s} {row}", flush=True)
    ours = spent.get("Levenberg-Marquardt")
    if case.published and ours:
        times = case.published / ours
        print(f"published: {case.published} fixed steps, {times:.0f} times as many evaluations")


def batch(count: int = 64) -> None:
    """Bars in one call against as many calls."""
    case = bars(count, 4)
    options = {"fidelity": case.fidelity, "stop": MaxSteps(100) | SmallDecrease(1e-6)}
    began = time.perf_counter()
    together = solve(case.operator, case.measurement, case.prior, starts=case.starts, **options)
    middle = time.perf_counter()
    alone = []
    for b in range(count):
        rows = slice(b * case.each, (b + 1) * case.each)
        start = Point(case.starts.chart[rows], case.starts.z[rows])
        y = case.measurement[b : b + 1]
        alone.append(solve(case.operator, y, case.prior, starts=start, **options))
    ended = time.perf_counter()
    off = (torch.cat([one.x for one in alone]) - together.x).abs().max()
    objective = torch.cat([one.objective for one in alone])
    gap = ((together.objective - objective) / objective).abs().max()
    print(
        f"\n{count} bars: one call {middle - began:.1f} s, {count} calls {ended - middle:.1f} s, "
        f"{(ended - middle) / (middle - began):.1f} times; pixels differ by at most {off:.1g}, objectives by "
        f"{gap:.1g} of themselves"
    )


def cases(part: str, starts: int) -> Iterator[Case]:
    """The problems of a part."""
    if part == "toys":
        yield from toys()
    elif part == "bars":
        yield bars(20, starts)
    elif part == "balls":
        yield balls(10, starts)
    elif part == "tanks":
        yield from tanks(starts)


def main() -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ["toys", "bars", "balls", "tanks", "batch"]
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(parts)}; default: all")
    parser.add_argument("--starts", type=int, default=4, help="for each measurement")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(parts):
        parser.error(f"parts are {', '.join(parts)}, got {', '.join(sorted(unknown))}")
    for part in arguments.parts or parts:
        if part == "batch":
            batch()
        for case in cases(part, arguments.starts):
            table(case, arguments.methods)


if __name__ == "__main__":
    main()
