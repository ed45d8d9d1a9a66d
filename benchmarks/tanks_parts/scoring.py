"""Methods run on cases, their scores, and the tables of them."""

import time
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from joblib import Memory
from numpy.typing import NDArray

from onmanifold.operators.eit import CalibratedTank, Measurement, calibrate_tank, ktc
from shared.jobs import in_jobs
from shared.tables import Table
from tanks_parts.cases import Case, Labels, components
from tanks_parts.methods import DATA_TERMS, METHODS, Found

EDGES = np.linspace(0, 1, 11)  # of the bins of probabilities
RARE = 1e-3  # share of all entries below which a bin's deviation means nothing


class Score(NamedTuple):
    """A reconstruction, compared with the truth."""

    method: str  # with its data term
    case: str
    kind: str
    level: int
    score: float  # the challenge's
    counted: bool  # whether it has the right number of objects
    seconds: float
    bins: NDArray[np.float64]  # of :func:`reliability`


def run(
    folder: Path,
    methods: Sequence[str],
    data_term: str,
    cases: Sequence[Case],
    levels: Sequence[int],
    jobs: int,
) -> list[Score]:
    """The scores of all methods on all cases at all levels; those that the folder lacks are made.

    With a method come its variants, as ``method-variant``.
    """
    cached = Memory(folder, verbose=0).cache(reconstruct, ignore=["case"])

    def on_all_levels(task: tuple[str, Case]) -> list[Score]:
        method, case = task
        found = (cached(method, data_term, level, case.name, case) for level in levels)
        return [score for scores in found for score in scores]

    tasks = list(product(methods, cases))
    return [score for scores in in_jobs(on_all_levels, tasks, jobs, "tanks") for score in scores]


def reconstruct(method: str, data_term: str, level: int, name: str, case: Case) -> list[Score]:
    """The scores of a method and its variants; a case is known by its name."""
    began, measurement = time.perf_counter(), case.at(level).measurement
    tank = calibrated(case.reference)
    results = METHODS[method](tank, measurement, DATA_TERMS[data_term](tank, measurement))
    seconds = time.perf_counter() - began
    return [
        compare(found, case, level, f"{variant} ({data_term})", seconds)
        for variant, found in results.items()
    ]


@lru_cache(maxsize=1)  # for the levels of a tank, whose reference is one object
def calibrated(reference: Measurement) -> CalibratedTank:
    """The challenge's tank, calibrated by a reference."""
    return calibrate_tank(ktc.tank(), reference)


def compare(found: Found, case: Case, level: int, method: str, seconds: float) -> Score:
    """A reconstruction's score.

    Where a method does not know how many objects there are, the regions of its image are compared with
    those of the truth: objects of one kind that touch are one region.
    """
    if found.objects is None:
        counted = components(found.labels) == components(case.truth)
    else:
        counted = found.objects == case.objects
    score = ktc.score(found.labels, case.truth)
    bins = reliability(found.probabilities, case.truth)
    return Score(method, case.name, case.kind, level, score, counted, seconds, bins)


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


def deviation(scores: Sequence[Score]) -> float:
    """Largest difference of a bin's mean probability and its share of hits; NaN without probabilities."""
    entries, expected, hits = np.sum([score.bins for score in scores], axis=0)
    there = entries > RARE * entries.sum()
    off = np.abs(expected - hits)[there] / entries[there]
    return float(off.max()) if there.any() else float("nan")


def summary(scores: Sequence[Score]) -> None:
    """Print mean scores, all and by kind of case, right counts and times, by method and level."""
    methods, levels, kinds = (
        dict.fromkeys(getattr(score, name) for score in scores)
        for name in ("method", "level", "kind")
    )
    columns = {"method": "<26", "level": "d", "cases": "d", "score": ".3f", "counted": ".0%"}
    by_kind = dict.fromkeys(kinds, ".3f")
    table = Table(columns | by_kind | {"deviation": ".3f", "seconds": ".1f"})
    for method, level in product(methods, levels):
        own = [s for s in scores if (s.method, s.level) == (method, level)]
        parts = [own, *([s for s in own if s.kind == kind] for kind in kinds)]
        mean, *means = (np.mean([s.score for s in part]) for part in parts)
        counted, seconds = np.mean([s.counted for s in own]), np.median([s.seconds for s in own])
        table.row(method, level, len(own), mean, counted, *means, deviation(own), seconds)


def calibration(scores: Sequence[Score]) -> None:
    """Print how often entries are right by the probability that a method gives them."""
    table = Table({"method": "<26"} | {f"{a:.1f}-{b:.1f}": ".3f" for a, b in pairwise(EDGES)})
    for method in dict.fromkeys(score.method for score in scores):
        entries, _, hits = np.sum([s.bins for s in scores if s.method == method], axis=0)
        if np.isfinite(entries).all():
            table.row(method, *(hits / np.maximum(entries, 1)))
