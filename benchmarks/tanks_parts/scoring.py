"""Methods run on cases, their scores, and the tables of them."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onmanifold.operators.eit import ktc
from shared.jobs import in_jobs
from shared.records import Records
from shared.tables import Table
from tanks_parts.cases import Case, Labels, components
from tanks_parts.methods import Reconstruction, tank_method

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
    bins: list[list[float]]  # of :func:`reliability`


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
    found: list[Score] = []
    for method in methods:
        records = Records(folder / f"{method.replace(':', '.')}-{data_term}.json")
        missing = [
            (case, todo)
            for case in cases
            if (todo := [level for level in levels if _key(case, level) not in records])
        ]
        work = partial(_reconstruct, method, data_term)
        for (case, _), scores in in_jobs(work, missing, jobs, method):
            for level, variants in scores.items():
                records.keep(_key(case, level), [score._asdict() for score in variants])
        scores = {key: records[key] for key in (_key(*pair) for pair in product(cases, levels))}
        for variant in range(len(next(iter(scores.values())))):
            keys = (_key(case, level) for level in levels for case in cases)
            found += [Score(**scores[key][variant]) for key in keys]
    return found


def _key(case: Case, level: int) -> str:
    return f"{case.name}, level {level}"


def _reconstruct(
    method: str, data_term: str, task: tuple[Case, list[int]]
) -> dict[int, list[Score]]:
    """The scores of a method and its variants by level."""
    case, levels = task
    scores = {}
    for level in levels:
        cut = case.at(level)
        found = tank_method(method, data_term)(cut.reference, cut.measurement)
        named = {method: found} | {f"{method}-{k}": v for k, v in found.variants.items()}
        scores[level] = [compare(v, case, level, f"{k} ({data_term})") for k, v in named.items()]
    return scores


def compare(found: Reconstruction, case: Case, level: int, method: str) -> Score:
    """A reconstruction's score.

    Where a method does not know how many objects there are, the regions of its image are compared with
    those of the truth: objects of one kind that touch are one region.
    """
    if found.objects is None:
        counted = components(found.labels) == components(case.truth)
    elif isinstance(found.objects, int):
        counted = found.objects == sum(case.objects)
    else:
        counted = tuple(found.objects) == case.objects
    score = ktc.score(found.labels, case.truth)
    bins = reliability(found.probabilities, case.truth).tolist()
    return Score(method, case.name, case.kind, level, score, counted, found.seconds, bins)


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


def _groups(scores: Sequence[Score], *names: str) -> Iterator[tuple[Any, list[Score]]]:
    """Scores by the values of some of their fields, in the order of their first one."""

    def key(score: Score) -> tuple[Any, ...]:
        return tuple(getattr(score, name) for name in names)

    for values in dict.fromkeys(map(key, scores)):
        yield values, [score for score in scores if key(score) == values]


def summary(scores: Sequence[Score]) -> None:
    """Print a row for each method and level."""
    statistics = {"score": ".3f", "median": ".3f", "10 %": ".3f", "counted": ".0%"}
    times = {"deviation": ".3f", "seconds": "7.1f", "90 %": "5.1f"}
    table = Table({"method": "<28", "level": "d", "cases": "d"} | statistics | times)
    for (method, level), own in _groups(scores, "method", "level"):
        score, seconds = ([getattr(s, name) for s in own] for name in ("score", "seconds"))
        quality = np.mean(score), np.median(score), np.quantile(score, 0.1)
        counted, spent = np.mean([s.counted for s in own]), np.quantile(seconds, [0.5, 0.9])
        table.row(method, level, len(own), *quality, counted, deviation(own), *spent)


def by_kind(scores: Sequence[Score]) -> None:
    """Print mean score and share with the right number of objects, by method and kind of case."""
    kinds = list(dict.fromkeys(score.kind for score in scores))
    table = Table({"method": "<28", "level": "d"} | dict.fromkeys(kinds, "12"))
    for (method, level), own in _groups(scores, "method", "level"):
        cells = [
            f"{np.mean([s.score for s in part]):.3f} {np.mean([s.counted for s in part]):5.0%}"
            for _, part in _groups(sorted(own, key=lambda s: kinds.index(s.kind)), "kind")
        ]
        table.row(method, level, *cells)


def calibration(scores: Sequence[Score]) -> None:
    """Print how often entries are right by the probability that a method gives them."""
    table = Table({"method": "<28"} | {f"{a:.1f}-{b:.1f}": ".3f" for a, b in pairwise(EDGES)})
    for (method,), own in _groups(scores, "method"):
        entries, _, hits = np.sum([score.bins for score in own], axis=0)
        if np.isfinite(entries).all():
            table.row(method, *(hits / np.maximum(entries, 1)))
