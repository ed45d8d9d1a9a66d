"""The figures of an atlas report, and the folder that holds them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from onmanifold.plot import draw
from onmanifold.plot.style import INK, PALETTE, STYLE, colours
from onmanifold.priors.atlas.diagnostics import QUANTILES, condition, quantiles
from onmanifold.priors.atlas.report import AtlasReport
from onmanifold.storage import write_folder

WIDTH = 10.0  # of every figure, in inches
GREY = "#5b6770"
POINTS = 4000  # drawn in one panel at most
COLUMNS = 8  # images in a row


def figures(report: AtlasReport) -> dict[str, Figure]:
    """Every figure of a report, by name; with one chart there is neither overlap nor responsibility."""
    makers = {
        "samples": samples_figure if report.of_points else image_rows,
        "responsibilities": responsibilities_figure,
        "overlap": overlap_figure,
        "coverage": coverage_figure,
        "distortion": distortion_figure,
        "latent_usage": usage_figure,
    }
    if report.prior.num_charts == 1:
        del makers["responsibilities"], makers["overlap"]
    with matplotlib.rc_context(STYLE):
        return {name: make(report) for name, make in makers.items()}


def samples_figure(report: AtlasReport) -> Figure:
    """Held-out examples, and samples of the atlas coloured by chart."""
    figure = Figure(figsize=(WIDTH, 5), layout="constrained")
    palette = colours(report.prior.num_charts)
    colour = [palette[k] for k in report.sample_chart[:POINTS].tolist()]
    _scatter(figure, 1, report, report.examples, c=GREY).set_title("held-out examples")
    _scatter(figure, 2, report, report.samples, c=colour).set_title("samples of the atlas")
    handles = [
        Line2D([], [], marker="o", linestyle="", color=c, label=f"chart {k}")
        for k, c in enumerate(palette)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(palette), 8))
    return figure


def _scatter(figure: Figure, place: int, report: AtlasReport, x: Tensor, **style: Any) -> Any:
    """Axes with points in the plane or in space; of more coordinates, two principal ones."""
    rows, examples = x[:POINTS].cpu().double(), report.examples.cpu().double()
    if rows.shape[1] > 3:
        centre = examples.mean(dim=0)
        rows = (rows - centre) @ torch.linalg.svd(examples - centre, full_matrices=False).Vh[:2].T
    elif rows.shape[1] == 1:
        rows = torch.cat([rows, torch.zeros_like(rows)], dim=1)
    space = rows.shape[1] == 3
    ax: Any = figure.add_subplot(1, 2, place, projection="3d" if space else None)
    marks = ax.scatter(*rows.T.numpy(), s=4, linewidths=0, **style)
    ax.set_aspect("equal")
    if "cmap" in style:
        figure.colorbar(marks, ax=ax, shrink=0.75, pad=0.12 if space else 0.02)
    return ax


def image_rows(report: AtlasReport) -> Figure:
    """A row of samples for each chart, and one of held-out examples."""
    charts = range(report.prior.num_charts)
    rows = {f"chart {k}": report.samples[report.sample_chart == k][:COLUMNS] for k in charts}
    rows["held out"] = report.examples[:COLUMNS]
    limits: Any = {"min": float(report.examples.min()), "max": float(report.examples.max())}
    figure = Figure(figsize=(WIDTH, WIDTH / COLUMNS * len(rows) + 0.1), layout="constrained")
    grid = figure.subplots(len(rows), COLUMNS, squeeze=False)
    for axes, (title, images), colour in zip(
        grid, rows.items(), [*colours(len(charts)), INK], strict=True
    ):
        for ax in axes:
            ax.set_axis_off()
        for ax, image in zip(axes, images, strict=False):
            draw(ax, image, **limits)
        axes[0].set_title(title, color=colour, loc="left")
    return figure


def responsibilities_figure(report: AtlasReport) -> Figure:
    """Where charts take over from each other, and how much of the data each explains."""
    gamma, charts = report.responsibilities, report.prior.num_charts
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    if report.of_points:
        entropy = report.entropy[:POINTS].cpu().numpy()
        ax = _scatter(figure, 1, report, report.examples, c=entropy, cmap="magma_r", vmin=0)
        ax.set_title("entropy of the responsibilities, in nats")
    else:
        ax = figure.add_subplot(1, 2, 1)
        ax.hist(gamma.amax(dim=1).cpu().numpy(), bins=np.linspace(0, 1, 41).tolist(), color=GREY)
        ax.set(xlabel="largest responsibility", ylabel="held-out examples")
    right = figure.add_subplot(1, 2, 2)
    for values, shift, alpha in ((report.weights, -0.2, 1.0), (gamma.mean(dim=0), 0.2, 0.5)):
        place = np.arange(charts) + shift
        right.bar(place, values.cpu().numpy(), 0.36, color=colours(charts), alpha=alpha)
    right.set(title="solid: weight of the chart; pale: mean responsibility", ylabel="share")
    right.set(xlabel="chart", xticks=range(charts))
    return figure


def overlap_figure(report: AtlasReport) -> Figure:
    """The shares of charts that others reproduce, and the components that they make."""
    shares, groups = report.shares.numpy(), report.components
    order = [k for group in groups for k in group]
    figure = Figure(figsize=(WIDTH / 2, 4.6), layout="constrained")
    ax = figure.subplots()
    ax.imshow(shares[np.ix_(order, order)], cmap="Greys", vmin=0, vmax=1.6)
    for (i, j), share in np.ndenumerate(shares):
        style: Any = {"ha": "center", "va": "center", "fontsize": 9}
        ax.text(order.index(j), order.index(i), percent(share), **style)
    noun = "component" if len(groups) == 1 else "components"
    ax.set(title=f"overlap graph: {len(groups)} {noun}", ylabel="share of this chart")
    ax.set(xlabel="that this chart reproduces")
    ax.set_xticks(range(len(order)), [str(k) for k in order])
    ax.set_yticks(range(len(order)), [str(k) for k in order])
    return figure


def percent(share: float) -> str:
    """``12 %``, ``0.3 %``, or a dot for nothing at all."""
    if share == 0:
        return "·"
    return f"{100 * share:.0f} %" if share >= 0.0095 else f"{100 * share:.1f} %"


def coverage_figure(report: AtlasReport) -> Figure:
    """Distances of the data to the atlas, and of the atlas to the data."""
    found = report.coverage
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _distances(left, found.to_atlas, found.tolerance)
    left.set(title=_titled("held-out examples to the atlas", found.covered), ylabel="number")
    if found.to_data is None:
        right.hist(100 * found.relative.cpu().numpy(), bins=50, color=GREY)
        right.set(title="the same, relative", xlabel="distance in % of the example's norm")
    else:
        _distances(right, found.to_data, found.tolerance)
        right.set_title(_titled("samples of the atlas to the manifold", found.on_manifold))
    return figure


def _titled(title: str, share: float | None) -> str:
    return title if share is None else f"{title}: {100 * share:.2f} %"


def _distances(ax: Any, distance: Tensor, tolerance: float | None) -> None:
    """A histogram; where there is a tolerance, on a logarithmic scale."""
    if tolerance is None:
        ax.hist(distance.cpu().numpy(), bins=50, color=GREY)
        ax.set(xlabel="distance")
        return
    bins = np.geomspace(tolerance / 1000, max(10 * tolerance, float(distance.max())), 60)
    ax.hist(distance.cpu().numpy().clip(bins[0], bins[-1]), bins=bins.tolist(), color=GREY)
    ax.axvline(tolerance, color=PALETTE[1], label=f"tolerance {tolerance:.3g}")
    ax.legend()
    ax.set(xscale="log", xlabel="distance (leftmost bar: that or less)")


def distortion_figure(report: AtlasReport) -> Figure:
    """Singular values of each chart's Jacobian, their ratio and the volume that they make."""
    charts = colours(report.prior.num_charts)
    figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
    values, ratio, volume = figure.subplots(1, 3)
    for k, (found, colour) in enumerate(zip(report.distortion, charts, strict=True)):
        low, middle, high = quantiles(found, (0.05, 0.5, 0.95)).cpu().numpy()
        number = np.arange(1, len(middle) + 1) + 0.6 * ((k + 0.5) / len(charts) - 0.5)
        values.errorbar(number, middle, [middle - low, high - middle], fmt="o", color=colour)
    values.xaxis.set_major_locator(MaxNLocator(integer=True))
    values.set(title="singular values of J: median, 90 %", xlabel="number, largest first")
    values.set_yscale("log")
    _boxes(ratio, [condition(found) for found in report.distortion])
    ratio.set(title="condition: largest / smallest", yscale="log")
    log_volumes = [found.log().sum(dim=1) for found in report.distortion]
    _boxes(volume, [each - quantiles(each, (0.5,)) for each in log_volumes])
    volume.set_title("log-volume, relative to its median")
    return figure


