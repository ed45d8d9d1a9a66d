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

import time
from typing import Annotated, Any

import torch
import typer

from descent_parts.clock import clock_on
from descent_parts.controls import FixedStep, Reaches
from descent_parts.problems import Race, balls, bars, tanks, toys
from onmanifold import (
    LBFGS,
    ConjugateGradient,
    Latent,
    LevenbergMarquardt,
    MaxSteps,
    RiemannianGradientDescent,
    SmallDecrease,
    Solution,
    Status,
    solve,
)
from onmanifold.descent import Method, descend
from shared.options import one_of
from shared.tables import Table
from shared.timing import seconds_of

METHODS: dict[str, Method[Any]] = {
    "Levenberg-Marquardt": LevenbergMarquardt(),
    "gradient (BB)": RiemannianGradientDescent(),
    "conjugate gradient": ConjugateGradient(),
    "L-BFGS": LBFGS(),
    "latent L-BFGS": Latent(LBFGS()),
    "fixed step": FixedStep(0.5),
}
MEDIANS = ("steps", "evaluations", "linearizations")
COLUMNS = {"method": "<20", "success": "8", "starts": "7"} | dict.fromkeys(MEDIANS, ".0f")
PARTS = ("toys", "bars", "balls", "tanks", "batch")


def measured(table: Table, race: Race, name: str) -> float:
    """Print the row of a method; the median of evaluations of the starts that reach the target."""
    problem = race.problem()
    stop = MaxSteps(race.budget) | Reaches(race.target, race.each) | SmallDecrease(1e-9)
    with clock_on(race.operator, race.prior, race.starts) as clock:
        began = time.perf_counter()
        found = descend(problem, METHODS[name], stop, race.starts)
        seconds = time.perf_counter() - began
    reached = found.status == Status.DISCREPANCY
    won = reached.view(len(race.measurement), -1).any(1)
    counts = problem.counts
    medians = [
        float(values[reached].double().median()) if reached.any() else torch.nan
        for values in (found.state.steps, counts.evaluations, counts.linearizations)
    ]
    shares = f"{int(won.sum())} of {len(won)}", f"{int(reached.sum())}/{len(reached)}"
    calls = float(counts.evaluations.double().mean()) * race.each
    table.row(name, *shares, *medians, calls, seconds, 1 - clock.seconds / seconds)
    return medians[1]


def compare(race: Race, names: list[str]) -> None:
    """Print the table of a problem."""
    print(f"\n{race.name}: {len(race.measurement)} measurements, {race.each} starts each")
    table = Table(COLUMNS | {"calls": ".0f", "seconds": ".1f", "outside": ".1%"})
    evaluations = {name: measured(table, race, name) for name in names}
    if race.published and (ours := evaluations.get("Levenberg-Marquardt")):
        times = race.published / ours
        print(f"published: {race.published} fixed steps, {times:.0f} times as many evaluations")


def batch(count: int = 64) -> None:
    """Bars in one call against as many calls."""
    race = bars(count, 4)
    options = {"fidelity": race.fidelity, "stop": MaxSteps(100) | SmallDecrease(1e-6)}
    found: list[Solution] = []

    def call(rows: range) -> None:
        starts = race.starts.select(torch.arange(rows.start * 4, rows.stop * 4))
        y = race.measurement[rows.start : rows.stop]
        found.append(solve(race.operator, y, race.prior, starts=starts, **options))

    together = seconds_of(lambda: call(range(count)))
    alone = seconds_of(lambda: [call(range(b, b + 1)) for b in range(count)])
    off = (torch.cat([one.x for one in found[1:]]) - found[0].x).abs().max()
    objective = torch.cat([one.objective for one in found[1:]])
    gap = ((found[0].objective - objective) / objective).abs().max()
    print(
        f"\n{count} bars: one call {together:.1f} s, {count} calls {alone:.1f} s, "
        f"{alone / together:.1f} times; pixels differ by at most {off:.1g}, objectives by "
        f"{gap:.1g} of themselves"
    )


Part = one_of(PARTS)
MethodName = one_of(METHODS)


def main(
    parts: Annotated[list[Part], typer.Argument()] = tuple(Part),
    starts: int = 4,
    methods: list[MethodName] = tuple(MethodName),
) -> None:
    """Print the tables asked for, by default all, with so many starts for each measurement."""
    for part in parts:
        if part == "batch":
            batch()
        elif part in ("toys", "tanks"):
            for race in toys() if part == "toys" else tanks(starts):
                compare(race, methods)
        else:
            compare(bars(20, starts) if part == "bars" else balls(10, starts), methods)


if __name__ == "__main__":
    typer.run(main)
