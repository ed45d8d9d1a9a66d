"""Truth, measurement, reconstruction and its standard deviation, side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from onmanifold.checks import check_count
from onmanifold.errors import InputError
from onmanifold.in_kind import in_kind
from onmanifold.plot.drawing import limits
from onmanifold.plot.style import PALETTE, STYLE, Picture
from onmanifold.plot.views import View, present, views
from onmanifold.posterior.laplace import approximate
from onmanifold.solution import Solution
from onmanifold.tensors import as_real


class _Panel(NamedTuple):
    """A column: its title for each row, and a function that draws row b and says what its colours mean."""

    titles: list[str]
    view: View
    draw: Callable[[Any, int], ScalarMappable | None]


@in_kind
@matplotlib.rc_context(STYLE)
def plot_solution(
    solution: Solution, truth: Tensor | None = None, std: Tensor | None = None, rows: int = 4
) -> Figure:
    """Draw truth, measurement, reconstruction and standard deviation, a row for each measurement.

    Truth and reconstruction share their scale. Images, matrices and volumes are drawn in grey, vectors
    as curves, points of the plane or of space among samples of the prior; an operator with methods
    ``draw_x`` or ``draw_y`` draws them itself (:mod:`onmanifold.plot.views`).
    A descent that did not converge is marked with its status, a reconstruction that is inconsistent with the
    noise with its p-value and a frame.

    The standard deviation is Laplace's (:func:`~onmanifold.posterior.laplace`). Where that cannot be had, the
    last column is the spread of the starts, which is no measure of uncertainty; its title says why.

    Args:
        solution: what to draw.
        truth: the true unknowns, ``(B, *x_shape)``, drawn first where given.
        std: standard deviation of the unknowns, ``(B, *x_shape)``; by default Laplace's.
        rows: how many measurements to draw at most.

    Returns:
        The figure, not saved; a notebook shows it.

    Raises:
        ValueError: ``truth`` or ``std`` of another shape than the solution's ``x``.

    Example:
        >>> import torch
        >>> from onmanifold import Gaussian, load_prior, solve
        >>> y, noise = torch.ones(2, 1), Gaussian(0.1)
        >>> solution = solve(lambda x: x[:, :1], y, load_prior("ring"), fidelity=noise)
        >>> [ax.get_title() for ax in plot_solution(solution, rows=1).axes]
        ['measurement', 'reconstruction', 'standard deviation']
    """
    truth, std = (None if v is None else as_real(v, "values").to(solution.x) for v in (truth, std))
    for name, values in (("truth", truth), ("std", std)):
        if values is not None and values.shape != solution.x.shape:
            raise InputError(
                f"{name} has shape {tuple(values.shape)}, the solution {tuple(solution.x.shape)}"
            )
    check_count(rows, "rows")
    count = min(rows, len(solution))
    both = views(solution)  # of points, all are drawn
    solution = solution.select(torch.arange(count, device=solution.x.device))
    panels = _panels(solution, truth, std, *both)
    figure = Picture(figsize=(3.1 * len(panels), 2.7 * count + 0.2), layout="constrained")
    for b in range(count):
        for k, panel in enumerate(panels):
            place = (count, len(panels), b * len(panels) + k + 1)
            ax = figure.add_subplot(*place, projection=panel.view.projection)
            drawn = panel.draw(ax, b)
            if drawn is not None and panel.titles[b] != "truth":  # of the reconstruction's colours
                bar = figure.colorbar(
                    drawn, ax=ax, fraction=0.046, pad=0.03, format="{x:.3g}", label=panel.view.label
                )
                bar.locator = MaxNLocator(5)
            new = b == 0 or panel.titles[b] != panel.titles[b - 1]
            marks = _marks(solution, b) if panel.titles[b] == "reconstruction" else []
            ax.set_title("\n".join([panel.titles[b]] * new + marks))
            if marks and not bool(solution.consistent[b]):
                _frame(ax)
    return figure


def _frame(ax: Any) -> None:
    """A frame about what is not to be believed, whatever is drawn inside."""
    look: dict[str, Any] = {
        "fill": False,
        "edgecolor": PALETTE[1],
        "linewidth": 3,
        "clip_on": False,
    }
    ax.add_artist(Rectangle((0, 0), 1, 1, transform=ax.transAxes, zorder=9, **look))


def _marks(solution: Solution, b: int) -> list[str]:
    """Why a reconstruction is not to be relied on."""
    marks = [] if solution.status[b].converged else [solution.status[b].name]
    if not bool(solution.consistent[b]):
        marks.append(f"inconsistent with the noise, p = {float(solution.p_value[b]):.2g}")
    return marks


def _panels(
    solution: Solution, truth: Tensor | None, std: Tensor | None, x_view: View, y_view: View
) -> list[_Panel]:
    """The columns."""
    x, y, every = solution.x, present(solution), range(len(solution))
    if std is None:
        rows = torch.arange(len(solution), device=x.device).split(1)
        uncertain = [_uncertainty(solution.select(row)) for row in rows]
    else:
        uncertain = [("standard deviation", std[b]) for b in every]
    spread = [values for _, values in uncertain]

    def scale(b: int) -> dict[str, float]:
        return limits(x[b], None if truth is None else truth[b])

    def named(title: str) -> list[str]:
        return [title for _ in every]

    shown = [
        _Panel(named("measurement"), y_view, lambda ax, b: y_view.draw(ax, y[b])),
        _Panel(named("reconstruction"), x_view, lambda ax, b: x_view.draw(ax, x[b], **scale(b))),
        _Panel(
            [title for title, _ in uncertain],
            x_view,
            lambda ax, b: x_view.draw_std(ax, x[b], spread[b]),
        ),
    ]
    if truth is None:
        return shown
    first = _Panel(named("truth"), x_view, lambda ax, b: x_view.draw(ax, truth[b], **scale(b)))
    return [first, *shown]


def _uncertainty(one: Solution) -> tuple[str, Tensor]:
    """Laplace's standard deviation and its title; or the spread of the starts, whose title says why."""
    problem = one.problem
    if problem is None:
        reason = "stored solution"
    elif not problem.noise_known:
        reason = "no noise level"
    elif bool((problem.prior_weight != 1).any()):
        reason = "prior_weight is not 1"
    else:
        try:
            return "standard deviation", approximate(one).std()[0]
        except InputError:
            reason = "no start at rest"
    return f"spread of the starts\n({reason}, no uncertainty)", one.spread()[0]
