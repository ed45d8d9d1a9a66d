"""Figures of reconstructed tanks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import NDArray

from onmanifold.applications.tanks.cases import Case
from onmanifold.applications.tanks.reconstruction import Reconstruction
from onmanifold.operators.eit import ktc

Result = tuple[Case, Reconstruction]


def figure_of(result: Result, note: str = "") -> Figure:
    """Truth (where known), reconstruction, probabilities and uncertainty of one case.

    Args:
        result: a case and its reconstruction.
        note: why the image as a whole is uncertain, such as bad channels; inconsistent data are noted anyway.
    """
    case, found = result
    columns = 3 if case.truth is None else 4
    figure = Figure(figsize=(3 * columns, 3.4))
    draw(list(figure.subplots(1, columns)), result)
    notes = [note] if note else []
    if not found.consistent:
        notes.insert(0, f"inconsistent with the data, p = {found.p_value:.2g}")
    if notes:
        figure.suptitle(f"uncertain: {'; '.join(notes)}", color="darkred", fontsize=9)
    figure.tight_layout()
    return figure


def page_of(results: Sequence[Result]) -> Figure:
    """All cases on one page: a row for each level, three or four images for each case."""
    numbers = list(dict.fromkeys(case.number for case, _ in results))
    levels = list(dict.fromkeys(case.level for case, _ in results))
    wide = 3 if results[0][0].truth is None else 4
    rows, columns = len(levels), wide * len(numbers)
    figure = Figure(figsize=(1.3 * columns, 1.5 * rows))
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for case, found in results:
        column = wide * numbers.index(case.number)
        row = axes[levels.index(case.level), column : column + wide]
        draw(list(row), (case, found))
        for axis in row:
            axis.title.set_fontsize(7)
        mark = "" if found.consistent else " (inconsistent)"
        row[0].set_title(f"tank {case.number}, level {case.level}{mark}", fontsize=7)
        if case.truth is not None:
            row[1].set_title(f"score {ktc.score(found.labels, case.truth):.3f}", fontsize=7)
    figure.tight_layout()
    return figure


def draw(axes: list[Any], result: Result) -> None:
    """The images of one case, on three axes, or four where the truth is known."""
    case, found = result
    _, resistive, conductive = found.probabilities
    panels = [
        ("reconstruction", signed(found.labels), "coolwarm", -1),
        ("probability", conductive - resistive, "coolwarm", -1),
        ("uncertainty", found.uncertainty, "magma", 0),
    ]
    if case.truth is not None:
        panels = [("truth", signed(case.truth), "coolwarm", -1), *panels]
    for axis, (title, image, colours, low) in zip(axes, panels, strict=True):
        axis.imshow(inside(image), cmap=colours, vmin=low, vmax=1)
        axis.add_patch(Circle((127.5, 127.5), 128, fill=False, color="0.5", linewidth=0.8))
        axis.set_xlim(-1, 256)
        axis.set_ylim(256, -1)
        axis.set_title(title)
        axis.set_axis_off()


def signed(classes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Classes 0, 1, 2 as 0, -1, 1."""
    return np.array([0.0, -1.0, 1.0])[classes]


def inside(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """An image without the corners around the tank."""
    centre = (np.arange(len(image)) + 0.5) * 2 / len(image) - 1
    return np.where(np.hypot(centre[:, None], centre) <= 1, image, np.nan)
