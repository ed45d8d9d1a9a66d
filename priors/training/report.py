"""What a finished training says of itself: figures on held-out examples, and a page of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib.figure import Figure
from torch import Tensor

from onmanifold.plot import draw
from onmanifold.plot.drawing import limits
from onmanifold.plot.style import FAINT, INK, PALETTE, STYLE, png
from onmanifold.prior import ManifoldPrior
from onmanifold.priors.atlas.diagnostics import decoded, held_out
from onmanifold.priors.datasets import Dataset
from onmanifold.priors.training.linear import PCA
from onmanifold.priors.training.progress import duration

COLUMNS = 10  # examples on the page
CLOUD = 1000  # points, where examples are points
CLEARLY = 0.95  # of the error of principal components: better than they are


@torch.no_grad()
def nearest(prior: ManifoldPrior, x: Tensor) -> Tensor:
    """The reconstruction of each example ``(n, *x_shape)`` by its best chart."""
    chart = prior.views(x)[1].argmin(dim=1)
    return decoded(prior, prior.clamp(prior.encode(x, chart)))


def page(
    prior: ManifoldPrior, data: Dataset, pca: PCA, card: dict[str, Any], curve: list[list[float]]
) -> bytes:
    """A PNG: held-out examples, their reconstructions, samples, and the error while training ran.

    Args:
        prior: a trained prior.
        data: what it learned.
        pca: principal components of the same dimension.
        card: its card.
        curve: steps, losses, and errors on examples of the split ``validation`` (NaN: not measured).
    """
    points = len(data.x_shape) == 1 and data.x_shape[0] <= 3
    x = held_out(data, CLOUD if points else COLUMNS).to(prior.device, prior.dtype)
    samples = decoded(prior, prior.sample(len(x), 0))
    metrics = card["metrics"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 7.2), layout="constrained")
        parts: Any = figure.subfigures(2, 1, height_ratios=(2.6, 1))
        upper, lower = parts
        title = f"{card['name']}: {card['recipe']['method']}, {_dimensions(prior.dim)}"
        figure.suptitle(title, color=INK)
        if points:
            _clouds(upper, {"held-out examples": x, "samples of the prior": samples})
        else:
            rows = {
                "held-out\nexample": x,
                f"prior\n{metrics['relative_error']:.1%}": nearest(prior, x),
                f"PCA\n{metrics['pca_relative_error']:.1%}": pca.project(x),
                "samples of\nthe prior": samples,
            }
            _rows(upper, rows)
        _curves(lower, curve, metrics)
        return png(figure, 110)


def _rows(figure: Any, rows: dict[str, Tensor]) -> None:
    columns = max(len(x) for x in rows.values())
    axes = figure.subplots(len(rows), columns, squeeze=False)
    scale = limits(next(iter(rows.values())))
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for ax in line:
            ax.set_axis_off()
        for ax, image in zip(line, images, strict=False):
            draw(ax, image, **scale)  # type: ignore[arg-type]
            ax.set_axis_off()
        line[0].text(-0.15, 0.5, name, transform=line[0].transAxes, ha="right", va="center")


def _clouds(figure: Any, clouds: dict[str, Tensor]) -> None:
    for place, (name, x) in enumerate(clouds.items(), start=1):
        space = x.shape[1] == 3
        ax = figure.add_subplot(1, len(clouds), place, projection="3d" if space else None)
        x = torch.cat([x, torch.zeros_like(x)], dim=1) if x.shape[1] == 1 else x
        ax.scatter(*x.cpu().T.numpy(), s=4, linewidths=0, color=PALETTE[place - 1])
        ax.set_title(name)
        ax.set_aspect("equal")


def _curves(figure: Any, curve: list[list[float]], metrics: dict[str, Any]) -> None:
    """The error by step, beside that of principal components; the loss where it was not measured."""
    ax = figure.subplots()
    ax.set_xlabel("step")
    measured = [(step, error) for step, _, error in curve if error == error]
    if measured:
        ax.plot(*zip(*measured, strict=True), color=PALETTE[0], label="validation examples")
        ax.axhline(metrics["pca_relative_error"], color=FAINT, label="PCA, held-out examples")
        ax.set_ylabel("relative error")
    else:
        ax.plot(
            [row[0] for row in curve], [row[1] for row in curve], color=PALETTE[0], label="loss"
        )
        ax.set_ylabel("loss")
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(matplotlib.ticker.ScalarFormatter())
    ax.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    ax.legend(loc="upper right")


def summary(card: dict[str, Any], output: Path) -> str:
    """What a finished training prints."""
    metrics, training = card["metrics"], card["training"]
    dim, count = card["dim"], metrics["held_out_examples"]
    took = f", {training['steps']} steps in {duration(training['seconds'])}" if training else ""
    lines = [
        f"{card['name']}: {card['recipe']['method']}, {_dimensions(dim)}{took}",
        f"{count} held-out examples".ljust(28) + "relative error        PSNR",
        _line("this prior", metrics["relative_error"], metrics["psnr"]),
        _line(f"PCA, {_dimensions(dim)}", metrics["pca_relative_error"], metrics["pca_psnr"]),
    ]
    if metrics["relative_error"] > CLEARLY * metrics["pca_relative_error"]:
        lines.append(
            "This prior is hardly better than PCA: train for more steps (--steps), on more examples,\n"
            "or in more dimensions (--dim)."
        )
    files = ", ".join(("card.json", "weights.safetensors", "recipe.toml", "report.png"))
    return "\n".join(
        [*lines, f"written to {output}: {files}", f'load_prior("{_loadable(output)}")']
    )


def _dimensions(number: int) -> str:
    return f"{number} dimension{'' if number == 1 else 's'}"


def _line(name: str, error: float, psnr: float) -> str:
    return name.ljust(28) + f"{error:14.1%}{psnr:9.1f} dB"


def _loadable(output: Path) -> str:
    """The path as :func:`onmanifold.load_prior` takes it: one word alone would be a name."""
    path = output.as_posix()
    return path if len(output.parts) > 1 else f"./{path}"
