"""Methods of reconstruction on simulated water tanks that are as wrong as real ones.

    python benchmarks/tanks.py make                     simulates 60 scenes (kept in runs/tanks)
    python benchmarks/tanks.py compare --real DIR       how hard they are, beside measured tanks
    python benchmarks/tanks.py run METHOD ...           prints scores, counts, calibration, times
    python benchmarks/tanks.py picture METHOD ...       the same, and draws a page of pictures

Methods: linear, picture, scene, fourier, or MODULE:CLASS of one's own. Results are kept as they are made;
a run can be taken up again. ``--real DIR`` takes the measured tanks in DIR (``ref.mat``, ``data1.mat``,
``true1.mat``, ...) instead of the scenes. Without a command: ``make``, then ``run linear``.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: one process a core
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from benchmarks.tanks_parts import cases, records, statistics, tables  # noqa: E402
from benchmarks.tanks_parts.data_terms import DATA_TERMS  # noqa: E402
from benchmarks.tanks_parts.method import METHODS  # noqa: E402


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command and its options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command")
    for name in ("make", "compare", "run", "picture"):
        command = commands.add_parser(name)
        command.add_argument("--folder", type=Path, default=ROOT / "runs" / "tanks")
        command.add_argument("--scenes", type=int, default=cases.SCENES, help="the first so many")
        command.add_argument("--jobs", type=int, default=1, help="number of processes")
        if name != "make":
            command.add_argument("--real", type=Path, metavar="DIR", help="measured tanks")
        if name in ("run", "picture"):
            command.add_argument("methods", nargs="+", metavar="METHOD", help=", ".join(METHODS))
            command.add_argument("--levels", type=int, nargs="+", help="default: 1 4 7; real: all")
            command.add_argument("--data", choices=DATA_TERMS, default="transfer", help="data term")
        if name == "picture":
            command.add_argument("--output", type=Path, default=Path("tanks.png"))
    parsed = parser.parse_args(arguments)
    wrong = [n for n in getattr(parsed, "levels", None) or () if not 1 <= n <= 7]
    if wrong:
        parser.error(f"levels are 1 to 7, got {wrong[0]}")
    for method in getattr(parsed, "methods", ()):
        if method not in METHODS and ":" not in method:
            parser.error(f"methods are {', '.join(METHODS)} or MODULE:CLASS, got {method}")
    return parsed


def reconstruct(options: argparse.Namespace) -> None:
    """Run methods, print the tables, and draw the page where one is asked for."""
    if options.real:
        chosen = cases.load_real(options.real)
    else:
        cases.make_cases(options.folder, options.scenes, options.jobs)
        chosen = cases.load_cases(options.folder, range(options.scenes))
    levels = options.levels or (list(range(1, 8)) if options.real else [1, 4, 7])
    results = options.folder / "results"
    found = records.run(results, options.methods, options.data, chosen, levels, options.jobs)
    print("\n".join(tables.summary(found)))
    if not options.real:
        print("\nscore and share with the right number of objects, by kind of scene")
        print("\n".join(tables.by_kind(found)))
    print("\nshare of pixels that are of a class, by the probability that they were given")
    print("\n".join(tables.calibration(found)))
    if options.command == "picture":
        tables.page(chosen, found, options.output)
        print(f"\nwrote {options.output}")


def compare(options: argparse.Namespace) -> None:
    """Print how hard the scenes are, beside the measured tanks."""
    cases.make_cases(options.folder, options.scenes, options.jobs)
    chosen = cases.load_cases(options.folder, range(options.scenes))
    if options.real:
        chosen = cases.load_real(options.real) + chosen
    print("smallest, median, largest")
    print("\n".join(statistics.table(statistics.measure_all(chosen, options.jobs))))


def main() -> None:
    """Do what is asked for."""
    options = parse(None if len(sys.argv) > 1 else ["run", "linear"])
    torch.set_num_threads(1)
    if options.command == "make":
        cases.make_cases(options.folder, options.scenes, options.jobs)
    elif options.command == "compare":
        compare(options)
    else:
        reconstruct(options)


if __name__ == "__main__":
    main()
