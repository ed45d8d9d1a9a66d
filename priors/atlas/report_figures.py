"""The pictures of an atlas report: what the diagnostics of an atlas look like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from onmanifold.plot import draw
from onmanifold.plot.style import FAINT, INK, STYLE, colours
from onmanifold.priors.atlas.probes import QUANTILES
from onmanifold.priors.atlas.report_plots import coverage_figure, distortion_figure, overlap_figure
from onmanifold.priors.atlas.report_style import BARS, SHARED, WIDTH

if TYPE_CHECKING:
    from onmanifold.priors.atlas.report import Report

POINTS = 4000  # drawn in one panel at most
COLUMNS = 8  # pictures in a row


def figures(report: Report) -> dict[str, Figure]:
    """Every figure of a report, by name; with one chart there is neither overlap nor responsibility."""
    makers = {
        "samples": samples_figure,
        "responsibilities": responsibilities_figure,
        "overlap": overlap_figure,
        "coverage": coverage_figure,
        "distortion": distortion_figure,
        "latent_usage": usage_figure,
    }
    if report.prior.num_charts == 1:  # nothing to share
        del makers["responsibilities"], makers["overlap"]
    with matplotlib.rc_context(STYLE):
        return {name: make(report) for name, make in makers.items()}


def samples_figure(report: Report) -> Figure:
    """Samples of the atlas, coloured by chart: points in space, or a row of pictures for each chart."""
    if len(report.prior.x_shape) > 1:
        return _picture_rows(report)
    if report.prior.x_shape[0] == 3:
        return _points_in_space(report)
    examples = plane(report, report.examples)
    width, height = np.ptp(examples, axis=1)
    tall = min(max(height / max(width, 1e-9), 0.3), 1.2)
    figure = Figure(figsize=(WIDTH, 0.46 * WIDTH * tall + 1), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    left.scatter(*examples, s=4, color=FAINT, linewidths=0)
    left.set(title="held-out examples", aspect="equal")
    _by_chart(right, report, plane(report, report.samples))
    right.set(title="samples of the atlas", aspect="equal")
    _legend(figure, report.prior.num_charts)
    return figure


def _points_in_space(report: Report) -> Figure:
    figure = Figure(figsize=(WIDTH, 4.9), layout="constrained")
    for i, (side, height, turn) in enumerate([("above", 35, -60), ("below", -35, 120)]):
        ax: Any = figure.add_subplot(1, 2, i + 1, projection="3d")
        ax.view_init(elev=height, azim=turn)
        _by_chart(ax, report, report.samples[:POINTS].cpu().T.numpy())
        _in_proportion(ax, report)
        ax.set_title(f"samples of the atlas, from {side}")
    _legend(figure, report.prior.num_charts)
    return figure


def _in_proportion(ax: Any, report: Report) -> None:
    """Axes in space of one scale, filled by the examples."""
    low, high = report.examples.amin(dim=0), report.examples.amax(dim=0)
    margin = 0.05 * (high - low).max()
    for axis, start, end in zip(
        "xyz", (low - margin).tolist(), (high + margin).tolist(), strict=True
    ):
        getattr(ax, f"set_{axis}lim")(start, end)
    sides = (high - low + 2 * margin).tolist()
    ax.set_box_aspect(sides, zoom=1.1)
    for axis, side in zip((ax.xaxis, ax.yaxis, ax.zaxis), sides, strict=True):
        axis.set_major_locator(MaxNLocator(max(1, round(5 * side / max(sides)))))


def _by_chart(ax: Any, report: Report, columns: Any) -> None:
    """Points of all charts in one scatter, in the order of their numbers, so that no chart hides another."""
    palette = np.array([to_rgb(colour) for colour in colours(report.prior.num_charts)])
    chart = report.sample_chart[: columns.shape[1]].cpu().numpy()
    ax.scatter(*columns, s=5, c=palette[chart], linewidths=0)


def plane(report: Report, x: Tensor) -> Any:
    """Points as two columns ``(2, n)``: as they are, or along the examples' two principal directions."""
    rows = x[:POINTS].cpu().double()
    if rows.shape[1] > 2:
        examples = report.examples.cpu().double()
        centre = examples.mean(dim=0)
        directions = torch.linalg.svd(examples - centre, full_matrices=False).Vh[:2]
        rows = (rows - centre) @ directions.T
    elif rows.shape[1] == 1:
        rows = torch.cat([rows, torch.zeros_like(rows)], dim=1)
    return rows.T.numpy()


def _picture_rows(report: Report) -> Figure:
    """Pictures: a row of samples for each chart, and one of held-out examples."""
    charts = range(report.prior.num_charts)
    rows = {f"chart {k}": report.samples[report.sample_chart == k][:COLUMNS] for k in charts}
    rows["held out"] = report.examples[:COLUMNS]
    limits: dict[str, Any] = {
        "min": float(report.examples.min()),
        "max": float(report.examples.max()),
    }
    figure = Figure(figsize=(WIDTH, WIDTH / COLUMNS * len(rows) + 0.1), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02)  # type: ignore[union-attr, call-arg]
    grid = figure.subplots(len(rows), COLUMNS, squeeze=False)
    palette = [*colours(len(rows) - 1), INK]
    for axes, (title, pictures), colour in zip(grid, rows.items(), palette, strict=True):
        for ax in axes:
            ax.set_axis_off()
        for ax, picture in zip(axes, pictures, strict=False):
            draw(ax, picture, **limits)
        axes[0].text(
            -0.1, 0.5, title, color=colour, rotation=90, ha="center", va="center",
            transform=axes[0].transAxes, fontweight="bold",
        )  # fmt: skip
    return figure


