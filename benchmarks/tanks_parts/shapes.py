"""Outlines of objects: those of real tanks, and families that no shape manifold has learned.

A shape is a tuple of rings, corners of closed polygons as complex numbers ``x + iy``: the outline, then its
holes. Shapes have the area of the unit disk, their centroid at the origin, and are turned and mirrored at
random.
"""

from collections.abc import Callable

import numpy as np
import torch
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from numpy.typing import NDArray
from torch import Tensor

from onmanifold.priors.datasets import polygon

Ring = NDArray[np.complex128]
Shape = tuple[Ring, ...]
Source = np.random.Generator

ROUND = 96  # corners of a circle
ROUNDING = 1e-20  # of corners on one line
LETTERS = "AEFHKMRSVXYZ"


# Outlines of real tanks ---------------------------------------------------------------------------


def disk(source: Source) -> Ring:
    """A disk, or an ellipse that is nearly one."""
    circle = _arc(0.0, 2 * np.pi)[:-1]
    return circle.real + 1j * source.uniform(0.7, 1.0) * circle.imag


def half_disk(source: Source) -> Ring:
    """More or less than half of a disk, cut along a chord."""
    half = source.uniform(0.4, 0.6) * np.pi
    return _arc(-half, half)


def rectangle(source: Source) -> Ring:
    """A rectangle, at most three times as long as wide."""
    return np.array([1, -1, -1, 1]) + 1j * np.array([1, 1, -1, -1]) * source.uniform(1 / 3, 1.0)


def triangle(source: Source) -> Ring:
    """A triangle without very acute angles."""
    return np.exp(1j * np.deg2rad([90, 210, 330] + source.uniform(-20, 20, 3)))


def cross(source: Source) -> Ring:
    """A cross of four arms."""
    w = source.uniform(0.25, 0.45)
    arm = np.array([1 - 1j * w, 1 + 1j * w, w + 1j * w])
    return np.concatenate([1j**k * arm for k in range(4)])


# Outlines that no shape manifold has learned -----------------------------------------------------


def star(source: Source) -> Ring:
    """Five to eight rays."""
    rays, inner = source.integers(5, 9), source.uniform(0.4, 0.6)
    return np.tile([1.0, inner], rays) * np.exp(1j * np.arange(2 * rays) * np.pi / rays)


def heart(source: Source) -> Ring:
    """A heart, more or less slender."""
    t = np.arange(ROUND) * 2 * np.pi / ROUND
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return -16 * np.sin(t) ** 3 * source.uniform(0.8, 1.15) + 1j * y


def keyhole(source: Source) -> Ring:
    """A disk on a skirt that widens downwards."""
    neck, foot = np.arcsin(source.uniform(0.35, 0.5)), source.uniform(0.6, 0.9)
    low = -1j * source.uniform(1.8, 2.3)
    return np.concatenate([_arc(neck - np.pi / 2, 1.5 * np.pi - neck), [low - foot, low + foot]])


def s_shape(source: Source) -> Ring:
    """A band along two arcs that turn opposite ways."""
    upper = _arc(1.5 * np.pi - source.uniform(0.95, 1.25) * np.pi, 1.5 * np.pi) + 1j
    spine = np.concatenate([upper, -upper[-2::-1]])
    along = np.gradient(spine)
    normal = source.uniform(0.3, 0.42) * 1j * along / np.abs(along)
    return np.concatenate([spine + normal, (spine - normal)[::-1]])


def z_shape(source: Source) -> Ring:
    """Two bars, shifted along each other."""
    overlap, thick = source.uniform(0.25, 0.6), 1j * source.uniform(0.4, 0.7)
    upper = np.array([overlap, overlap + thick, -1.2 + thick, -1.2, -overlap])
    return np.concatenate([upper, -upper])[[0, 1, 2, 3, 4, 6, 7, 8]]


def crescent(source: Source) -> Ring:
    """A disk without a part of another, shifted one."""
    shift, radius = source.uniform(0.5, 0.75), source.uniform(0.75, 0.9)
    x = (1 + shift**2 - radius**2) / (2 * shift)  # where the circles cross
    y = np.sqrt(1 - x**2)
    outer, inner = np.arctan2(y, x), np.arctan2(y, x - shift)
    bite = radius * _arc(inner, 2 * np.pi - inner) + shift
    return np.concatenate([_arc(outer, 2 * np.pi - outer), bite[-2:0:-1]])


