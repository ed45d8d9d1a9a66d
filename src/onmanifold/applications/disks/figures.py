"""Figures of reconstructed disks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from onmanifold.applications.disks.cases import Case
from onmanifold.applications.disks.reconstruction import Reconstruction
from onmanifold.operators.ct import htc

Result = tuple[Case, Reconstruction]


def figure_of(result: Result) -> Figure:
    """Truth (where known), reconstruction, probabilities and uncertainty of one case."""
    case, found = result
    columns = 3 if case.truth is None else 5
    figure = Figure(figsize=(3 * columns, 3.4))
    draw(list(figure.subplots(1, columns)), result)
    if not found.consistent:
        title = f"uncertain: no scene explains the data, p = {found.p_value:.2g}"
        figure.suptitle(title, color="darkred", fontsize=9)
    figure.tight_layout()
    return figure


def page_of(results: Sequence[Result]) -> Figure:
    """All cases on one page, a row each."""
    wide = max(3 if case.truth is None else 5 for case, _ in results)
    figure = Figure(figsize=(2.2 * wide, 2.5 * len(results)))
    axes = figure.subplots(len(results), wide, squeeze=False)
    for row, result in zip(axes, results, strict=True):
        draw(list(row), result)
        case, found = result
        mark = "" if found.consistent else " (inconsistent)"
        row[0].set_title(f"{case.name}, level {case.level}{mark}", fontsize=8)
    figure.tight_layout()
    return figure


def draw(axes: list[Any], result: Result) -> None:
    """The images of one case, on three axes, or five where the truth is known."""
    case, found = result
    panels = [
        ("reconstruction", found.material.astype(float), "gray", 0.0, 1.0),
        ("probability of material", found.probabilities, "gray", 0.0, 1.0),
        ("uncertainty", found.uncertainty, "magma", 0.0, 0.5),
    ]
    if case.truth is not None:
        wrong = found.material.astype(float) - case.truth
        score = f"score {htc.score(found.material, case.truth):.3f}: wrong pixels"
        panels = [
            ("truth", case.truth.astype(float), "gray", 0.0, 1.0),
            panels[0],
            (score, wrong, "coolwarm", -1.0, 1.0),
            *panels[1:],
        ]
    for axis, (title, image, colours, low, high) in zip(axes, panels, strict=False):
        axis.imshow(np.asarray(image), cmap=colours, vmin=low, vmax=high)
        axis.set_title(title, fontsize=9)
    for axis in axes:
        axis.set_axis_off()
