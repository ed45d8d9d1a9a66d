"""Reconstruct measured water tanks: the interface of the Kuopio Tomography Challenge 2023.

    python examples/ktc_tank.py INPUT OUTPUT LEVEL [--truth DIR] [--all-levels] [--jobs N]

INPUT holds ``ref.mat`` and ``data1.mat``, ``data2.mat``, ...; for each case OUTPUT gets ``K.npy`` (256 x 256,
0 water, 1 resistive, 2 conductive, row 0 on top) and ``K.png``. With ``--truth`` the official score is
printed. ``--all-levels`` cuts complete data by the challenge's rule and runs all seven levels.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: one process a core
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse  # noqa: E402
import logging  # noqa: E402
import time  # noqa: E402
import warnings  # noqa: E402
from collections.abc import Iterator, Sequence  # noqa: E402
from concurrent.futures import ProcessPoolExecutor  # noqa: E402
from functools import cache, partial  # noqa: E402
from multiprocessing import get_context  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from ktc_parts.cases import Case, read_cases  # noqa: E402
from ktc_parts.drawing import page, save  # noqa: E402
from ktc_parts.scenes import PATIENCE, Found, described, posterior_of, with_drift  # noqa: E402
from rich.progress import Progress  # noqa: E402

from onmanifold import load_prior  # noqa: E402
from onmanifold.operators.eit import (  # noqa: E402
    CalibratedTank,
    Implausible,
    Inclusions,
    Measurement,
    calibrate_tank,
    check_against,
    check_reference,
    homogeneous_voltages,
    ktc,
)
from onmanifold.priors.parameters import WithParameters  # noqa: E402


def solved(tank: CalibratedTank, patience: int, checked: tuple[Case, tuple[int, ...]]) -> Found:
    """What stands in a tank of which some channels are bad."""
    began = time.perf_counter()
    torch.set_num_threads(1)
    prior, (case, bad) = scenes(), checked
    operator = tank.operator(Inclusions(tank.background), prior.x_shape)
    fidelity = tank.fidelity(case.measurement, bad)
    y = case.measurement.voltages.flatten()
    posterior = posterior_of(operator, y, fidelity, prior, patience=patience)
    return described(posterior, prior, time.perf_counter() - began)


@cache  # it takes a second, once in each process
def scenes() -> WithParameters:
    """What may stand in a tank."""
    return with_drift(load_prior("scene"))


def solve_all(
    tank: CalibratedTank, cases: Sequence[tuple[Case, tuple[int, ...]]], jobs: int, patience: int
) -> Iterator[Found]:
    """What stands in each tank, in order, by several processes."""
    work = partial(solved, tank, patience)
    if jobs == 1:
        yield from map(work, cases)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, cases)


def report(results: Sequence[tuple[Case, Found]]) -> None:
    """Print scores (where the truth is known), what was counted, how sure that is, and times."""
    print("case level  score resistive conductive  sure  seconds")
    for case, found in results:
        score = "" if case.truth is None else f"{ktc.score(found.labels, case.truth):.3f}"
        (resistive, conductive), sure = next(iter(found.objects.items()))
        print(
            f"{case.number:>4} {case.level or '':>5} {score:>6} {resistive:9d} {conductive:10d} "
            f"{sure:5.0%} {found.seconds:8.1f}"
        )
    known = [(case, found) for case, found in results if case.truth is not None]
    for level in dict.fromkeys(case.level for case, _ in known):
        scores = [ktc.score(f.labels, c.truth) for c, f in known if c.level == level]
        print(f"level {level}: mean score {np.mean(scores):.3f} of {len(scores)} cases")


def parse() -> argparse.Namespace:
    """The arguments, checked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("level", type=int, nargs="?", help="1 to 7; not needed with --all-levels")
    parser.add_argument("--truth", type=Path, help="folder with true1.mat, true2.mat, ...")
    parser.add_argument("--all-levels", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument(
        "--patience", type=int, default=PATIENCE, help="modes whose jumps may lead to nothing"
    )
    arguments = parser.parse_args()
    if arguments.level is None and not arguments.all_levels:
        parser.error("give a level from 1 to 7, or --all-levels")
    if arguments.level is not None and not 1 <= arguments.level <= 7:
        parser.error(f"levels are 1 to 7, got {arguments.level}")
    arguments.levels = list(range(1, 8)) if arguments.all_levels else [arguments.level]
    try:
        arguments.reference = ktc.read(arguments.input / "ref.mat")
        arguments.cases = read_cases(arguments.input, arguments.truth, arguments.levels)
        arguments.bad = check(arguments.reference, arguments.cases)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return arguments


def check(reference: Measurement, cases: Sequence[Case]) -> list[tuple[int, ...]]:
    """Refuse files that cannot be right; the bad channels of each case and of the reference."""
    expected = homogeneous_voltages(ktc.tank(), reference.protocol, ktc.WATER_CONDUCTIVITY)
    known = check_reference(reference, expected, "ref.mat", ktc.protocol()).bad
    found = []
    for case in cases:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Implausible)  # of what the reference's check has told
            report = check_against(reference, case.measurement, case.file)
        found.append(tuple(sorted({*known, *report.bad})))
        if not set(report.bad) <= set(known):
            logging.warning("%s: %s", case.file, "; ".join(report.reasons))
    return found


def told(tank: CalibratedTank, bad: Sequence[int]) -> str:
    """What makes a picture unsure: channels that are worse than the reference's repeats show."""
    bad = [j for j in bad if j not in tank.unreliable]
    return f"channels {', '.join(str(j + 1) for j in bad)} look bad" if bad else ""


def main() -> None:
    """Read the arguments, run every case."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    warnings.showwarning = lambda message, *_: logging.warning("%s", message)  # without its place
    given = parse()
    tank = calibrate_tank(ktc.tank(), given.reference)
    checked = list(zip(given.cases, given.bad, strict=True))
    jobs = max(1, min(given.jobs, len(given.cases)))
    results = []
    with Progress() as progress:
        found = progress.track(
            solve_all(tank, checked, jobs, given.patience), len(checked), description="tanks"
        )
        for (case, bad), one in zip(checked, found, strict=True):
            folder = given.output / f"level{case.level}" if given.all_levels else given.output
            save((case, one), folder, told(tank, bad))
            results.append((case, one))
    page(results, given.output / "page.png")
    report(results)


if __name__ == "__main__":
    main()
