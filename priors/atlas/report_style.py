"""How the pictures of an atlas report look."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

# Okabe and Ito's colours, which the colour blind can tell apart; black and yellow aside
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, BARS, FAINT = "#333333", "#5b6770", "#c8c8c8"
SHARED = LinearSegmentedColormap.from_list("shared", [FAINT, "#a03070", "#3b0764"])
WIDTH = 10.0  # of every figure, in inches
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


def colours(number: int) -> list[Any]:
    """A colour for each chart."""
    if number <= len(PALETTE):
        return list(PALETTE[:number])
    return list(matplotlib.colormaps["turbo"](np.linspace(0.05, 0.95, number)))


def percent(share: float) -> str:
    """``12 %``, ``0.3 %``, or a dot for nothing at all."""
    if share == 0:
        return "·"
    return f"{100 * share:.0f} %" if share >= 0.0095 else f"{100 * share:.1f} %"
