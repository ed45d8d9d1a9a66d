"""The charts that are compared, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

from torch import nn

from benchmarks.charts_parts.tiled import TiledChart
from onmanifold.priors.atlas.chart import Chart
from onmanifold.priors.networks import mlp
from onmanifold.priors.training.recipe import Recipe

X_SHAPE = (1, 128, 128)
BACKGROUND = 0.5  # of both data sets
Build = Callable[[int], nn.Module]


@dataclass(frozen=True)
class Design:
    """One architecture.

    Attributes:
        about: what it is, for the table.
        build: the chart, with random weights, of a latent dimension.
        rate: learning rate.
    """

    about: str
    build: Build
    rate: float


def _shipped(name: str) -> Design:
    """The chart of a shipped recipe, with the recipe's learning rate."""
    recipe = Recipe.read(name)
    options = recipe.model["chart"]
    return Design(
        f"two networks, recipe {name}",
        lambda dim: Chart(dim, X_SHAPE, **options),
        recipe.schedule["learning_rate"],
    )


def _ours(
    dim: int, channels: list[int], patch: int = 8, groups: int = 8, couplings: int = 1
) -> Chart:
    options = {"channels": channels, "patch": patch, "hidden": 256, "groups": groups}
    return Chart(
        dim, X_SHAPE, couplings=couplings, options=options, scale=5.0, background=BACKGROUND
    )


def _dense(dim: int, hidden: int) -> Chart:
    """A chart of two perceptrons, to which pictures are vectors."""
    chart = _ours(dim, [8])
    size = prod(X_SHAPE)
    chart.to_image[0] = nn.Sequential(mlp(dim, hidden, size), nn.Unflatten(1, X_SHAPE))
    chart.to_code[0] = nn.Sequential(nn.Flatten(), mlp(size, hidden, dim))
    return chart


def _tiled(dim: int, **options: Any) -> TiledChart:
    return TiledChart(dim, X_SHAPE, background=BACKGROUND, **options)


PAPER = Design(
    "paper, full width",
    partial(_tiled, base=32, couplings=3, dense=64, channels=64, upsampling=4),
    5e-4,
)

DESIGNS: dict[str, Design] = {
    "A": _shipped("two-balls"),
    "A-plain": Design(
        "A without group norms", partial(_ours, channels=[96, 64, 48], groups=0), 2e-3
    ),
    "A-small": Design("A, half the channels", partial(_ours, channels=[48, 32, 24]), 4e-3),
    "A-small-plain": Design(
        "A-small without group norms", partial(_ours, channels=[48, 32, 24], groups=0), 2e-3
    ),
    "A-bar": _shipped("bar"),
    "A-large": Design("A, 1.7 times the channels", partial(_ours, channels=[160, 112, 80]), 2e-3),
    "A-fine": Design(
        "A-small, one more grid, patch 4", partial(_ours, channels=[48, 32, 24, 16], patch=4), 4e-3
    ),
    "A-twice": Design(
        "A-small, two couplings", partial(_ours, channels=[48, 32, 24], couplings=2), 3e-3
    ),
    "A-dense": Design("two perceptrons", partial(_dense, hidden=256), 5e-4),
    "C": Design(
        "paper, reduced, Haar wavelets",
        partial(_tiled, base=8, couplings=1, dense=128, channels=32, upsampling="haar"),
        1e-3,
    ),
    "D": Design(
        "paper, reduced, learned rotations",
        partial(_tiled, base=8, couplings=1, dense=128, channels=32, upsampling=0),
        1e-3,
    ),
}
