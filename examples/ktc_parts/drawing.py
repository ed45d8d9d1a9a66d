"""Pictures of reconstructed tanks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from ktc_parts.cases import Case
from ktc_parts.scenes import Found
from onmanifold.operators.eit import ktc

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

Result = tuple[Case, Found]


def save(result: Result, folder: Path, note: str = "") -> None:
    """Write ``K.npy`` and ``K.png``, each complete or not at all.

    Args:
        result: a case and what was found.
        folder: made where it is missing.
        note: what makes the picture unsure as a whole, such as bad channels.
    """
    case, found = result
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f".{case.number}.npy", found.labels)
    columns = 3 if case.truth is None else 4
    figure, axes = plt.subplots(1, columns, figsize=(3 * columns, 3.4))
    draw(list(axes), result)
    if note:
        figure.suptitle(f"unsure: {note}", color="darkred", fontsize=9)
    figure.tight_layout()
    figure.savefig(folder / f".{case.number}.png", dpi=100)
    plt.close(figure)
    for suffix in (".npy", ".png"):
        (folder / f".{case.number}{suffix}").replace(folder / f"{case.number}{suffix}")


def draw(axes: list[Any], result: Result) -> None:
    """Truth (where known) | reconstruction | probabilities | where it is unsure."""
    case, found = result
    _, resistive, conductive = found.probabilities
    panels = [
        ("reconstruction", signed(found.labels), "coolwarm", -1),
        ("probability", conductive - resistive, "coolwarm", -1),
        ("unsure", found.unsure, "magma", 0),
    ]
    if case.truth is not None:
        panels = [("truth", signed(case.truth), "coolwarm", -1), *panels]
    for axis, (title, picture, colours, low) in zip(axes, panels, strict=True):
        axis.imshow(inside(picture), cmap=colours, vmin=low, vmax=1)
        axis.add_patch(plt.Circle((127.5, 127.5), 128, fill=False, color="0.5", linewidth=0.8))
        axis.set_xlim(-1, 256)
        axis.set_ylim(256, -1)
        axis.set_title(title)
        axis.set_axis_off()


def signed(classes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Classes 0, 1, 2 as 0, -1, 1."""
    return np.array([0.0, -1.0, 1.0])[classes]


def inside(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    """A picture without the corners around the tank."""
    centre = (np.arange(len(picture)) + 0.5) * 2 / len(picture) - 1
    return np.where(np.hypot(centre[:, None], centre) <= 1, picture, np.nan)


def page(results: Sequence[Result], file: Path) -> None:
    """All cases on one page: a row for each level, three or four pictures for each case."""
    numbers = list(dict.fromkeys(case.number for case, _ in results))
    levels = list(dict.fromkeys(case.level for case, _ in results))
    wide = 3 if results[0][0].truth is None else 4
    shape = (len(levels), wide * len(numbers))
    figure, axes = plt.subplots(*shape, figsize=(1.3 * shape[1], 1.5 * shape[0]), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for case, found in results:
        column = wide * numbers.index(case.number)
        row = axes[levels.index(case.level), column : column + wide]
        draw(list(row), (case, found))
        for axis in row:
            axis.title.set_fontsize(7)
        row[0].set_title(f"tank {case.number}, level {case.level}", fontsize=7)
        if case.truth is not None:
            row[1].set_title(f"score {ktc.score(found.labels, case.truth):.3f}", fontsize=7)
    figure.tight_layout()
    figure.savefig(file, dpi=90)
    plt.close(figure)
