"""What is printed and drawn of the records."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tanks_parts.cases import Case
from benchmarks.tanks_parts.records import EDGES, Record

RARE = 1e-3  # share of all entries below which a bin's deviation says nothing


def summary(records: Sequence[Record]) -> list[str]:
    """A line for each method and level."""
    head = f"{'method':28s} level  cases   score  median  10 %  counted  deviation  seconds   90 %"
    lines = [head]
    for method, level in dict.fromkeys((r.method, r.level) for r in records):
        own = [r for r in records if (r.method, r.level) == (method, level)]
        lines.append(f"{method:28s} {level:5d} {_row(own)}")
    return lines


def by_kind(records: Sequence[Record]) -> list[str]:
    """Mean score and share with the right number of objects, by method and kind of case."""
    kinds = list(dict.fromkeys(r.kind for r in records))
    lines = [f"{'method':28s} level  " + "  ".join(f"{kind:>12s}" for kind in kinds)]
    for method, level in dict.fromkeys((r.method, r.level) for r in records):
        cells = []
        for kind in kinds:
            own = [r for r in records if (r.method, r.level, r.kind) == (method, level, kind)]
            score, counted = (np.mean([getattr(r, n) for r in own]) for n in ("score", "counted"))
            cells.append(f"{score:.3f} {counted:5.0%}".rjust(12))
        lines.append(f"{method:28s} {level:5d}  " + "  ".join(cells))
    return lines


def calibration(records: Sequence[Record]) -> list[str]:
    """How often pixels are of a class by the probability that a method gives it, all levels and classes."""
    bins = " ".join(f"{low:.1f}-{high:.1f}" for low, high in pairwise(EDGES))
    lines = [f"{'method':28s} {bins}"]
    for method in dict.fromkeys(r.method for r in records):
        pixels, _, hits = sum(r.bins for r in records if r.method == method)
        if np.isfinite(pixels).all():
            shares = hits / np.maximum(pixels, 1)
            lines.append(f"{method:28s} " + " ".join(f"{share:7.3f}" for share in shares))
    return lines


def deviation(records: Sequence[Record]) -> float:
    """Largest difference of a bin's mean probability and its share of hits; NaN without probabilities."""
    pixels, expected, hits = sum(r.bins for r in records)
    there = pixels > RARE * pixels.sum()
    off = np.abs(expected - hits)[there] / pixels[there]
    return float(off.max()) if there.any() else float("nan")


def _row(records: Sequence[Record]) -> str:
    scores, seconds = ([getattr(r, name) for r in records] for name in ("score", "seconds"))
    counted = np.mean([r.counted for r in records])
    return (
        f"{len(records):6d}   {np.mean(scores):.3f}   {np.median(scores):.3f}  "
        f"{np.quantile(scores, 0.1):.3f}  {counted:6.0%}  {deviation(records):9.3f}  "
        f"{np.median(seconds):7.1f}  {np.quantile(seconds, 0.9):5.1f}"
    )


def page(cases: Sequence[Case], records: Sequence[Record], file: Path) -> None:
    """Draw truth and reconstructions: a row for each case, a column for each method and level."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = list(dict.fromkeys((r.method, r.level) for r in records))
    found = {(r.case, r.method, r.level): r for r in records}
    shape = len(cases), 1 + len(columns)
    figure, axes = plt.subplots(*shape, figsize=(1.7 * shape[1], 1.9 * shape[0]), squeeze=False)
    for row, case in zip(axes, cases, strict=True):
        _draw(row[0], case.truth, f"{case.name}, {case.kind}")
        for axis, (method, level) in zip(row[1:], columns, strict=True):
            record = found[case.name, method, level]
            _draw(axis, record.labels, f"{method}, {level}: {record.score:.3f}")
    figure.tight_layout()
    figure.savefig(file, dpi=80)
    plt.close(figure)


def _draw(axis: Any, labels: np.ndarray, text: str) -> None:
    signed = np.array([0, -1, 1])[labels]
    axis.imshow(signed, cmap="coolwarm", vmin=-1, vmax=1)
    axis.set_title(text, fontsize=7)
    axis.set_axis_off()
