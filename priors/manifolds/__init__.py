"""Data manifolds by name: what priors learn from, what operators are tested on."""

from __future__ import annotations

from typing import Any

from onmanifold.priors.manifolds.bar import Bar
from onmanifold.priors.manifolds.base import DataManifold, pixel_grid, stream
from onmanifold.priors.manifolds.tank import Tank
from onmanifold.priors.manifolds.two_balls import TwoBalls
from onmanifold.priors.manifolds.two_circles import TwoCircles

__all__ = [
    "Bar",
    "DataManifold",
    "Tank",
    "TwoBalls",
    "TwoCircles",
    "manifold",
    "pixel_grid",
    "stream",
]

MANIFOLDS: dict[str, type[DataManifold]] = {
    "bar": Bar,
    "tank": Tank,
    "two-balls": TwoBalls,
    "two-circles": TwoCircles,
}


def manifold(name: str, **options: Any) -> DataManifold:
    """The data manifold called ``name``.

    Raises:
        ValueError: an unknown name; the message lists the known ones.

    Example:
        >>> manifold("bar", size=32).x_shape
        (1, 32, 32)
    """
    if name not in MANIFOLDS:
        raise ValueError(f"unknown data manifold {name!r}; known: {', '.join(sorted(MANIFOLDS))}")
    return MANIFOLDS[name](**options)
