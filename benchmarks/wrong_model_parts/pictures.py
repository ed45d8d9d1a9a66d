"""Pictures on and off the manifolds of bars and of pairs of balls, 128 x 128 pixels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import pi

import torch
from torch import Tensor

from onmanifold.priors.datasets import Bar, TwoBalls
from onmanifold.priors.datasets.base import pixel_grid, uniform

BAR = Bar()
Pictures = Callable[[int, torch.Generator], Tensor]  # how many, from which random numbers


def bars(n: int, source: torch.Generator, bar: Bar = BAR) -> Tensor:
    """Bars through the centre at any angle."""
    return bar.sample(n, source)[0]


def bars_off_centre(n: int, source: torch.Generator, bar: Bar = BAR) -> Tensor:
    """Bars whose middle is 15 pixels off the picture's."""
    towards = uniform((n,), 0.0, 2 * pi, source)
    moves = (15 * torch.stack([towards.cos(), towards.sin()], dim=1)).round().int().tolist()
    pictures = zip(bars(n, source, bar), moves, strict=True)
    return torch.stack([picture.roll(move, dims=(1, 2)) for picture, move in pictures])


def crossing_bars(n: int, source: torch.Generator) -> Tensor:
    """Two bars with 45 degrees between them or more."""
    angle = uniform((n, 1), 0.0, 2 * pi, source)
    other = angle + uniform((n, 1), pi / 4, 3 * pi / 4, source)
    return torch.maximum(BAR.render(angle), BAR.render(other))


def disks(n: int, source: torch.Generator) -> Tensor:
    """Disks in the middle, of the area of a bar to twice that."""
    return 0.5 + 0.25 * _trace(torch.zeros(n, 1, 2), uniform((n,), 12.6, 17.8, source))


def strokes(n: int, source: torch.Generator) -> Tensor:
    """Strokes of a pen along a bent curve, as in a digit: 8 pixels wide."""
    corners = uniform((n, 3, 2), -35.0, 35.0, source)
    corners = corners - corners.mean(dim=1, keepdim=True)
    t = torch.linspace(0, 1, 65)
    bezier = torch.stack([(1 - t) ** 2, 2 * t * (1 - t), t**2], dim=1)
    return 0.5 + 0.25 * _trace(bezier @ corners, torch.full((n,), 4.0))


def pairs_of_balls(n: int, source: torch.Generator) -> Tensor:
    """Two disjoint balls."""
    return TwoBalls().sample(n, source)[0]


def single_balls(n: int, source: torch.Generator) -> Tensor:
    """The first of two balls."""
    return _balls(TwoBalls().sample(n, source)[1][:, :1])


def three_balls(n: int, source: torch.Generator) -> Tensor:
    """Three balls, each two of which could be a pair."""
    data, found = TwoBalls(), torch.empty(0, 3, 3)
    while len(found) < n:
        pairs = data.sample(20 * n, source)[1]
        three = torch.cat([pairs, pairs.roll(1, dims=0)[:, :1]], dim=1)
        fit = data.allowed(three[:, 1:]) & data.allowed(three[:, ::2])
        found = torch.cat([found, three[fit]])
    return _balls(found[:n])


def _balls(balls: Tensor) -> Tensor:
    """Disjoint balls ``(n, k, 3)``: x, y, radius in pixels, with the values of pairs of balls."""
    each = [_trace(ball[:, None, :2], ball[:, 2]) for ball in balls.unbind(dim=1)]
    return 0.5 + 0.3125 * torch.stack(each).sum(dim=0)


def _trace(curve: Tensor, radius: Tensor) -> Tensor:
    """1 where a point of ``curve`` ``(n, T, 2)`` is nearer than ``radius`` ``(n,)``, else 0; shaded edges."""
    x, y = pixel_grid(128, 64.0)
    away = torch.full((len(curve), 128, 128), torch.inf)
    for cx, cy in curve.permute(1, 2, 0):
        away = torch.minimum(away, torch.hypot(x - cx[:, None, None], y - cy[:, None, None]))
    return (0.5 + radius[:, None, None] - away).clamp(0, 1)[:, None]


BARS: dict[str, Pictures] = {
    "genuine: bars": bars,
    "bar off centre": bars_off_centre,
    "two bars crossing": crossing_bars,
    "bar of twice the width": partial(bars, bar=Bar(width=20.0)),
    "disk": disks,
    "stroke, as in a digit": strokes,
}
BALLS: dict[str, Pictures] = {
    "genuine: two balls": pairs_of_balls,
    "one ball": single_balls,
    "three balls": three_balls,
    "bar": partial(bars_off_centre, bar=Bar(value=0.8125)),
}
