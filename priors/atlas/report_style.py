"""How the pictures of an atlas report look."""

from __future__ import annotations

from matplotlib.colors import LinearSegmentedColormap

from onmanifold.plot.style import FAINT

BARS = "#5b6770"
SHARED = LinearSegmentedColormap.from_list("shared", [FAINT, "#a03070", "#3b0764"])
WIDTH = 10.0  # of every figure, in inches


def percent(share: float) -> str:
    """``12 %``, ``0.3 %``, or a dot for nothing at all."""
    if share == 0:
        return "·"
    return f"{100 * share:.0f} %" if share >= 0.0095 else f"{100 * share:.1f} %"
