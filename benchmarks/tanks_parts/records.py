"""Runs of methods on cases: each result is kept as it is made, so that a run can be taken up again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from benchmarks.tanks_parts.cases import Case, Labels, components
from benchmarks.tanks_parts.method import Method, Reconstruction, make_method
from onmanifold.operators.eit import ktc_score

EDGES = np.linspace(0, 1, 11)  # of the bins of probabilities


@dataclass(frozen=True, eq=False)
class Record:
    """A reconstruction, compared with the truth.

    Attributes:
        method: with its data term.
        case: its name.
        kind: of the case.
        level: of the challenge.
        labels: the reconstruction, ``(256, 256)``.
        score: the challenge's.
        counted: whether it has the right number of objects.
        seconds: how long it took.
        bins: number of pixels, sum of their probabilities, number of hits, by probability, ``(3, 10)``; NaN
            where the method gives none.
    """

    method: str
    case: str
    kind: str
    level: int
    labels: Labels
    score: float
    counted: bool
    seconds: float
    bins: NDArray[np.float64]


def run(
    folder: Path,
    methods: Sequence[str],
    data_term: str,
    cases: Sequence[Case],
    levels: Sequence[int],
    jobs: int,
) -> list[Record]:
    """The records of all methods on all cases at all levels; those that the folder lacks are made.

    Args:
        folder: where the records lie.
        methods: names of :data:`METHODS`, or ``module:class``.
        data_term: a name of :data:`DATA_TERMS`.
        cases: complete ones.
        levels: of the challenge, 1 to 7.
        jobs: number of processes.
    """
    missing = [
        (method, case, todo)
        for method in methods
        for case in cases
        if (todo := [n for n in levels if not _file(folder, method, data_term, case, n).is_file()])
    ]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool, Progress() as bar:
        task = bar.add_task("reconstructions", total=len(missing))
        futures = [pool.submit(_reconstruct, folder, m, data_term, c, n) for m, c, n in missing]
        for future in as_completed(futures):
            future.result()
            bar.advance(task)
    return [
        _read(_file(folder, method, data_term, case, level))
        for method in methods
        for level in levels
        for case in cases
    ]


def compare(found: Reconstruction, case: Case, level: int, method: str) -> Record:
    """A reconstruction's record.

    Where a method does not say how many objects there are, the components of its picture are compared with
    those of the truth: objects of one sign that touch are one component.
    """
    if found.objects is None:
        counted = components(found.labels) == components(case.truth)
    elif isinstance(found.objects, int):
        counted = found.objects == sum(case.objects)
    else:
        counted = tuple(found.objects) == case.objects
    score = ktc_score(found.labels, case.truth)
    bins = reliability(found.probabilities, case.truth)
    return Record(
        method, case.name, case.kind, level, found.labels, score, counted, found.seconds, bins
    )


def reliability(probabilities: NDArray[np.floating] | None, truth: Labels) -> NDArray[np.float64]:
    """Entries in the tank (pixels by classes), sum of probabilities, hits; by probability, ``(3, 10)``."""
    if probabilities is None:
        return np.full((3, len(EDGES) - 1), np.nan)
    centre = (np.arange(len(truth)) + 0.5) * 2 / len(truth) - 1
    tank = np.hypot(centre[:, None], centre) <= 1
    p = np.asarray(probabilities, np.float64)[:, tank].ravel()
    hit = (truth[tank] == np.arange(3)[:, None]).ravel()
    bin_of = np.digitize(p, EDGES[1:-1])
    return np.stack([np.bincount(bin_of, w, len(EDGES) - 1) for w in (np.ones(p.size), p, hit)])


# Inside ---------------------------------------------------------------------------------------------

_methods: dict[tuple[str, str], Method] = {}  # of this process


def _reconstruct(
    folder: Path, method: str, data_term: str, case: Case, levels: Sequence[int]
) -> None:
    """Run a method on a case at some levels and keep what it finds."""
    torch.set_num_threads(1)
    key = method, data_term
    if key not in _methods:
        _methods[key] = make_method(*key)
    for level in levels:
        cut = case.at(level)
        found = _methods[key](cut.reference, cut.measurement)
        record = compare(found, case, level, title(*key))
        _write(_file(folder, method, data_term, case, level), record)


def title(method: str, data_term: str) -> str:
    """How a method with a data term is called."""
    return f"{method} ({data_term})"


def _file(folder: Path, method: str, data_term: str, case: Case, level: int) -> Path:
    name = f"{method.replace(':', '.')}-{data_term}"
    return folder / name / f"{case.name}-level-{level}.npz"


def _write(file: Path, record: Record) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}")
    plain = {name: getattr(record, name) for name in _PLAIN}
    np.savez_compressed(partial, labels=record.labels, bins=record.bins, about=json.dumps(plain))
    partial.replace(file)


def _read(file: Path) -> Record:
    with np.load(file) as arrays:
        return Record(
            labels=arrays["labels"], bins=arrays["bins"], **json.loads(str(arrays["about"]))
        )


_PLAIN = ("method", "case", "kind", "level", "score", "counted", "seconds")
