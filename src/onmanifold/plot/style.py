"""How figures look."""

from __future__ import annotations

import io
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

# Okabe and Ito's colours, which the colour blind can tell apart; black and yellow aside
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, FAINT, MISSING = "#333333", "#c8c8c8", "#cfe0ee"
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}


class Picture(Figure):
    """A figure without pyplot that a notebook shows by itself."""

    def _repr_png_(self) -> bytes:
        return png(self, 100)


def colours(number: int) -> list[Any]:
    """``number`` distinguishable colours."""
    if number <= len(PALETTE):
        return list(PALETTE[:number])
    return list(matplotlib.colormaps["turbo"](np.linspace(0.05, 0.95, number)))


def png(figure: Figure, dpi: int) -> bytes:
    """The figure as a PNG file."""
    return saved(figure, "png", dpi)


def saved(figure: Figure, format: str, dpi: int) -> bytes:
    """The figure as a file of a format that matplotlib writes, such as ``"svg"``."""
    stream = io.BytesIO()
    figure.savefig(stream, format=format, dpi=dpi)
    return stream.getvalue()
