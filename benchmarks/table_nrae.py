"""Table 1 of the NRAE paper: ``python benchmarks/table_nrae.py [--output table.csv] [--jobs 2]``.

Eleven autoencoders learn digits (MNIST) and clothes (Fashion-MNIST) from few (S) and many (L) pictures, with
the same networks, batches and number of steps; the table has the mean squared error per pixel of the 10 000
test pictures, mean and standard deviation over seeds, beside that of Lee, Kwon, Park, *Neighborhood
reconstructing autoencoders*, NeurIPS 2021. Of each training the weights with the smallest error on the
validation pictures are measured; test pictures choose nothing.

One number of each method is chosen on the validation pictures, from three values, in trainings of half the
length with a seed that the table does not use. ``CHOSEN`` has the choice of

    python benchmarks/table_nrae.py --choose --output choice.csv

The data are found in $ONMANIFOLD_DATA. A call that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from tempfile import gettempdir

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.table_parts.designs import (  # noqa: E402
    CASES,
    FULL,
    GRIDS,
    METHODS,
    NEIGHBORHOOD,
    RECIPE,
    Budget,
)
from benchmarks.table_parts.fitting import Result, Run  # noqa: E402
from benchmarks.table_parts.records import Records  # noqa: E402

CHOICE_SEED = 100
OUTPUT = Path(gettempdir()) / "onmanifold-table.csv"

# Case by case the value of the number named in GRIDS.
CHOSEN: dict[str, dict[str, float]] = {
    "mnist-S": {
        "ae": 0.006,
        "vae": 0.0003,
        "wae": 0.0001,
        "dae": 0.1,
        "cae": 1e-05,
        "grae": 0.0001,
        "spae": 0.01,
        "nrae-l": 0.3,
        "nrae-q": 0.1,
        "topo-ae": 0.1,
        "witness-ae": 0.1,
    },
    "mnist-L": {
        "ae": 0.006,
        "vae": 0.0003,
        "wae": 0.0001,
        "dae": 0.1,
        "cae": 1e-05,
        "grae": 0.0001,
        "spae": 0.01,
        "nrae-l": 0.1,
        "nrae-q": 0.1,
        "topo-ae": 0.001,
        "witness-ae": 0.01,
    },
    "fashion-S": {
        "ae": 0.006,
        "vae": 0.0003,
        "wae": 0.0001,
        "dae": 0.1,
        "cae": 0.0001,
        "grae": 0.01,
        "spae": 0.01,
        "nrae-l": 0.1,
        "nrae-q": 0.3,
        "topo-ae": 0.1,
        "witness-ae": 0.1,
    },
    "fashion-L": {
        "ae": 0.006,
        "vae": 0.0003,
        "wae": 0.0001,
        "dae": 0.1,
        "cae": 1e-06,
        "grae": 0.001,
        "spae": 0.01,
        "nrae-l": 0.3,
        "nrae-q": 0.3,
        "topo-ae": 0.001,
        "witness-ae": 0.001,
    },
}


def planned(case: str, method: str, seed: int, budget: Budget) -> Run:
    """The run of the table."""
    chosen = CHOSEN[case]
    return Run(case, method, chosen[method], chosen["ae"], seed, budget)


def tried(case: str, method: str, rate: float | None, budget: Budget) -> list[Run]:
    """The runs that choose a method's number, at AE's learning rate."""
    half = replace(budget, steps=budget.steps // 2)
    return [
        Run(case, method, value, value if rate is None else rate, CHOICE_SEED, half)
        for value in GRIDS[method][1]
    ]


def best(records: Records, runs: list[Run]) -> float:
    """The value with the smallest error on the validation pictures."""
    errors = {run.value: result.validation for run in runs if (result := records.of(run))}
    return min(errors, key=errors.__getitem__)


def choose(
    records: Records, cases: list[str], methods: list[str], budget: Budget, jobs: int
) -> None:
    """Try every value of every method, AE's first, and print the best."""
    first = {case: tried(case, "ae", None, budget) for case in cases}
    records.train((run for runs in first.values() for run in runs), jobs)
    rates = {case: best(records, runs) for case, runs in first.items()}
    others = {
        (case, method): tried(case, method, rates[case], budget)
        for case in cases
        for method in methods
        if method != "ae"
    }
    records.train((run for runs in others.values() for run in runs), jobs)
    print("\nCHOSEN: dict[str, dict[str, float]] = {")
    for case in cases:
        chosen = {"ae": rates[case]}
        chosen |= {name: best(records, runs) for (at, name), runs in others.items() if at == case}
        print(f'    "{case}": {{{", ".join(f"{k!r}: {v:g}" for k, v in chosen.items())}}},')
    print("}")


