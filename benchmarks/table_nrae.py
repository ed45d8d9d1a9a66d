"""Table 1 of the NRAE paper: ``python benchmarks/table_nrae.py [--output FOLDER] [--jobs 2]``.

Eleven autoencoders learn digits (MNIST) and clothes (Fashion-MNIST) from few (S) and many (L) images, with
the same networks, batches and number of steps. The table has the mean squared error per pixel of the 10 000
test images, mean and standard deviation over seeds, beside that of Lee, Kwon, Park, *Neighborhood
reconstructing autoencoders*, NeurIPS 2021. Of each training the weights with the smallest error on the
validation images are measured; test images choose nothing.

One number of each method is chosen on the validation images, from three values, in trainings of half the
length with a seed that the table does not use. ``CHOSEN`` has the choice of

    python benchmarks/table_nrae.py --choose

The data are found in $ONMANIFOLD_DATA. Results are kept in the folder, so that a call that was interrupted
goes on where it stopped.
"""

from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated

import typer
from joblib import Memory

from shared.jobs import in_jobs
from shared.options import one_of
from shared.tables import Table
from table_parts.designs import BLOCKS, CHOSEN, GRIDS, METHODS, NEIGHBORHOOD, PUBLISHED
from table_parts.fitting import STEPS, Training, fit

CHOICE_SEED = 100
OUTPUT = Path(__file__).resolve().parents[1] / "runs" / "table-nrae"
Result = dict[str, float]
Results = Callable[[list[Training]], dict[Training, Result]]


def choose(results_of: Results, blocks: list[str], methods: list[str]) -> None:
    """Try every value of every method, AE's learning rates first, and print the best."""
    chosen: dict[str, dict[str, float]] = {}
    for group in (["ae"], [method for method in methods if method != "ae"]):
        tried = [
            Training(block, method, value, rate, CHOICE_SEED, STEPS // 2)
            for block in blocks
            for method in group
            for value in GRIDS[method][1]
            for rate in [chosen["ae"][block] if chosen else value]
        ]
        found = results_of(tried)
        for method in group:
            chosen[method] = {}
            for block in blocks:
                own = [t for t in tried if (t.block, t.method) == (block, method)]
                best = min(own, key=lambda training: found[training]["validation"])
                chosen[method][block] = best.value
            print(f"{method!r}: {chosen[method]}")


def print_block(name: str, results: dict[str, list[Result]]) -> None:
    """A block of the table, with the margin of NRAE."""
    block = BLOCKS[name]
    print(f"\n{name}: {block.data}, {block.examples} images to learn from, d = {block.dim}\n")
    errors = dict.fromkeys(["test error", "spread", "paper", "validation"], ".5f")
    times = {"best at": ".0f", "prepared in": ".0f", "seconds": ".0f"}
    table = Table({"method": "<12"} | errors | times)
    tested = {method: mean(r["test"] for r in found) for method, found in results.items()}
    for method, found in results.items():
        published = PUBLISHED.get(method, {}).get(name, "-")
        spread = stdev(result["test"] for result in found) if len(found) > 1 else 0.0
        rest = (mean(r[k] for r in found) for k in ("validation", "best", "preparation", "seconds"))
        table.row(method, tested[method], spread, published, *rest)
    if {"ae", *NEIGHBORHOOD} <= set(results):
        print_margin(name, tested)


def print_margin(name: str, errors: dict[str, float]) -> None:
    """The margin of the better NRAE below AE, and whether it beats all others."""
    margin, winner = BLOCKS[name].margin, min(NEIGHBORHOOD, key=errors.__getitem__)
    off, here = errors["ae"] / PUBLISHED["ae"][name] - 1, 1 - errors[winner] / errors["ae"]
    others = {method: e for method, e in errors.items() if method not in NEIGHBORHOOD}
    rival = min(others, key=others.__getitem__)
    print(
        f"\nAE against the paper's: {off:+.1%} (asked: within 10 %). {winner} below AE: {here:.1%} "
        f"(paper {margin:.1%}: {'met' if here >= margin else 'not met'}). Beats every other "
        f"method: {'yes' if errors[winner] < others[rival] else 'no'} "
        f"(best of them {rival}, {others[rival]:.5f})."
    )


BlockName = one_of(BLOCKS)
MethodName = one_of(METHODS)


def main(
    output: Path = OUTPUT,
    jobs: int = 2,
    seeds: int = 3,
    blocks: list[BlockName] = tuple(BlockName),
    methods: list[MethodName] = tuple(MethodName),
    choose_numbers: Annotated[bool, typer.Option("--choose")] = False,
) -> None:
    """Train what is missing in the folder of results and print the table, or choose each method's number."""
    cached = Memory(output, verbose=0).cache(fit)

    def results_of(trainings: list[Training]) -> dict[Training, Result]:
        return dict(zip(trainings, in_jobs(cached, trainings, jobs, "trainings"), strict=True))

    if choose_numbers:
        choose(results_of, blocks, methods)
        return
    plan = {
        (block, method): [
            Training(block, method, CHOSEN[method][block], CHOSEN["ae"][block], seed)
            for seed in range(seeds)
        ]
        for block in blocks
        for method in methods
    }
    found = results_of([training for trainings in plan.values() for training in trainings])
    for block in blocks:
        rows = {method: [found[t] for t in plan[block, method]] for method in methods}
        print_block(block, rows)
    hours = sum(r["preparation"] + r["seconds"] for r in found.values()) / 3600
    print(f"\n{len(found)} trainings, {hours:.1f} core hours")


if __name__ == "__main__":
    typer.run(main)