def gear(source: Source) -> Ring:
    """Six to ten teeth."""
    teeth, root = source.integers(6, 11), source.uniform(0.68, 0.8)
    tooth = np.array([-0.3, -0.18, 0.18, 0.3]) * 2 * np.pi / teeth
    angles = (np.arange(teeth)[:, None] * 2 * np.pi / teeth + tooth).ravel()
    return np.tile([root, 1.0, 1.0, root], teeth) * np.exp(1j * angles)


def arrow(source: Source) -> Ring:
    """A shaft with a head."""
    shaft, head, length = (source.uniform(*p) for p in ((0.25, 0.4), (0.8, 1.0), (1.0, 1.5)))
    upper = np.array([1.1, 1j * head, 1j * shaft, 1j * shaft - length])
    return np.concatenate([upper, upper.conj()[:0:-1]])


def hand_drawn(source: Source) -> Ring:
    """A closed line whose direction wanders at random while it turns once around."""
    t = np.arange(ROUND) / ROUND
    while True:
        walk = np.cumsum(source.standard_normal(ROUND)) / np.sqrt(ROUND)
        bridge = walk - t * walk[-1]
        smooth = np.convolve(np.tile(bridge, 3), np.hanning(9) / 4, "same")[ROUND : 2 * ROUND]
        step = np.exp(1j * (2 * np.pi * t + 2.2 * smooth))
        outline = np.cumsum(step - step.mean())
        length = np.abs(outline - _following(outline)).sum()
        if simple(outline) and 0.45 < 4 * np.pi * _area(outline) / length**2 < 0.9:
            return outline


def letter(source: Source) -> Shape:
    """A bold letter; some have holes."""
    font, name = FontProperties(family="DejaVu Sans", weight="bold"), source.choice(list(LETTERS))
    polygons = TextPath((0, 0), name, 10, prop=font).to_polygons(closed_only=True)
    rings = [np.asarray(polygon[:-1]) @ [1, 1j] for polygon in polygons]
    return tuple(sorted(rings, key=lambda ring: -abs(_area(ring))))


# Far from round -----------------------------------------------------------------------------------


def elongated(source: Source) -> Ring:
    """An ellipse or a bar, three to six times as long as wide."""
    wide = 1 / source.uniform(3.0, 6.0)
    if source.random() < 0.5:
        circle = _arc(0.0, 2 * np.pi)[:-1]
        return circle.real + 1j * wide * circle.imag
    return np.array([1, -1, -1, 1]) + 1j * wide * np.array([1, 1, -1, -1])


def pointed(source: Source) -> Ring:
    """A kite, or a star of three or four rays: points of 15 to 40 degrees."""
    rays = source.integers(2, 5)
    inner = source.uniform(0.22, 0.32)
    return np.tile([1.0, inner], rays) * np.exp(1j * np.arange(2 * rays) * np.pi / rays)


def with_appendages(source: Source) -> Ring:
    """A disk with one to three thin rods."""
    rods, half = source.integers(1, 4), source.uniform(0.13, 0.2)
    turn, length = np.arcsin(half), source.uniform(1.9, 2.4)
    angles = 2 * np.pi * (np.arange(rods) + source.uniform(-0.15, 0.15, rods)) / rods
    parts = []
    for angle, following in zip(angles, [*angles[1:], angles[0] + 2 * np.pi], strict=True):
        parts.append(np.exp(1j * angle) * np.array([length - 1j * half, length + 1j * half]))
        parts.append(_arc(angle + turn, following - turn))
    return np.concatenate(parts)


def notched(source: Source) -> Ring:
    """A disk with one or two deep notches."""
    notches, half = source.integers(1, 3), source.uniform(0.13, 0.22)
    turn, bottom = np.arcsin(half), source.uniform(-0.3, 0.1) if notches == 1 else 0.25
    parts = []
    for k in range(notches):
        angle = 2 * np.pi * k / notches
        parts.append(np.exp(1j * angle) * np.array([bottom - 1j * half, bottom + 1j * half]))
        parts.append(_arc(angle + turn, angle + 2 * np.pi / notches - turn))
    return np.concatenate(parts)