def print_case(name: str, results: dict[str, list[Result]]) -> None:
    """A block of the table, with what NRAE gains."""
    case = CASES[name]
    print(f"\n{name}: {case.data}, {case.examples} pictures to learn from, d = {case.dim}\n")
    print("method        test error   spread     paper  validation  best at  seconds")
    for method, found in results.items():
        errors = [result.test for result in found]
        told = case.published.get(method)
        print(
            f"{method:12s} {mean(errors):11.5f} {spread(errors):8.5f} {told or '-':>9} "
            f"{mean(result.validation for result in found):11.5f} "
            f"{mean(result.best for result in found):8.0f} "
            f"{mean(result.preparation for result in found):4.0f} + "
            f"{mean(result.seconds for result in found):.0f}"
        )
    if "ae" in results and set(NEIGHBORHOOD) <= set(results):
        print_margin(
            name, {method: mean(r.test for r in found) for method, found in results.items()}
        )


def print_margin(name: str, errors: dict[str, float]) -> None:
    """What the better NRAE gains over AE, and whether it beats all others."""
    case, winner = CASES[name], min(NEIGHBORHOOD, key=errors.__getitem__)
    off = errors["ae"] / case.published["ae"] - 1
    margin = 1 - errors[winner] / errors["ae"]
    others = {method: e for method, e in errors.items() if method not in NEIGHBORHOOD}
    rival = min(others, key=others.__getitem__)
    beats = "yes" if errors[winner] < others[rival] else "no"
    print(
        f"\nAE against the paper's: {off:+.1%} (asked: within 10 %). {winner} below AE: {margin:.1%} "
        f"(paper {case.margin:.1%}: {'met' if margin >= case.margin else 'not met'}). Beats every other "
        f"method: {beats} (best of them {rival}, {others[rival]:.5f})."
    )


def spread(errors: list[float]) -> float:
    """Standard deviation, 0 of a single one."""
    return stdev(errors) if len(errors) > 1 else 0.0


def finished(records: Records, runs: Iterable[Run]) -> list[Result]:
    """The results that there are."""
    return [result for run in runs if (result := records.of(run))]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=OUTPUT, help="CSV file of results")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time, one thread each")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each method")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--full", action="store_true", help="larger networks, longer trainings")
    parser.add_argument("--choose", action="store_true", help="choose each method's number instead")
    return parser.parse_args()


def main() -> None:
    """Train what is missing and print the table, or choose."""
    arguments = parse()
    records, budget = Records(arguments.output), FULL if arguments.full else RECIPE
    print(budget)
    if arguments.choose:
        choose(records, arguments.cases, arguments.methods, budget, arguments.jobs)
        return
    plan = {
        (case, method): [planned(case, method, seed, budget) for seed in range(arguments.seeds)]
        for case in arguments.cases
        for method in arguments.methods
    }
    records.train((run for runs in plan.values() for run in runs), arguments.jobs)
    for case in arguments.cases:
        rows = {method: finished(records, plan[case, method]) for method in arguments.methods}
        print_case(case, rows)
    spent = [r for runs in plan.values() for r in finished(records, runs)]
    print(
        f"\n{len(spent)} trainings, {sum(r.preparation + r.seconds for r in spent) / 3600:.1f} core hours"
    )


if __name__ == "__main__":
    main()
