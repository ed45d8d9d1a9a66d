"""The subcommand ``disk``: the interface of the Helsinki Tomography Challenge 2022."""

from __future__ import annotations

import io
import json
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image

from onmanifold.applications.disks.cases import Case, read_cases, solid_file
from onmanifold.applications.disks.figures import Result, figure_of, page_of
from onmanifold.applications.disks.reconstruction import (
    PATIENCE,
    Reconstruction,
    disk_prior,
    reconstruct,
)
from onmanifold.errors import InputError
from onmanifold.operators.ct import CalibratedScanner, UnreliableData, calibrate_disk, htc
from onmanifold.plot.style import png
from onmanifold.priors.scene import Scene
from onmanifold.processes import over_cases
from onmanifold.solution import InconsistentWarning
from onmanifold.storage import check_folder, write_folder

INCONSISTENT = 3  # exit code: all was written, but no scene explains some of the data


def disk(
    input: Annotated[
        Path, typer.Argument(help="Folder with solid*.mat and measurements of disks with holes.")
    ],
    output: Annotated[Path, typer.Argument(help="Folder for images.")],
    level: Annotated[int, typer.Argument(help="1 (90 degrees) to 7 (30 degrees).")],
    solid: Annotated[Path | None, typer.Option(help="Measurement of a disk without holes.")] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Folder with NAME_true.png: print scores.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Processes, for one case as well; by default one a core.")
    ] = None,
    patience: Annotated[
        int, typer.Option(help="Modes in a row whose jumps may lead to nothing better.")
    ] = PATIENCE,
) -> None:
    """Find the holes in measured disks: NAME.png and NAME-page.png for each NAME.mat, and numbers.json.

    NAME.png is 512 x 512, row 0 on top: white material, black air. Data of a larger arc are cut to the
    level's. The exit code is 3 if no scene of learned outlines explains some data: rely less on these images.
    """
    from rich.progress import Progress

    check_folder(output)
    torch.set_num_threads(1)  # of this process; the others have one thread each
    scanner, cases = check(input, solid, truth, level)
    jobs = max(1, jobs or os.cpu_count() or 1)
    results: list[Result] = []
    with Progress() as progress:
        found = progress.track(
            reconstruct_all(scanner, cases, jobs, patience), len(cases), description="disks"
        )
        for case, one in zip(cases, found, strict=True):
            save((case, one), output)
            results.append((case, one))
    files = {"page.png": png(page_of(results), 90), "numbers.json": numbers_of(results)}
    write_folder(output, files)
    report(results)
    if not all(found.consistent for _, found in results):
        raise typer.Exit(INCONSISTENT)


def check(
    folder: Path, solid: Path | None, truth: Path | None, level: int
) -> tuple[CalibratedScanner, list[Case]]:
    """The calibrated scanner and the cases; files that cannot be right are refused, faults are printed."""
    if not 1 <= level <= len(htc.ARCS):
        raise InputError(f"levels are 1 to {len(htc.ARCS)}, got {level}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UnreliableData)
        file = solid_file(folder, solid)
        scanner = calibrate_disk(htc.read(file))
        cases = read_cases(folder, file, truth, level)
        for case in cases:
            scanner.check(case.measured)
    for warning in caught:
        typer.echo(f"warning: {warning.message}", err=True)
    return scanner, cases


def reconstruct_all(
    scanner: CalibratedScanner, cases: Sequence[Case], jobs: int, patience: int
) -> Iterator[Reconstruction]:
    """The holes in each disk, in order: several processes share the cases, or the work of each."""
    return over_cases(partial(_reconstruct, scanner, patience), cases, jobs)


def _reconstruct(
    scanner: CalibratedScanner, patience: int, jobs: int, case: Case
) -> Reconstruction:
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentWarning)  # image and table say it
        return reconstruct(scanner, case.measured, _prior(), patience=patience, jobs=jobs)


@cache  # it takes a second, once in each process
def _prior() -> Scene:
    return disk_prior()


def save(result: Result, folder: Path) -> None:
    """Write ``NAME.png`` and ``NAME-page.png``, each complete or not at all."""
    case, found = result
    picture = io.BytesIO()
    Image.fromarray(np.where(found.material, 255, 0).astype(np.uint8)).save(picture, "png")
    figure = png(figure_of(result), 100)
    write_folder(folder, {f"{case.name}.png": picture.getvalue(), f"{case.name}-page.png": figure})


def numbers_of(results: Sequence[Result]) -> bytes:
    """What was found in each case as JSON: the image does not say whether to rely on it."""
    cases = [
        {
            "case": case.name,
            "level": case.level,
            "score": None if case.truth is None else htc.score(found.material, case.truth),
            "p_value": found.p_value if math.isfinite(found.p_value) else None,
            "consistent": found.consistent,
            "counts": [{"holes": n, "probability": p} for n, p in found.counts.items()],
            "centre_mm": list(found.disk.centre),
            "radius_mm": found.disk.radius,
            "attenuation_per_mm": found.attenuation.mu,
            "hardening_per_mm2": found.attenuation.hardening,
            "seconds": found.seconds,
            "linearizations": found.linearizations,
            "evaluations": found.evaluations,
        }
        for case, found in results
    ]
    return (json.dumps({"cases": cases}, indent=2) + "\n").encode()


def report(results: Sequence[Result]) -> None:
    """Print scores (where the truth is known), numbers of holes, their probabilities, and times."""
    width = max(4, *(len(case.name) for case, _ in results))
    print(f"{'case':>{width}} level  score holes  sure       p  seconds linearizations")
    for case, found in results:
        score = "" if case.truth is None else f"{htc.score(found.material, case.truth):.3f}"
        holes, probability = next(iter(found.counts.items()))
        # relative to the other scenes, none of which explains inconsistent data
        sure = f"{probability:5.0%}" if found.consistent else "    ?"
        print(
            f"{case.name:>{width}} {case.level:5d} {score:>6} {holes:5d} {sure} {found.p_value:7.2g} "
            f"{found.seconds:8.1f} {found.linearizations:14d}"
        )
    bad = [case.name for case, found in results if not found.consistent]
    if bad:
        typer.echo(
            f"warning: {', '.join(bad)}: no scene of learned outlines explains the data; the image is the "
            "binary one of least variation, rely less on it",
            err=True,
        )
