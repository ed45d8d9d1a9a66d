"""The plots of an atlas report: overlap graph, coverage, distortion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from torch import Tensor

from onmanifold.plot.style import FAINT, INK, PALETTE, colours
from onmanifold.priors.atlas import probes
from onmanifold.priors.atlas.diagnostics import LINK, Overlap, components
from onmanifold.priors.atlas.report_style import BARS, WIDTH, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from onmanifold.priors.atlas.report import Report


def overlap_figure(report: Report) -> Figure:
    """The overlap graph, and the matrix of shares that it is drawn from."""
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    graph, matrix = figure.subplots(1, 2)
    _graph(graph, report.overlap, report.responsibilities.weights)
    shares, palette = report.overlap.shares.numpy(), colours(report.prior.num_charts)
    matrix.imshow(np.where(np.eye(len(shares)), 0, shares), cmap="Greys", vmin=0, vmax=1.6)
    for (i, j), share in np.ndenumerate(shares):
        if i == j:
            matrix.add_patch(Rectangle((i - 0.5, i - 0.5), 1, 1, color=palette[i]))
        text = str(i) if i == j else percent(share)
        style: Any = {"color": "white", "fontweight": "bold"} if i == j else {"fontsize": 9}
        matrix.text(j, i, text, ha="center", va="center", **style)
    matrix.set(title="share of the row's chart that the column's reproduces")
    matrix.set_axis_off()
    return figure


def _graph(ax: Any, overlap: Overlap, weights: Tensor) -> None:
    """Charts on a circle, those of one component side by side, and their links."""
    found, palette = components(overlap.shares), colours(len(weights))
    order = [k for component in found for k in component]
    angle = np.pi / 2 + np.pi * (1 + 2 * np.argsort(order)) / len(order)
    place = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (len(order) > 1)
    both = torch.maximum(overlap.shares, overlap.shares.T)
    for i, j in torch.combinations(torch.arange(len(order))).tolist():
        share = float(both[i, j])
        if share < LINK:
            continue
        ax.plot(*place[[i, j]].T, color=FAINT, linewidth=1 + 14 * share, zorder=1)
        at = 0.62 * place[i] + 0.38 * place[j]  # off the middle, where diagonals cross
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        ax.text(*at, percent(share), ha="center", va="center", fontsize=9, zorder=2, bbox=box)
    sizes = 500 + 1500 * weights.cpu().numpy()
    ax.scatter(*place.T, s=sizes, c=palette, zorder=3)
    for k, at in enumerate(place):
        ax.text(*at, str(k), ha="center", va="center", color="white", fontweight="bold", zorder=4)
    noun = "component" if len(found) == 1 else "components"
    ax.set(title=f"overlap graph: {len(found)} {noun}", xlim=(-1.35, 1.35), ylim=(-1.35, 1.35))
    ax.set_aspect("equal")
    ax.set_axis_off()


def coverage_figure(report: Report) -> Figure:
    """Distances of the data to the atlas, and of the atlas to the data."""
    found = report.coverage
    panels = {"held-out examples to the atlas": (found.to_atlas, found.covered)}
    if found.to_data is not None:
        panels["samples of the atlas to the manifold"] = (found.to_data, found.on_manifold)
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, sharex=len(panels) > 1)
    for ax, (title, (distance, share)) in zip(axes, panels.items(), strict=False):
        _distances(ax, distance, found.tolerance)
        ax.set_title(title if share is None else f"{title}: {100 * share:.2f} %")
    if len(panels) == 1:
        axes[1].hist(100 * found.relative.cpu().numpy(), bins=50, color=BARS)
        axes[1].set(title="the same, relative", xlabel="distance in % of the example's norm")
    axes[0].set_ylabel("number")
    return figure


def _distances(ax: Any, distance: Tensor, tolerance: float | None) -> None:
    """A histogram; where there is a tolerance, on a logarithmic scale, what is far below it in one bar."""
    if tolerance is None:
        ax.hist(distance.cpu().numpy(), bins=50, color=BARS)
        ax.set(xlabel="distance")
        return
    top = max(10 * tolerance, float(distance.max()))
    bins = np.geomspace(tolerance / 1000, top, 60)
    ax.hist(distance.cpu().numpy().clip(bins[0], bins[-1]), bins=bins.tolist(), color=BARS)
    ax.axvline(tolerance, color=PALETTE[1])
    near, style = ax.get_xaxis_transform(), {"rotation": 90, "ha": "right", "va": "top"}
    ax.text(
        tolerance, 0.97, f"tolerance {tolerance:.3g} ", transform=near, color=PALETTE[1], **style
    )
    ax.set(xscale="log", xlabel="distance (leftmost bar: that or less)")


def distortion_figure(report: Report) -> Figure:
    """Singular values of each chart's Jacobian, their ratio and the volume that they make."""
    charts, dim = report.prior.num_charts, report.prior.dim
    figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
    panels = list(figure.subplots(1, 2 if dim == 1 else 3))
    _singular_values(panels[0], [d.singular_values for d in report.distortion], dim)
    spread = [d.log_volume - probes.quantiles(d.log_volume, (0.5,)) for d in report.distortion]
    _boxes(panels[-1], spread, range(charts), range(charts), charts)
    panels[-1].set_title("log-volume, relative to its median")
    if dim > 1:
        ratios = [d.condition for d in report.distortion]
        _boxes(panels[1], ratios, range(charts), range(charts), charts)
        panels[1].set_title("condition: largest / smallest")
    for ax in panels[:-1]:
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        wide = high > 10 * low
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if wide else MaxNLocator(6))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
    return figure


def _singular_values(ax: Any, values: list[Tensor], dim: int) -> None:
    """A box for each, or, where they are many, medians by number, in a band of 90 % of the samples."""
    charts = len(values)
    ax.set_title("singular values of J")
    if dim * charts <= 16:
        side = [k + (i + 1) / (dim + 1) - 0.5 for k in range(charts) for i in range(dim)]
        each = [own[:, i] for own in values for i in range(dim)]
        _boxes(ax, each, side, np.repeat(np.arange(charts), dim), charts)
        return
    for own, colour in zip(values, colours(charts), strict=True):
        low, middle, high = probes.quantiles(own, (0.05, 0.5, 0.95)).cpu().numpy()
        number = np.arange(1, dim + 1)
        ax.fill_between(number, low, high, color=colour, alpha=0.3, linewidth=0)
        ax.plot(number, middle, color=colour)
    ax.set_xlabel("number, largest first")


def _boxes(ax: Axes, values: list[Tensor], place: Any, chart: Any, charts: int) -> None:
    """Boxes from the 25th to the 75th percentile, whiskers to the 5th and 95th."""
    width = 0.7 * charts / max(len(values), 1)
    parts = ax.boxplot(
        [v.cpu().numpy() for v in values], positions=list(place), widths=width, patch_artist=True,
        whis=(100 * probes.QUANTILES[0], 100 * probes.QUANTILES[-1]), showfliers=False,
        medianprops={"color": INK}, manage_ticks=False,
    )  # fmt: skip
    for box, k in zip(parts["boxes"], chart, strict=True):
        box.set(facecolor=colours(charts)[int(k)], alpha=0.75)
    ax.set_xticks(range(charts), [str(k) for k in range(charts)])
    ax.set_xlabel("chart")
