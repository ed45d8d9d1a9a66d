"""Quality against cost of injective chart architectures: ``python benchmarks/charts.py``.

All are trained alike, as an atlas of one chart on 128 x 128 pictures, for the same processor seconds on one
thread; then they reconstruct 1000 held-out pictures. The paper's networks at full width are timed only.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.charts_parts import tables  # noqa: E402
from benchmarks.charts_parts.designs import DESIGNS  # noqa: E402
from benchmarks.charts_parts.training import TASKS, Result, compare  # noqa: E402


def main() -> None:
    """Print a table for each data set, and one of costs; draw the picture."""
    arguments = parse()
    torch.set_num_threads(1)
    known = read(arguments.results)
    for name in arguments.data:
        seconds = TASKS[name].share * arguments.seconds
        print(f"\n{name}, d = {TASKS[name].dim}, {seconds:g} s a design\n\n{tables.HEAD}")
        for label in arguments.designs:
            key = f"{name} {label}"
            if key not in known or known[key].seconds != seconds:
                known[key] = compare(
                    DESIGNS[label],
                    TASKS[name],
                    seconds=seconds,
                    batch=arguments.batch,
                    half=not arguments.single,
                    seed=arguments.seed,
                )
                write(arguments.results, known)
            print(tables.row(label, known[key]), flush=True)
    if not arguments.no_costs:
        tables.print_costs()
    if arguments.picture:
        chosen = {f"{name} {label}" for name in arguments.data for label in arguments.designs}
        tables.draw(
            {key: result for key, result in known.items() if key in chosen}, arguments.picture
        )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seconds",
        type=float,
        default=100.0,
        help="processor time a design; for the bar 40 % of it",
    )
    parser.add_argument("--data", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--designs", nargs="+", choices=DESIGNS, default=list(DESIGNS))
    parser.add_argument("--batch", type=int, default=32, help="pictures a step")
    parser.add_argument("--seed", type=int, default=0, help="of weights, data and noise")
    parser.add_argument("--single", action="store_true", help="float32, not bfloat16")
    parser.add_argument("--no-costs", action="store_true", help="leave out the table of costs")
    parser.add_argument("--picture", type=Path, help="PNG of quality against seconds")
    parser.add_argument(
        "--results", type=Path, help="JSON file: rows found there are not measured again"
    )
    return parser.parse_args()


def read(file: Path | None) -> dict[str, Result]:
    """Rows measured earlier."""
    if file is None or not file.exists():
        return {}
    return {key: Result(**fields) for key, fields in json.loads(file.read_text()).items()}


def write(file: Path | None, results: dict[str, Result]) -> None:
    """Keep rows for a later call."""
    if file is not None:
        rows = {key: asdict(result) for key, result in results.items()}
        file.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