def responsibilities_figure(report: Report) -> Figure:
    """Where charts take over from each other, and how much of the data each explains."""
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    space = report.prior.x_shape == (3,)
    left: Any = figure.add_subplot(1, 2, 1, projection="3d" if space else None)
    if len(report.prior.x_shape) == 1:
        _entropies(left, report)
    else:
        left.hist(
            report.responsibilities.largest.cpu().numpy(), bins=np.linspace(0, 1, 41), color=BARS
        )
        left.set(title="how sure the charts are", xlabel="largest responsibility")
        left.set(ylabel="held-out examples", xlim=(0, 1.02))
    right = figure.add_subplot(1, 2, 2)
    place = np.arange(report.prior.num_charts)
    bars = (report.responsibilities.weights, report.responsibilities.usage)
    for values, shift, alpha in zip(bars, (-0.2, 0.2), (1.0, 0.5), strict=True):
        right.bar(place + shift, values.cpu().numpy(), 0.36, color=colours(len(place)), alpha=alpha)
    right.set(title="solid: weight of the chart; pale: mean responsibility", ylabel="share")
    right.set_xticks(place, [str(k) for k in place])
    right.set_xlabel("chart")
    return figure


def _entropies(ax: Any, report: Report) -> None:
    """Held-out examples coloured by the entropy of their responsibilities, those that charts share on top."""
    x, entropy = report.examples[:POINTS].cpu(), report.responsibilities.entropy[:POINTS].cpu()
    order = entropy.argsort()
    columns = x[order].T.numpy() if x.shape[1] == 3 else plane(report, x[order])
    marks = ax.scatter(*columns, c=entropy[order].numpy(), s=5, cmap=SHARED, vmin=0, linewidths=0)
    if x.shape[1] == 3:
        _in_proportion(ax, report)
    else:
        ax.set_aspect("equal")
    ax.set_title("entropy of the responsibilities, in nats")
    ax.figure.colorbar(marks, ax=ax, shrink=0.75, pad=0.12 if x.shape[1] == 3 else 0.02)


def usage_figure(report: Report) -> Figure:
    """Where in the latent box of each chart the codes of the examples lie."""
    usage, dim = report.usage, report.prior.dim
    columns = 2 if dim > 2 and len(usage) > 1 else min(len(usage), 4 if len(usage) <= 4 else 3)
    rows = -(-len(usage) // columns)
    tall = 2.7 if dim != 2 else min(WIDTH / columns, 3.4)
    figure = Figure(figsize=(WIDTH, tall * rows + 0.2), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for k, (ax, own) in enumerate(zip(panels, usage, strict=False)):
        _codes(ax, own.codes.cpu(), colours(len(usage))[k], report.prior.box)
        told = f"{len(own.codes)} examples, {100 * own.outside:.1f} % outside"
        ax.set_title(f"chart {k}\n{told}", fontsize=10)
    for ax in panels[len(usage) :]:
        ax.set_axis_off()
    return figure


def _codes(ax: Any, codes: Tensor, colour: Any, box: float | Tensor) -> None:
    """A histogram of codes of one number, points of two, percentiles of more; the box in dashes."""
    edge = torch.as_tensor(box, dtype=codes.dtype).expand(codes.shape[1])
    line: Any = {"color": INK, "linestyle": "--", "linewidth": 1}
    if codes.shape[1] == 1:
        ax.hist(codes[:, 0].numpy(), bins=40, color=colour)
        ax.set(xlabel="coordinate")
        for side in (-1, 1):
            if torch.isfinite(edge).all():
                ax.axvline(side * float(edge[0]), **line)
    elif codes.shape[1] == 2:
        ax.scatter(*codes[:POINTS].T.numpy(), s=4, color=colour, linewidths=0)
        if torch.isfinite(edge).all():
            corner = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]]) * edge
            ax.plot(*corner.T.numpy(), **line)
        ax.set_aspect("equal")
    elif len(codes):
        levels = codes.quantile(torch.tensor(QUANTILES, dtype=codes.dtype), dim=0).numpy()
        place = np.arange(codes.shape[1])
        ax.vlines(place, levels[0], levels[-1], color=colour, linewidth=1.5)
        ax.vlines(place, levels[1], levels[-2], color=colour, linewidth=5)
        ax.plot(place, levels[2], "o", color="white", markersize=3)
        ax.set(xlabel="coordinate")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        for side in (-1, 1):
            if torch.isfinite(edge).all():
                ax.step(
                    [-0.5, *place + 0.5], side * np.append(edge, edge[-1]), where="post", **line
                )


def _legend(figure: Figure, charts: int) -> None:
    handles = [
        Line2D([], [], marker="o", linestyle="", color=c, label=f"chart {k}")
        for k, c in enumerate(colours(charts))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(charts, 8))
