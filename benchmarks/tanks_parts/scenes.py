"""Scenes: objects at places in a tank. Lengths are in radii of the tank, x to the right and y up.

Scenes from number :data:`HARDER` on are harder: three to five objects, half of them far from round, in two of
three scenes one close to the wall, in one of these where levels 4 to 7 have no electrodes.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import bisect

from onmanifold.operators.eit.ktc import CONDUCTIVE, RESISTIVE, SIZE, tank
from tanks_parts.shapes import FAMILIES, FAR, UNSEEN, Shape, Source, gap, inside, make_shape

KINDS = ("apart", "apart", "close")  # in a third of the scenes objects touch each other or the wall
HARDER = 1000  # number of the first harder scene
HARDER_KINDS = ("apart", "wall", "hidden")
MISSING = 6  # electrodes that levels 4 to 7 lack, the first ones
APART = 0.05  # smallest gap in the others
FILM = 0.004  # water between objects that touch: half a millimetre, half a pixel
REACH = (0.01, 0.02)  # gap to the wall of an object that nearly reaches it
SMALLEST, LARGEST = 0.14, 0.4  # radius of a disk of the object's area
FULLEST = 0.3  # share of the tank that objects may take


class Body(NamedTuple):
    """An object in the tank."""

    family: str  # of its shape
    rings: Shape  # its outline and holes
    kind: int  # 1 resistive, 2 conductive
    radius: float  # that of a disk of its area
    contrast: float  # its conductivity relative to the water's

    def moved(self, shift: complex) -> "Body":
        """The same elsewhere."""
        return self._replace(rings=tuple(ring + shift for ring in self.rings))

    @property
    def reach(self) -> float:
        """Largest distance of a point of it to the tank's centre."""
        return float(np.abs(self.rings[0]).max())


class Scene(NamedTuple):
    """The objects in a tank."""

    number: int  # of the scene; its seed
    kind: (
        str  # "apart", "touching", "wall", or "hidden": at the wall where electrodes may be missing
    )
    bodies: tuple[Body, ...]

    def labels(self) -> NDArray[np.uint8]:
        """Classes ``(256, 256)``: 0 water, 1 resistive, 2 conductive, row 0 on top."""
        centre = (np.arange(SIZE) + 0.5) * 2 / SIZE - 1
        points = (centre - 1j * centre[:, None]).ravel()
        image = np.zeros(SIZE * SIZE, np.uint8)
        for body in self.bodies:
            image[inside(body.rings, points)] = body.kind
        return image.reshape(SIZE, SIZE)

    @property
    def counts(self) -> tuple[int, int]:
        """Number of resistive and of conductive objects."""
        kinds = [body.kind for body in self.bodies]
        return kinds.count(RESISTIVE), kinds.count(CONDUCTIVE)


def make_scene(number: int) -> Scene:
    """The scene of a number, the same each time."""
    source = np.random.default_rng([2026, number])
    others = UNSEEN
    if number >= HARDER:
        kind, count, others = HARDER_KINDS[number % 3], 3 + number // 3 % 3, FAR
    else:
        kind, count = KINDS[number % len(KINDS)], 1 + number // len(KINDS) % 4
    if kind == "close":
        kind = "wall" if count == 1 or source.random() < 0.3 else "touching"
    while True:
        bodies = _arranged(_bodies(count, others, source), kind, source)
        if bodies is not None:
            return Scene(number, kind, tuple(bodies))


def _bodies(count: int, others: Iterable[str], source: Source) -> list[Body]:
    """Objects at the origin, half of them of other families, that leave room for each other."""
    while True:
        radii = np.exp(source.uniform(np.log(SMALLEST), np.log(LARGEST), count))
        if (radii**2).sum() < FULLEST:
            break
    bodies = []
    for radius in np.sort(radii)[::-1]:
        family = str(source.choice(list(others if source.random() < 0.5 else FAMILIES)))
        shape = make_shape(family, source)
        kind = int(source.choice([RESISTIVE, CONDUCTIVE]))
        limits = (1e-3, 2e-2) if kind == RESISTIVE else (30.0, 300.0)
        contrast = float(np.exp(source.uniform(*np.log(limits))))
        rings = tuple(radius * ring for ring in shape)
        bodies.append(Body(family, rings, kind, float(radius), contrast))
    return bodies


def _arranged(bodies: list[Body], kind: str, source: Source) -> list[Body] | None:
    """The objects at places that fit the kind of scene, or ``None`` where some find none."""
    placed: list[Body] = []
    for k, body in enumerate(bodies):
        to_wall, to_first = k == 0 and kind in ("wall", "hidden"), k == 1 and kind == "touching"
        for _ in range(200):
            if to_wall:
                moved = _to_wall(body, source, hidden=kind == "hidden")
            elif to_first:
                moved = _to_contact(body, placed[0], source)
            else:
                angle = source.uniform(0, 2 * np.pi)
                moved = body.moved(np.sqrt(source.uniform(0, 1)) * np.exp(1j * angle))
            others = placed[1:] if to_first else placed
            inner = moved.reach < 1 - 0.99 * (REACH[0] if to_wall else APART)
            if inner and all(gap(moved.rings, other.rings) > APART for other in others):
                placed.append(moved)
                break
        else:
            return None
    return placed


def _to_wall(body: Body, source: Source, hidden: bool) -> Body:
    """The object, pushed towards the wall until a small gap is left."""
    missing = np.deg2rad(tank().angles[:MISSING])
    way = np.exp(1j * (source.choice(missing) if hidden else source.uniform(0, 2 * np.pi)))
    wanted = 1 - source.uniform(*REACH)
    return body.moved(bisect(lambda t: body.moved(t * way).reach - wanted, 0.0, 1.5) * way)


def _to_contact(body: Body, other: Body, source: Source) -> Body:
    """The object, pushed from far against another until a film of water is left."""
    way, middle = np.exp(1j * source.uniform(0, 2 * np.pi)), other.rings[0].mean()

    def room(t: float) -> float:
        return gap(body.moved(middle + (3.0 - t) * way).rings, other.rings) - FILM

    return body.moved(middle + (3.0 - bisect(room, 0.0, 3.0)) * way)