Family = Callable[[Source], Ring | Shape]
FAMILIES: dict[str, Family] = {
    f.__name__.replace("_", " "): f for f in (disk, half_disk, rectangle, triangle, cross)
}
UNSEEN: dict[str, Family] = {
    f.__name__.replace("_", " "): f
    for f in (star, heart, keyhole, s_shape, z_shape, crescent, gear, arrow, hand_drawn, letter)
}

FAR: dict[str, Family] = {
    f.__name__.replace("_", " "): f for f in (elongated, pointed, with_appendages, notched)
}


def make_shape(family: str, source: Source) -> Shape:
    """A shape of a family, of the unit disk's area, centred, turned and mirrored at random."""
    made = (FAMILIES | UNSEEN | FAR)[family](source)
    rings = made if isinstance(made, tuple) else (made,)
    signed = [(1 if k == 0 else -1) * abs(_area(ring)) for k, ring in enumerate(rings)]
    centres = (a * _centroid(ring) for a, ring in zip(signed, rings, strict=True))
    centre, scale = sum(centres) / sum(signed), np.sqrt(np.pi / sum(signed))
    mirror = source.choice([-1.0, 1.0]) < 0
    turn = scale * np.exp(1j * source.uniform(0, 2 * np.pi))
    placed = [turn * (ring - centre) for ring in rings]
    return tuple(spaced(ring.conj() if mirror else ring) for ring in placed)


# Polygons -------------------------------------------------------------------------------------------


def inside(shape: Shape, points: Ring) -> NDArray[np.bool_]:
    """Which of the points ``(n,)`` lie within the outline and in none of the holes, ``(n,)``."""
    return np.logical_xor.reduce([_depth(ring, points) > 0 for ring in shape])


def gap(first: Shape, second: Shape) -> float:
    """Distance between the outlines of two shapes; negative if they overlap, holes counted as filled.

    No part of either may be thinner than its corners are apart.
    """
    a, b = first[0], second[0]
    return -float(max(_depth(a, b).max(), _depth(b, a).max()))


def spaced(ring: Ring, step: float = 0.1) -> Ring:
    """The same polygon with corners at most ``step`` apart."""
    following = _following(ring)
    parts = np.ceil(np.abs(following - ring) / step).astype(int).clip(1)
    edges = zip(ring, following, parts, strict=True)
    return np.concatenate([a + (b - a) * np.arange(n) / n for a, b, n in edges])


def simple(outline: Ring) -> bool:
    """Whether no two edges of a closed polygon cross; common corners do not count."""
    a, b = outline[:, None], _following(outline)[:, None]
    c, d = a.T, b.T
    one = _cross(b - a, c - a) * _cross(b - a, d - a) < -ROUNDING
    return not bool((one & (_cross(d - c, a - c) * _cross(d - c, b - c) < -ROUNDING)).any())


def _cross(a: Ring, b: Ring) -> NDArray[np.float64]:
    """Cross products of vectors: positive where b is on the left of a, exactly 0 where they are equal."""
    return a.real * b.imag - a.imag * b.real


def _depth(ring: Ring, points: Ring) -> NDArray[np.float64]:
    """Distance of points to the edges of a closed polygon, positive inside."""
    parts = _corners(points)[0].split(2000)  # they stay in the cache
    return torch.cat([polygon.signed_distance(_corners(ring), p)[0] for p in parts]).numpy()


def _corners(ring: Ring) -> Tensor:
    """A batch of one polygon, ``(1, K, 2)``."""
    return torch.view_as_real(torch.from_numpy(ring))[None]


def _area(ring: Ring) -> float:
    """Positive where the ring runs counterclockwise."""
    return float(polygon.area(_corners(ring)))


def _centroid(ring: Ring) -> complex:
    return complex(*polygon.centroid(_corners(ring))[0].tolist())


def _following(ring: Ring) -> Ring:
    """The corner after each."""
    return np.roll(ring, -1)


def _arc(start: float, end: float) -> Ring:
    """A part of the unit circle."""
    corners = int(np.ceil(abs(end - start) / (2 * np.pi) * ROUND)) + 1
    return np.exp(1j * np.linspace(start, end, corners))
