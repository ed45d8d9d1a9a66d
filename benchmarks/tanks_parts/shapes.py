"""Outlines of objects: those that stand in real tanks, and families that no shape manifold has learned.

A shape is a tuple of rings, corners ``(n, 2)`` of closed polygons: the outline, then its holes. Shapes have
the area of the unit disk, their centroid at the origin, and are turned and mirrored at random.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path as Curve
from matplotlib.textpath import TextPath
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Shape = tuple[Array, ...]
Source = np.random.Generator

ROUND = 96  # corners of a circle
LETTERS = "AEFHKMRSVXYZ"


# What real tanks hold: outlines -------------------------------------------------------------------


def disk(source: Source) -> Array:
    """A disk, or an ellipse that is nearly one."""
    return _arc(0.0, 2 * np.pi)[:-1] * [1.0, source.uniform(0.7, 1.0)]


def half_disk(source: Source) -> Array:
    """More or less than half of a disk, cut along a chord."""
    half = source.uniform(0.4, 0.6) * np.pi
    return _arc(-half, half)


def rectangle(source: Source) -> Array:
    """A rectangle, at most three times as long as wide."""
    return np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * [1.0, source.uniform(1 / 3, 1.0)]


def triangle(source: Source) -> Array:
    """A triangle without very acute angles."""
    return _polar(1.0, np.deg2rad([90, 210, 330] + source.uniform(-20, 20, 3)))


def cross(source: Source) -> Array:
    """A cross of four arms."""
    w = source.uniform(0.25, 0.45)
    arm = np.array([[1, -w], [1, w], [w, w]])
    return np.concatenate([arm @ _rotation(k * np.pi / 2) for k in range(4)])


# What no shape manifold has learned: outlines -----------------------------------------------------


def star(source: Source) -> Array:
    """Five to eight rays."""
    rays, inner = source.integers(5, 9), source.uniform(0.4, 0.6)
    return _polar(np.tile([1.0, inner], rays), np.arange(2 * rays) * np.pi / rays)


def heart(source: Source) -> Array:
    """A heart, more or less slender."""
    t = np.arange(ROUND) * 2 * np.pi / ROUND
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([-16 * np.sin(t) ** 3 * source.uniform(0.8, 1.15), y], axis=1)


def keyhole(source: Source) -> Array:
    """A disk on a skirt that widens downwards."""
    neck, foot = np.arcsin(source.uniform(0.35, 0.5)), source.uniform(0.6, 0.9)
    length = source.uniform(1.8, 2.3)
    head = _arc(neck - np.pi / 2, 1.5 * np.pi - neck)
    return np.concatenate([head, [[-foot, -length], [foot, -length]]])


def s_shape(source: Source) -> Array:
    """A band along two arcs that turn opposite ways."""
    upper = _arc(1.5 * np.pi - source.uniform(0.95, 1.25) * np.pi, 1.5 * np.pi) + [0.0, 1.0]
    spine = np.concatenate([upper, -upper[-2::-1]])
    along = np.gradient(spine, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    normal = source.uniform(0.3, 0.42) * along @ _rotation(np.pi / 2)
    return np.concatenate([spine + normal, (spine - normal)[::-1]])


def z_shape(source: Source) -> Array:
    """Two bars, shifted along each other."""
    overlap, thick = source.uniform(0.25, 0.6), source.uniform(0.4, 0.7)
    upper = np.array([[overlap, 0], [overlap, thick], [-1.2, thick], [-1.2, 0], [-overlap, 0]])
    return np.concatenate([upper, -upper])[[0, 1, 2, 3, 4, 6, 7, 8]]


def crescent(source: Source) -> Array:
    """A disk without a part of another, shifted one."""
    shift, radius = source.uniform(0.5, 0.75), source.uniform(0.75, 0.9)
    x = (1 + shift**2 - radius**2) / (2 * shift)  # where the circles cross
    y = np.sqrt(1 - x**2)
    outer, inner = np.arctan2(y, x), np.arctan2(y, x - shift)
    bite = radius * _arc(inner, 2 * np.pi - inner) + [shift, 0.0]
    return np.concatenate([_arc(outer, 2 * np.pi - outer), bite[-2:0:-1]])


def gear(source: Source) -> Array:
    """Six to ten teeth."""
    teeth, root = source.integers(6, 11), source.uniform(0.68, 0.8)
    tooth = np.array([-0.3, -0.18, 0.18, 0.3]) * 2 * np.pi / teeth
    angles = (np.arange(teeth)[:, None] * 2 * np.pi / teeth + tooth).ravel()
    return _polar(np.tile([root, 1.0, 1.0, root], teeth), angles)


def arrow(source: Source) -> Array:
    """A shaft with a head."""
    shaft, head, length = (source.uniform(*p) for p in ((0.25, 0.4), (0.8, 1.0), (1.0, 1.5)))
    upper = np.array([[1.1, 0], [0, head], [0, shaft], [-length, shaft]])
    return np.concatenate([upper, (upper * [1, -1])[:0:-1]])


def hand_drawn(source: Source) -> Array:
    """A closed line whose direction wanders at random while it turns once around."""
    t = np.arange(ROUND) / ROUND
    while True:
        walk = np.cumsum(source.standard_normal(ROUND)) / np.sqrt(ROUND)
        bridge = walk - t * walk[-1]
        smooth = np.convolve(np.tile(bridge, 3), np.hanning(9) / 4, "same")[ROUND : 2 * ROUND]
        angle = 2 * np.pi * t + 2.2 * smooth
        step = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        outline = np.cumsum(step - step.mean(axis=0), axis=0)
        if simple(outline) and 0.45 < 4 * np.pi * _area(outline) / _length(outline) ** 2 < 0.9:
            return outline


def letter(source: Source) -> Shape:
    """A bold letter; some have holes."""
    glyph = TextPath(
        (0, 0),
        source.choice(list(LETTERS)),
        10,
        prop=FontProperties(family="DejaVu Sans", weight="bold"),
    )
    rings = [np.asarray(ring[:-1]) for ring in glyph.to_polygons(closed_only=True)]
    return tuple(sorted(rings, key=lambda ring: -abs(_area(ring))))


FAMILIES: dict[str, Callable[[Source], Array | Shape]] = {
    f.__name__.replace("_", " "): f for f in (disk, half_disk, rectangle, triangle, cross)
}
UNSEEN: dict[str, Callable[[Source], Array | Shape]] = {
    f.__name__.replace("_", " "): f
    for f in (star, heart, keyhole, s_shape, z_shape, crescent, gear, arrow, hand_drawn, letter)
}


def make_shape(family: str, source: Source) -> Shape:
    """A shape of a family, of the unit disk's area, centred, turned and mirrored at random."""
    made = (FAMILIES | UNSEEN)[family](source)
    rings = made if isinstance(made, tuple) else (made,)
    signed = [(1 if k == 0 else -1) * abs(_area(ring)) for k, ring in enumerate(rings)]
    total = sum(signed)
    centre = sum(a * _centroid(ring) for a, ring in zip(signed, rings, strict=True)) / total
    turn = [1.0, source.choice([-1.0, 1.0])] * _rotation(source.uniform(0, 2 * np.pi))
    scale = np.sqrt(np.pi / total)
    return tuple(_spaced(scale * (ring - centre) @ turn) for ring in rings)


