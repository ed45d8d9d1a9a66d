"""The way of a descent through the latent boxes of its charts, over the objective."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from torch import Tensor

from onmanifold.checks import check_count
from onmanifold.descent.problem import Problem
from onmanifold.errors import InputError
from onmanifold.evaluation_mode import evaluation
from onmanifold.in_kind import in_kind
from onmanifold.initial_points import objectives
from onmanifold.plot.style import INK, PALETTE, STYLE, Picture
from onmanifold.plot.views import check_index, last_step
from onmanifold.prior import Point
from onmanifold.solution import Solution

Array = NDArray[np.float64]

_DECADES = 4  # of the objective above the least that shades tell apart
_ORANGE, _SHADES = PALETTE[1], "Blues_r"


@dataclass(frozen=True)
class _Section:
    """What one descent did in one chart.

    Attributes:
        problem: the one measurement's.
        chart: the chart.
        z: latent points after each step, ``(T + 1, d)``, of which the chart has the first ``dim``.
        objective: at these, ``(T + 1,)``.
        here: which of them lie in this chart, ``(T + 1,)``, boolean.
    """

    problem: Problem
    chart: int
    z: Array
    objective: Array
    here: NDArray[np.bool_]

    @property
    def dim(self) -> int:
        """Dimension of the chart."""
        return self.problem.prior.chart_dims[self.chart]

    def stretches(self) -> list[list[int]]:
        """Steps in a row that were spent in the chart."""
        steps = np.flatnonzero(self.here)
        runs = np.split(steps, np.flatnonzero(np.diff(steps) > 1) + 1)
        return [run.tolist() for run in runs]

    def axis(self, coordinate: int, resolution: int) -> Array:
        """Even values of a coordinate through its box; where that has none, what the path fits in well."""
        prior, z = self.problem.prior, self.z[self.here]
        chart = torch.tensor(self.chart, device=prior.device)
        box = float(prior.box_half_width(chart, self.problem.measurement)[coordinate])
        if 0 < box < np.inf:
            return np.linspace(-box, box, resolution)
        low, high = z.min(axis=0), z.max(axis=0)  # of a single point, some room around it
        reach, middle = 0.8 * float((high - low).max()) or 1.0, (low + high)[coordinate] / 2
        return np.linspace(middle - reach, middle + reach, resolution)

    def objective_at(self, z: Array) -> Array:
        """``(P, d)`` to ``(P,)``."""
        latent = torch.from_numpy(z).to(self.problem.measurement)
        chart = torch.full((len(z),), self.chart, device=latent.device)
        return _array(objectives(self.problem, Point(chart, latent))[0])


@in_kind
@matplotlib.rc_context(STYLE)
@torch.no_grad()
def plot_path(
    solution: Solution,
    measurement: int = 0,
    axes: tuple[int, int] = (0, 1),
    resolution: int = 41,
) -> Figure:
    """Draw the winning descent over the latent box of each chart it visited.

    The background is the objective in the two latent coordinates shown, above the least one drawn; all
    others are held where the descent left the chart. A chart of one dimension, or of none, is drawn as the
    curve of the objective, with the descent on it. Takes ``resolution**2`` evaluations of the operator a
    chart (1-D: ten times ``resolution``).

    Args:
        solution: made with ``solve(..., trajectory=True)``.
        measurement: of which one, from 0.
        axes: the two latent coordinates shown; the first two in charts that do not have them.
        resolution: how fine the background is.

    Returns:
        The figure, not saved; a notebook shows it.

    Raises:
        ValueError: the trajectory was not kept, the problem is not known, no such measurement or axes, or
            an objective that is finite nowhere.

    Example:
        >>> import torch
        >>> from onmanifold import load_prior, solve
        >>> solution = solve(lambda x: x, torch.ones(1, 2), load_prior("ring"), trajectory=True)
        >>> plot_path(solution, resolution=5).axes[0].get_xlabel()
        'z[0]'
    """
    sections = _sections(solution, check_index(solution, measurement))
    dim = max(section.dim for section in sections)
    check_count(resolution, "resolution", at_least=2)
    if dim > 1 and (len(set(axes)) != 2 or not all(0 <= a < dim for a in axes)):
        raise InputError(f"axes has to name two of the coordinates 0 to {dim - 1}, got {axes}")
    figure = Picture(figsize=(4.0 * len(sections) + 0.8, 4.4), layout="constrained")
    panels = figure.subplots(1, len(sections), squeeze=False, sharey=dim <= 1)[0]
    with evaluation(sections[0].problem.prior):
        for ax, section in zip(panels, sections, strict=True):
            ax.set_title(f"chart {section.chart}")
            if section.dim <= 1:
                _draw_curve(ax, section, 10 * resolution)
        planes = [
            (ax, section) for ax, section in zip(panels, sections, strict=True) if section.dim > 1
        ]
        if planes:
            _draw_planes(figure, planes, axes, resolution)
    _legend(figure, len(sections) > 1)
    return figure


def _sections(solution: Solution, b: int) -> list[_Section]:
    """The charts in the order in which the descent came to them."""
    problem, history = solution.problem, solution.history
    if problem is None:
        raise InputError(
            "the solution does not know its problem: Solution.load(directory, problem=...)"
        )
    if history.z is None:
        raise InputError("the trajectory was not kept: solve(..., trajectory=True)")
    stop = last_step(solution, b) + 1
    charts = history.chart[:stop, b].cpu().numpy()
    one = problem.select(torch.tensor([b], device=history.chart.device))
    z, objective = _array(history.z[:stop, b]), _array(history.objective[:stop, b])
    return [_Section(one, k, z, objective, charts == k) for k in dict.fromkeys(charts.tolist())]


def _draw_curve(ax: Any, section: _Section, resolution: int) -> None:
    place = section.axis(0, resolution)
    height = section.objective_at(place[:, None])
    ax.plot(place, height, color=PALETTE[0], linewidth=1.5)
    steps, reached = section.z[:, 0], section.objective
    for run in section.stretches():  # along the curve
        way = np.concatenate([np.linspace(a, b, 50) for a, b in pairwise(steps[[*run, run[-1]]])])
        ax.plot(way, np.interp(way, place, height), **_WAY)
        ax.plot(steps[run], reached[run], **_STEPS)
        _mark(ax, run, steps, reached)
    ax.set(xlabel="z[0]", xlim=(place[0], place[-1]))
    ax.set_ylabel("objective" if ax.get_subplotspec().is_first_col() else "")


def _draw_planes(
    figure: Figure, panels: list[tuple[Any, _Section]], axes: tuple[int, int], resolution: int
) -> None:
    """The objective in shades of one scale, and the path on it."""
    shown = [axes if max(axes) < section.dim else (0, 1) for _, section in panels]
    planes = [_plane(v, pair, resolution) for (_, v), pair in zip(panels, shown, strict=True)]
    known = [*(values for *_, values in planes), *(v.objective for _, v in panels)]
    finite = np.concatenate([values[np.isfinite(values)] for values in known])
    if len(finite) == 0:
        raise InputError("the objective is finite nowhere in the charts visited: nothing to draw")
    least = finite.min()
    top = np.ceil(np.log10(finite.max() - least or 1.0))
    levels = np.logspace(top - _DECADES, top, 8 * _DECADES + 1)
    for (ax, section), axes, (across, up, values) in zip(panels, shown, planes, strict=True):
        gap = np.where(np.isfinite(values), values - least, np.nan).clip(levels[0], levels[-1])
        drawn = ax.contourf(across, up, gap, levels, norm=LogNorm(), cmap=_SHADES)
        first, second = section.z[:, list(axes)].T
        for run in section.stretches():
            ax.plot(first[run], second[run], **_WAY)
            ax.plot(first[run], second[run], **_STEPS)
            _mark(ax, run, first, second)
        ax.set(xlabel=f"z[{axes[0]}]", ylabel=f"z[{axes[1]}]", box_aspect=1)
        ax.set(xlim=(across[0], across[-1]), ylim=(up[0], up[-1]))
    ticks = levels[:: len(levels) // _DECADES]
    figure.colorbar(
        drawn,
        ax=[ax for ax, _ in panels],
        ticks=ticks,
        label="objective above the least",
        shrink=0.8,
    )


def _plane(section: _Section, axes: tuple[int, int], resolution: int) -> tuple[Array, Array, Array]:
    """Two axes through the box, and the objective on their grid, ``(resolution, resolution)``."""
    across, up = (section.axis(a, resolution) for a in axes)
    z = np.tile(section.z[section.here][-1], (resolution**2, 1))
    z[:, axes[0]], z[:, axes[1]] = np.tile(across, resolution), np.repeat(up, resolution)
    return across, up, section.objective_at(z).reshape(resolution, resolution)


def _mark(ax: Any, run: list[int], across: Array, up: Array) -> None:
    """Where the descent began and ended, and where it came from or left for another chart."""
    last = len(across) - 1
    places = {"start": [0], "end": [last], "change of chart": [run[0]] * (run[0] > 0)}
    places["change of chart"] += [run[-1]] * (run[-1] < last)
    for name, steps in places.items():
        there = [t for t in steps if t in run]
        ax.plot(across[there], up[there], **_MARKS[name])


_WAY: dict[str, Any] = {"color": _ORANGE, "linewidth": 2.5, "zorder": 4}
_STEPS: dict[str, Any] = {
    "color": _ORANGE,
    "marker": "o",
    "markersize": 4,
    "linestyle": "",
    "zorder": 4,
}
_MARKS: dict[str, dict[str, Any]] = {  # small ones above large ones: they may coincide
    name: {"markeredgecolor": INK, "linestyle": "", **look}
    for name, look in {
        "start": {"marker": "o", "markersize": 10, "color": "white", "zorder": 5},
        "end": {"marker": "*", "markersize": 17, "color": _ORANGE, "zorder": 6},
        "change of chart": {"marker": "s", "markersize": 5, "color": PALETTE[4], "zorder": 7},
    }.items()
}


def _legend(figure: Figure, changes: bool) -> None:
    names = [name for name in _MARKS if changes or name != "change of chart"]
    handles = [Line2D([], [], label=name, **_MARKS[name]) for name in names]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def _array(values: Tensor) -> Array:
    result: Array = values.detach().double().cpu().numpy()
    return result
