"""Simulated phantoms: disks with holes of shapes that the outlines learned, and of others.

Lengths are in radii of the disk, x to the right and y up; shapes are closed polygons, their corners complex.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import Voronoi

from onmanifold.priors.datasets import OutlineImages
from tanks_parts.shapes import UNSEEN, Ring, Source, gap, make_shape, spaced

LEARNED = ("disk", "ellipse", "convex polygon", "blob")
OTHERS = (*(name for name in UNSEEN if name != "letter"), "voronoi cell")
FEWEST, MOST = 4, 14  # holes
SMALLEST, LARGEST = 0.07, 0.2  # radius of a disk of a hole's area
WALL = 0.02  # least distance of two holes, and of cells: 0.7 mm, 5 pixels
RIM = 0.1  # least distance of a hole from the rim
FULLEST = 0.25  # share of the disk that the holes take at most
_TRIES = 400


class Phantom(NamedTuple):
    """A disk with holes."""

    number: int  # its seed
    families: tuple[str, ...]  # of the holes' shapes
    holes: tuple[Ring, ...]

    def mask(self, centre: complex, radius: float, size: int, pixel: float) -> NDArray[np.bool_]:
        """Where the material is, ``(size, size)``, row 0 on top, of a disk placed in mm."""
        at = pixel * (np.arange(size) - (size - 1) / 2)
        points = (at - 1j * at[:, None] - centre) / radius
        found = np.abs(points) <= 1
        for hole in self.holes:
            near = np.abs(points - hole.mean()) <= np.abs(hole - hole.mean()).max()
            found[near] &= ~_inside(hole, points[near])
        return found


def make_phantom(number: int) -> Phantom:
    """The phantom of a seed: half of the shapes are of families that the outlines did not learn."""
    source = np.random.default_rng([26, number])
    wanted = int(source.integers(FEWEST, MOST + 1))
    holes: list[tuple[str, Ring]] = []
    if (
        source.random() < 0.5
    ):  # of half of the phantoms the other shapes are mostly cells, wall by wall
        holes = cells(source, (wanted + 1) // 2)
    largest = min(LARGEST, float(np.sqrt(FULLEST / wanted)))
    tries = 0
    while len(holes) < wanted and tries < _TRIES:
        tries += 1
        learned = sum(family in LEARNED for family, _ in holes) < wanted // 2
        names = LEARNED if learned else OTHERS[:-1]
        family = str(source.choice(names))
        radius = np.exp(source.uniform(np.log(SMALLEST), np.log(max(largest, 1.2 * SMALLEST))))
        shape = radius * outline(family, source)
        where = np.sqrt(source.random()) * np.exp(2j * np.pi * source.random())
        placed = shape + where
        if np.abs(placed).max() < 1 - RIM and _free(placed, [ring for _, ring in holes]):
            holes.append((family, placed))
    return Phantom(number, tuple(f for f, _ in holes), tuple(ring for _, ring in holes))


def outline(family: str, source: Source) -> Ring:
    """A shape of a family with the area of the unit disk, its centroid at the origin, at any angle."""
    if family in UNSEEN:
        return make_shape(family, source)[0]
    generator = torch.Generator().manual_seed(int(source.integers(2**31)))
    corners = OutlineImages().corners(family, 1, generator)[0].double().numpy()
    turn = np.exp(2j * np.pi * source.random())
    ring: Ring = spaced(turn * (corners[:, 0] + 1j * corners[:, 1]))
    return ring


def cells(source: Source, count: int) -> list[tuple[str, Ring]]:
    """Neighbouring cells of a Voronoi diagram, with walls of a few pixels between them."""
    middle = 0.35 * np.sqrt(source.random()) * np.exp(2j * np.pi * source.random())
    far = 1 - RIM - 0.02
    points = 1.6 * (source.random((80, 2)) - 0.5) * [2, 2]
    kept: list[NDArray[np.float64]] = []
    for p in points:
        if all(np.hypot(*(p - q)) > 0.24 for q in kept):
            kept.append(p)
    diagram = Voronoi(np.array(kept))
    order = np.argsort([abs(complex(*p) - middle) for p in kept])
    found: list[tuple[str, Ring]] = []
    for k in order:
        region = diagram.regions[diagram.point_region[k]]
        if -1 in region or not region:
            continue
        corners = diagram.vertices[region] @ [1, 1j]
        cell = _inset(corners, 0.5 * WALL * source.uniform(1.0, 2.5))
        if cell is not None and np.abs(cell).max() < far and len(found) < count:
            found.append(("voronoi cell", spaced(cell, 0.02)))
    return found


def _inset(corners: Ring, depth: float) -> Ring | None:
    """A convex polygon with its edges moved inwards; ``None`` where little is left."""
    ring = corners[np.argsort(np.angle(corners - corners.mean()))]
    after = np.roll(ring, -1)
    inward = 1j * (after - ring) / np.abs(after - ring)
    base = ring + depth * inward
    along = (after - ring) / np.abs(after - ring)
    # each corner is where two neighbouring moved edges cross
    b2, a2 = np.roll(base, 1), np.roll(along, 1)
    cross = a2.real * along.imag - a2.imag * along.real
    apart = base - b2
    t = (apart.real * along.imag - apart.imag * along.real) / cross
    moved = b2 + t * a2
    area = 0.5 * np.sum((moved.conj() * np.roll(moved, -1)).imag)
    turned = np.all(((np.roll(moved, -1) - moved) / along).real > 0)
    return moved if turned and area > np.pi * SMALLEST**2 else None


def _free(ring: Ring, others: list[Ring]) -> bool:
    """Whether a shape keeps its distance from all others."""
    for other in others:
        reach = np.abs(ring - ring.mean()).max() + np.abs(other - other.mean()).max() + WALL
        if abs(ring.mean() - other.mean()) < reach and gap((ring,), (other,)) < WALL:
            return False
    return True


def _inside(ring: Ring, points: Ring) -> NDArray[np.bool_]:
    """Which points lie inside a closed polygon, by crossings to the right."""
    a, b = ring[:, None], np.roll(ring, -1)[:, None]
    over = (a.imag > points.imag) != (b.imag > points.imag)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = a.real + (points.imag - a.imag) / (b.imag - a.imag) * (b.real - a.real)
    crossed: NDArray[np.bool_] = (over & (points.real < x)).sum(0) % 2 == 1
    return crossed