def inside(shape: Shape, points: Array) -> NDArray[np.bool_]:
    """Which of the points ``(n, 2)`` lie within the outline and in none of the holes, ``(n,)``."""
    within = np.zeros(len(points), bool)
    for ring in shape:
        within ^= Curve(np.vstack([ring, ring[:1]]), closed=True).contains_points(points)
    return within


def simple(outline: Array) -> bool:
    """Whether no two edges of a closed polygon cross."""
    return not bool(_crossings(outline, outline).any())


def gap(first: Shape, second: Shape) -> float:
    """Distance between the outlines of two shapes; -1 if they overlap, holes counted as filled."""
    a, b = first[0], second[0]
    if inside((a,), b[:1])[0] or inside((b,), a[:1])[0] or _crossings(a, b).any():
        return -1.0
    return float(min(_distances(a, b).min(), _distances(b, a).min()))


# Inside ---------------------------------------------------------------------------------------------


def _spaced(ring: Array, step: float = 0.1) -> Array:
    """The same polygon with corners at most ``step`` apart."""
    following = np.roll(ring, -1, axis=0)
    parts = np.ceil(np.linalg.norm(following - ring, axis=1) / step).astype(int).clip(1)
    edges = zip(ring, following, parts, strict=True)
    return np.concatenate([a + (b - a) * (np.arange(n) / n)[:, None] for a, b, n in edges])


def _crossings(first: Array, second: Array) -> NDArray[np.bool_]:
    """Which edges of two closed polygons cross, ``(n, m)``; common corners do not count."""
    a, b = first[:, None], np.roll(first, -1, axis=0)[:, None]
    c, d = second[None], np.roll(second, -1, axis=0)[None]
    return (_side(a, b, c) * _side(a, b, d) < 0) & (_side(c, d, a) * _side(c, d, b) < 0)


def _distances(corners: Array, ring: Array) -> Array:
    """Distance of each corner to each edge of a closed polygon, ``(n, m)``."""
    edge, there = np.roll(ring, -1, axis=0) - ring, corners[:, None] - ring
    along = ((there * edge).sum(axis=2) / (edge**2).sum(axis=1)).clip(0, 1)
    return np.asarray(np.linalg.norm(there - along[..., None] * edge, axis=2))


def _polar(radius: ArrayLike, angle: Array) -> Array:
    return np.asarray(radius)[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _arc(start: float, end: float) -> Array:
    corners = int(np.ceil(abs(end - start) / (2 * np.pi) * ROUND)) + 1
    return _polar(1.0, np.linspace(start, end, corners))


def _rotation(angle: float) -> Array:
    """A matrix that, on the right of rows of points, turns them counterclockwise."""
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _side(a: Array, b: Array, c: Array) -> Array:
    """Positive where c is on the left of the line from a to b."""
    (ux, uy), (vx, vy) = np.moveaxis(b - a, -1, 0), np.moveaxis(c - a, -1, 0)
    return np.asarray(ux * vy - uy * vx)


def _crossed(ring: Array) -> Array:
    following = np.roll(ring, -1, axis=0)
    return np.asarray(ring[:, 0] * following[:, 1] - ring[:, 1] * following[:, 0])


def _area(ring: Array) -> float:
    """Positive where the ring runs counterclockwise."""
    return float(_crossed(ring).sum() / 2)


def _centroid(ring: Array) -> Array:
    weight = _crossed(ring)
    middles = (ring + np.roll(ring, -1, axis=0)) / 3
    return np.asarray((weight[:, None] * middles).sum(axis=0) / weight.sum())


def _length(ring: Array) -> float:
    return float(np.linalg.norm(ring - np.roll(ring, -1, axis=0), axis=1).sum())
