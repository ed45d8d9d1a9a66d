"""How the winning descents went, step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter

from onmanifold.errors import InputError
from onmanifold.in_kind import in_kind
from onmanifold.plot.style import INK, STYLE, Picture, colours
from onmanifold.plot.views import check_index, last_step
from onmanifold.solution import Solution

_MOST = 6  # measurements drawn where none are named
_CHANGE: dict[str, Any] = {"marker": "o", "markerfacecolor": "white", "linestyle": ""}


@in_kind
@matplotlib.rc_context(STYLE)
def plot_convergence(solution: Solution, measurements: Sequence[int] | None = None) -> Figure:
    """Draw objective, gradient norm, step length and chart against the steps of the winning starts.

    The objective is drawn less its final value, which is the best of all starts. A circle marks the first
    step in another chart.

    Args:
        solution: what to draw.
        measurements: which ones, from 0; by default the first six.

    Returns:
        The figure, not saved; a notebook shows it.

    Raises:
        ValueError: no such measurement, or none at all.

    Example:
        >>> import torch
        >>> from onmanifold import load_prior, solve
        >>> solution = solve(lambda x: x, torch.ones(1, 2), load_prior("ring"))
        >>> [ax.get_ylabel() for ax in plot_convergence(solution).axes]
        ['objective above the best', 'gradient norm', 'step length', 'chart']
    """
    chosen = range(min(_MOST, len(solution))) if measurements is None else measurements
    chosen = [check_index(solution, b) for b in chosen]
    if not chosen:
        raise InputError("measurements names none: pass numbers from 0, or None")
    history = solution.history
    quantities = {
        "objective above the best": history.objective - solution.objective,
        "gradient norm": history.gradient_norm,
        "step length": history.step_length,
        "chart": history.chart,
    }
    figure = Picture(figsize=(9.5, 6.0), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True).flat
    for ax, (name, values) in zip(axes, quantities.items(), strict=True):
        for place, (b, colour) in enumerate(zip(chosen, colours(len(chosen)), strict=True)):
            steps = range(last_step(solution, b) + 1)
            line = values[: len(steps), b].double().cpu()
            if name == "chart":  # side by side where they share a chart
                line = line + 0.08 * (place - (len(chosen) - 1) / 2)
            else:
                line = torch.where(line > 0, line, torch.nan)
            changes = history.chart[: len(steps), b].diff().nonzero().squeeze(1) + 1
            style = "steps-mid" if name == "chart" else "default"
            ax.plot(steps, line.numpy(), ".-", color=colour, drawstyle=style)
            ax.plot(changes.cpu().numpy(), line[changes.cpu()].numpy(), color=colour, **_CHANGE)
        ax.set_ylabel(name)
        if name != "chart":
            _in_decades(ax)
    _finish(figure, solution, chosen)
    return figure


def _in_decades(ax: Any) -> None:
    """A logarithmic axis from one power of ten to another."""
    values = np.concatenate([line.get_ydata() for line in ax.lines])
    values = values[np.isfinite(values)]
    ax.set_yscale("log")
    ax.yaxis.set_minor_formatter(NullFormatter())
    if len(values):
        low, high = np.floor(np.log10(values.min())), np.ceil(np.log10(values.max()))
        ax.set_ylim(10.0**low, 10.0 ** max(high, low + 1))


def _finish(figure: Figure, solution: Solution, chosen: list[int]) -> None:
    """Ticks at whole numbers, and a legend that names what each descent ended as."""
    for ax in figure.axes[2:]:
        ax.set_xlabel("step")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.axes[3].yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    handles: list[Any] = [
        Line2D([], [], color=colour, label=f"{b}: {solution.status[b].name}")
        for b, colour in zip(chosen, colours(len(chosen)), strict=True)
    ]
    if bool((solution.history.chart.diff(dim=0)[:, chosen] != 0).any()):
        handles.append(Line2D([], [], color=INK, label="change of chart", **_CHANGE))
    rows = math.ceil(len(handles) / 4)
    figure.legend(handles=handles, loc="outside lower center", ncols=math.ceil(len(handles) / rows))
