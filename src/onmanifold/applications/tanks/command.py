"""The subcommand ``tank``: the interface of the Kuopio Tomography Challenge 2023."""

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

from onmanifold.applications.tanks.cases import Case, read_cases
from onmanifold.applications.tanks.figures import Result, figure_of, page_of
from onmanifold.applications.tanks.reconstruction import (
    PATIENCE,
    Reconstruction,
    reconstruct,
    tank_prior,
)
from onmanifold.errors import InputError
from onmanifold.operators.eit import (
    CalibratedTank,
    Implausible,
    Measurement,
    calibrate_tank,
    check_against,
    check_reference,
    homogeneous_voltages,
    ktc,
)
from onmanifold.plot.style import png
from onmanifold.priors.nuisance import MeasurementParameters
from onmanifold.processes import over_cases
from onmanifold.solution import InconsistentWarning
from onmanifold.storage import check_folder, write_folder

INCONSISTENT = (
    3  # exit code: all was written, but some data are inconsistent with every scene found
)

Checked = tuple[Case, tuple[int, ...]]
"""A case and its bad channels, from 0."""


def tank(
    input: Annotated[Path, typer.Argument(help="Folder with ref.mat, data1.mat, data2.mat, ...")],
    output: Annotated[Path, typer.Argument(help="Folder for images and classes.")],
    level: Annotated[int | None, typer.Argument(help="1 to 7, or --all-levels.")] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Folder with true1.mat, true2.mat, ...: print scores.")
    ] = None,
    all_levels: Annotated[
        bool, typer.Option("--all-levels", help="Cut complete data to all seven levels.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(help="Processes, for one case as well; by default one a core."),
    ] = None,
    patience: Annotated[
        int, typer.Option(help="Modes in a row whose jumps may lead to nothing better.")
    ] = PATIENCE,
) -> None:
    """Reconstruct measured water tanks: K.npy and K.png for each dataK.mat, page.png and numbers.json.

    K.npy holds classes, 256 x 256, row 0 on top: 0 water, 1 resistive, 2 conductive. The exit code is 3 if
    some voltages are inconsistent with every scene that was found: do not rely on these images.
    """
    from rich.progress import Progress

    levels = _levels(level, all_levels)
    check_folder(output)
    torch.set_num_threads(1)  # of this process; the others have one thread each
    try:
        reference = ktc.read(input / "ref.mat")
        checked = check(reference, read_cases(input, truth, levels))
    except ValueError as error:
        raise InputError(str(error)) from error
    calibrated = calibrate_tank(ktc.tank(), reference)
    jobs = max(1, jobs or os.cpu_count() or 1)
    results: list[Result] = []
    with Progress() as progress:
        found = progress.track(
            reconstruct_all(calibrated, checked, jobs, patience), len(checked), description="tanks"
        )
        for (case, bad), one in zip(checked, found, strict=True):
            folder = output / f"level{case.level}" if all_levels else output
            save((case, one), folder, note_of(calibrated, bad))
            results.append((case, one))
    files = {"page.png": png(page_of(results), 90), "numbers.json": numbers_of(results)}
    write_folder(output, files)
    report(results)
    if not all(found.consistent for _, found in results):
        raise typer.Exit(INCONSISTENT)


def _levels(level: int | None, all_levels: bool) -> list[int]:
    if all_levels:
        return list(range(1, 8))
    if level is None:
        raise InputError("give a level from 1 to 7, or --all-levels")
    if not 1 <= level <= 7:
        raise InputError(f"levels are 1 to 7, got {level}")
    return [level]


def check(reference: Measurement, cases: Sequence[Case]) -> list[Checked]:
    """Refuse files that cannot be right; name the bad channels of each case and of the reference."""
    expected = homogeneous_voltages(ktc.tank(), reference.protocol, ktc.WATER_CONDUCTIVITY)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Implausible)
        known = check_reference(reference, expected, "ref.mat", ktc.protocol()).bad
    for warning in caught:
        typer.echo(f"warning: {warning.message}", err=True)
    found = []
    for case in cases:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Implausible)  # the reference's are named already
            channels = check_against(reference, case.measurement, case.file)
        found.append((case, tuple(sorted({*known, *channels.bad}))))
        if not set(channels.bad) <= set(known):
            typer.echo(f"warning: {case.file}: {'; '.join(channels.reasons)}", err=True)
    return found


