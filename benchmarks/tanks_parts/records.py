"""Runs of methods on cases: each result is kept as it is made, so that a run can be taken up again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.tanks_parts.cases import Case, Labels, components
from benchmarks.tanks_parts.method import Method, Reconstruction, make_method
from benchmarks.tanks_parts.parallel import in_jobs
from onmanifold.operators.eit import ktc

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

    With a method come its variants, as ``method-variant``.

    Args:
        folder: where the records lie.
        methods: names of :data:`METHODS`, or ``module:class``.
        data_term: a name of :data:`DATA_TERMS`.
        cases: complete ones.
        levels: of the challenge, 1 to 7.
        jobs: number of processes.
    """
    missing = [
        _Task(folder, method, data_term, case, tuple(todo))
        for method in methods
        for case in cases
        if (todo := [n for n in levels if not _file(folder, method, data_term, case, n).is_file()])
    ]
    for _ in in_jobs(_reconstruct, missing, jobs, "reconstructions"):
        pass
    return [
        _read(_file(folder, name, data_term, case, level))
        for method in methods
        for name in (method, *_variants(folder, method, data_term))
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
    score = ktc.score(found.labels, case.truth)
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


@dataclass(frozen=True, eq=False)
class _Task:
    """A case, to be reconstructed by a method at some levels."""

    folder: Path
    method: str
    data_term: str
    case: Case
    levels: tuple[int, ...]


def _reconstruct(task: _Task) -> None:
    """Run a method and keep what it finds."""
    key = task.method, task.data_term
    if key not in _methods:
        _methods[key] = make_method(*key)
    for level in task.levels:
        cut = task.case.at(level)
        found = _methods[key](cut.reference, cut.measurement)
        for name, variant in found.variants.items():
            method = f"{task.method}-{name}"
            record = compare(variant, task.case, level, title(method, task.data_term))
            _write(_file(task.folder, method, task.data_term, task.case, level), record)
        record = compare(found, task.case, level, title(*key))
        _write(_file(task.folder, *key, task.case, level), record)


def _variants(folder: Path, method: str, data_term: str) -> list[str]:
    """The method's variants of which there are records."""
    own, end = method.replace(":", "."), f"-{data_term}"
    found = (path.name for path in sorted(folder.glob(f"{own}-*{end}")))
    return [name.removesuffix(end) for name in found if name != f"{own}{end}"]


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
