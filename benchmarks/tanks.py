"""Methods of reconstruction on simulated water tanks that are as wrong as real ones.

    python benchmarks/tanks.py make                     simulates 60 scenes (kept in runs/tanks)
    python benchmarks/tanks.py run METHOD ...           prints scores, counts, calibration, times

Methods: linear, image, scene, fourier, or MODULE:CLASS of one's own. Results are kept as they are made;
a run that was interrupted goes on where it stopped. ``--real DIR`` takes the measured tanks in DIR
(``ref.mat``, ``data1.mat``, ``true1.mat``, ...) instead of the scenes. Without a command: ``run linear``.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: one process a core
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from tanks_parts import cases, scoring
from tanks_parts.data_terms import DATA_TERMS
from tanks_parts.methods import METHODS

FOLDER = Path(__file__).resolve().parents[1] / "runs" / "tanks"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command and its options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command")
    for name in ("make", "run"):
        command = commands.add_parser(name)
        command.add_argument("--folder", type=Path, default=FOLDER)
        command.add_argument("--scenes", type=int, default=cases.SCENES, help="the first so many")
        command.add_argument("--jobs", type=int, default=1, help="number of processes")
    command.add_argument("--real", type=Path, metavar="DIR", help="measured tanks")
    command.add_argument("methods", nargs="+", metavar="METHOD", help=", ".join(METHODS))
    command.add_argument("--levels", type=int, nargs="+", help="default: 1 4 7; real: all")
    command.add_argument("--data", choices=DATA_TERMS, default="transfer", help="data term")
    parsed = parser.parse_args(arguments)
    wrong = [n for n in getattr(parsed, "levels", None) or () if not 1 <= n <= 7]
    if wrong:
        parser.error(f"levels are 1 to 7, got {wrong[0]}")
    for method in getattr(parsed, "methods", ()):
        if method not in METHODS and ":" not in method:
            parser.error(f"methods are {', '.join(METHODS)} or MODULE:CLASS, got {method}")
    return parsed


def main() -> None:
    """Run a command."""
    options = parse(None if len(sys.argv) > 1 else ["run", "linear"])
    torch.set_num_threads(1)
    real = getattr(options, "real", None)
    if real:
        chosen = cases.load_real(real)
    else:
        cases.make_cases(options.folder, options.scenes, options.jobs)
        chosen = cases.load_cases(options.folder, range(options.scenes))
    if options.command == "run":
        levels = options.levels or ([1, 2, 3, 4, 5, 6, 7] if real else [1, 4, 7])
        results = options.folder / "results"
        found = scoring.run(results, options.methods, options.data, chosen, levels, options.jobs)
        scoring.summary(found)
        if not real:
            print("\nscore and share with the right number of objects, by kind of scene")
            scoring.by_kind(found)
        print("\nshare of pixels that are of a class, by the probability that they were given")
        scoring.calibration(found)


if __name__ == "__main__":
    main()