def _boxes(ax: Any, values: list[Tensor]) -> None:
    """A box for each chart, of the 25th to the 75th percentile; whiskers to the 5th and the 95th."""
    parts = ax.boxplot(
        [v.cpu().numpy() for v in values], positions=range(len(values)), patch_artist=True,
        whis=(5, 95), showfliers=False, medianprops={"color": INK},
    )  # fmt: skip
    for box, colour in zip(parts["boxes"], colours(len(values)), strict=True):
        box.set(facecolor=colour, alpha=0.75)
    ax.set_xlabel("chart")


def usage_figure(report: AtlasReport) -> Figure:
    """Where in the latent box of each chart, in dashes, the codes of the examples lie."""
    columns = min(len(report.usage), 4)
    rows = -(-len(report.usage) // columns)
    figure = Figure(figsize=(WIDTH, 3.2 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in panels:
        ax.set_axis_off()
    for k, (ax, own, colour) in enumerate(
        zip(panels, report.usage, colours(len(report.usage)), strict=False)
    ):
        ax.set_axis_on()
        edge = torch.as_tensor(report.prior.box, dtype=own.codes.dtype).expand(report.prior.dim)
        _codes(ax, own.codes.cpu(), colour, edge.cpu())
        outside = f"{100 * own.outside:.1f} % outside"
        ax.set_title(f"chart {k}\n{len(own.codes)} examples, {outside}", fontsize=10)
    return figure


def _codes(ax: Any, codes: Tensor, colour: Any, edge: Tensor) -> None:
    """A histogram of codes of one number, points of two, percentiles of more."""
    line: Any = {"color": INK, "linestyle": "--", "linewidth": 1}
    bounded = bool(torch.isfinite(edge).all())
    if codes.shape[1] == 1:
        ax.hist(codes[:, 0].numpy(), bins=40, color=colour)
        for side in (-edge, edge) if bounded else ():
            ax.axvline(float(side), **line)
    elif codes.shape[1] == 2:
        ax.scatter(*codes[:POINTS].T.numpy(), s=4, color=colour, linewidths=0)
        if bounded:
            corner = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]]) * edge
            ax.plot(*corner.T.numpy(), **line)
        ax.set_aspect("equal")
    else:
        place, levels = np.arange(codes.shape[1]), quantiles(codes, QUANTILES).numpy()
        ax.vlines(place, levels[0], levels[-1], color=colour, linewidth=1.5)
        ax.vlines(place, levels[1], levels[-2], color=colour, linewidth=5)
        ax.plot(place, levels[2], "o", color="white", markersize=3)
        for side in (-edge, edge) if bounded else ():
            ax.plot(place, side.numpy(), **line)


def write_report(report: AtlasReport, folder: str | Path) -> list[str]:
    """Write ``report.json``, which holds every number, and a PNG of each figure; returns their names."""
    files = {
        "report.json": (json.dumps(report.as_dict(), indent=2, allow_nan=False) + "\n").encode()
    }
    for name, figure in figures(report).items():
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=150)
        files[f"{name}.png"] = stream.getvalue()
    write_folder(folder, files)
    return list(files)
