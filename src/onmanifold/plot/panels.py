"""Truth, measurement, reconstruction and its standard deviation, side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from onmanifold.checks import check_count
from onmanifold.errors import InputError
from onmanifold.plot.drawing import limits
from onmanifold.plot.style import STYLE
from onmanifold.plot.views import View, present, views
from onmanifold.solution import Solution

# A view, and a function that draws measurement b and returns what a colour bar is made from.
type _Panel = tuple[View, Callable[[Any, int], ScalarMappable | None]]


@matplotlib.rc_context(STYLE)
def plot_solution(
    solution: Solution, truth: Tensor | None = None, std: Tensor | None = None, rows: int = 4
) -> Figure:
    """Draw truth, measurement, reconstruction and standard deviation, a row for each measurement.

    Truth and reconstruction share their scale. Images, matrices and volumes are drawn in grey, vectors
    as curves, points of the plane or of space among samples of the prior; an operator with methods
    ``draw_x`` or ``draw_y`` draws them itself (:mod:`onmanifold.plot.views`).
    A descent that did not converge is marked with its status, a reconstruction that is inconsistent with the
    noise with its p-value.

    Args:
        solution: what to draw.
        truth: the true unknowns, ``(B, *x_shape)``, drawn first where given.
        std: standard deviation of the unknowns, ``(B, *x_shape)``; by default the spread of the starts.
        rows: how many measurements to draw at most.

    Returns:
        The figure, not shown and not saved.

    Raises:
        ValueError: ``truth`` or ``std`` of another shape than the solution's ``x``.

    Example:
        >>> import torch
        >>> from onmanifold import load_prior, solve
        >>> solution = solve(lambda x: x[:, :1], torch.ones(2, 1), load_prior("ring"))
        >>> [ax.get_title() for ax in plot_solution(solution, rows=1).axes]
        ['measurement', 'reconstruction', 'spread of the starts']
    """
    for name, values in (("truth", truth), ("std", std)):
        if values is not None and values.shape != solution.x.shape:
            raise InputError(
                f"{name} has shape {tuple(values.shape)}, the solution {tuple(solution.x.shape)}"
            )
    check_count(rows, "rows")
    panels = _panels(solution, truth, std)
    count = min(rows, len(solution))
    figure = Figure(figsize=(3.1 * len(panels), 2.7 * count + 0.2), layout="constrained")
    for b in range(count):
        for k, (title, (view, draw)) in enumerate(panels.items()):
            place = (count, len(panels), b * len(panels) + k + 1)
            ax = figure.add_subplot(*place, projection=view.projection)
            drawn = draw(ax, b)
            if drawn is not None and title != "truth":  # whose colours are the reconstruction's
                bar = figure.colorbar(
                    drawn, ax=ax, fraction=0.046, pad=0.03, format="{x:.3g}", label=view.label
                )
                bar.locator = MaxNLocator(5)
            marks = _marks(solution, b) if title == "reconstruction" else []
            ax.set_title("\n".join([title] * (b == 0) + marks))
    return figure


def _marks(solution: Solution, b: int) -> list[str]:
    """Why a reconstruction is not to be relied on."""
    marks = [] if solution.status[b].converged else [solution.status[b].name]
    if not bool(solution.consistent[b]):
        marks.append(f"inconsistent with the noise, p = {float(solution.p_value[b]):.2g}")
    return marks


def _panels(solution: Solution, truth: Tensor | None, std: Tensor | None) -> dict[str, _Panel]:
    """The columns by their titles."""
    x_view, y_view = views(solution)
    x, y = solution.x, present(solution)
    spread = solution.spread() if std is None else std

    def scale(b: int) -> dict[str, float]:
        return limits(x[b], None if truth is None else truth[b])

    panels: dict[str, _Panel] = {}
    if truth is not None:
        panels["truth"] = x_view, lambda ax, b: x_view.draw(ax, truth[b], **scale(b))
    panels["measurement"] = y_view, lambda ax, b: y_view.draw(ax, y[b])
    panels["reconstruction"] = x_view, lambda ax, b: x_view.draw(ax, x[b], **scale(b))
    last = "spread of the starts" if std is None else "standard deviation"
    panels[last] = x_view, lambda ax, b: x_view.draw_std(ax, x[b], spread[b])
    return panels