def reconstruct_all(
    calibrated: CalibratedTank, checked: Sequence[Checked], jobs: int, patience: int
) -> Iterator[Reconstruction]:
    """The objects in each tank, in order: several processes share the cases, or the work of each."""
    return over_cases(partial(_reconstruct, calibrated, patience), checked, jobs)


def _reconstruct(
    calibrated: CalibratedTank, patience: int, jobs: int, checked: Checked
) -> Reconstruction:
    torch.set_num_threads(1)
    case, bad = checked
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentWarning)  # image and table say it
        return reconstruct(
            calibrated,
            case.measurement,
            _prior(),
            unreliable=bad,
            patience=patience,
            jobs=jobs,
        )


@cache  # it takes a second, once in each process
def _prior() -> MeasurementParameters:
    return tank_prior()


def note_of(calibrated: CalibratedTank, bad: Sequence[int]) -> str:
    """Why an image is uncertain: channels that are worse than the reference's repeats show."""
    bad = [j for j in bad if j not in calibrated.unreliable]
    return f"channels {', '.join(str(j + 1) for j in bad)} look bad" if bad else ""


def save(result: Result, folder: Path, note: str = "") -> None:
    """Write ``K.npy`` and ``K.png``, each complete or not at all."""
    case, found = result
    classes = io.BytesIO()
    np.save(classes, found.labels)
    image = png(figure_of(result, note), 100)
    write_folder(folder, {f"{case.number}.npy": classes.getvalue(), f"{case.number}.png": image})


def numbers_of(results: Sequence[Result]) -> bytes:
    """Counts, p-value and consistency of each case as JSON: K.npy does not say whether to rely on it."""
    cases = [
        {
            "case": case.number,
            "level": case.level,
            "p_value": found.p_value if math.isfinite(found.p_value) else None,
            "consistent": found.consistent,
            "error_scale": found.error_scale._asdict(),
            "counts": [
                {"resistive": resistive, "conductive": conductive, "probability": probability}
                for (resistive, conductive), probability in found.counts.items()
            ],
            "seconds": found.seconds,
            "linearizations": found.linearizations,
            "evaluations": found.evaluations,
        }
        for case, found in results
    ]
    return (json.dumps({"cases": cases}, indent=2) + "\n").encode()


def report(results: Sequence[Result]) -> None:
    """Print scores (where the truth is known), numbers of objects, their probabilities, and times."""
    print("case level  score resistive conductive  sure       p  seconds linearizations")
    for case, found in results:
        score = "" if case.truth is None else f"{ktc.score(found.labels, case.truth):.3f}"
        (resistive, conductive), probability = next(iter(found.counts.items()))
        # relative to the other scenes, none of which fits inconsistent data
        sure = f"{probability:5.0%}" if found.consistent else "    ?"
        print(
            f"{case.number:>4} {case.level or '':>5} {score:>6} {resistive:9d} {conductive:10d} "
            f"{sure} {found.p_value:7.2g} {found.seconds:8.1f} {found.linearizations:14d}"
        )
    scored = [
        (case.level, ktc.score(found.labels, case.truth))
        for case, found in results
        if case.truth is not None
    ]
    for level in dict.fromkeys(level for level, _ in scored):
        scores = [score for of, score in scored if of == level]
        print(f"level {level}: mean score {np.mean(scores):.3f} of {len(scores)} cases")
    bad = [f"{case.file} at level {case.level}" for case, found in results if not found.consistent]
    if bad:
        typer.echo(
            f"warning: {', '.join(bad)}: inconsistent with every scene that was found; do not rely on "
            "the image",
            err=True,
        )
