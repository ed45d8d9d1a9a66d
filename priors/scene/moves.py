"""Jumps from one list of objects to others.

Birth, death, split, merge, change of kind; and, since a descent may end in outlines that make up for an
object that is not where it should be, two objects divided anew and one with its outline forgotten.
"""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from onmanifold.prior import Point, pad_to
from onmanifold.priors.scene.recognition import block_of

if TYPE_CHECKING:
    from onmanifold.priors.scene.scene import Scene

NEWBORN = 0.14  # radius of a new object, in radii of the scene
SPACING = 0.2  # of the places where new ones are tried
PLAINER = 0.6  # share of the code that objects keep which were cut or joined

Listed = list[tuple[int, Tensor]]
"""Objects, each its kind and its block of coordinates."""


def listed(scene: Scene, z: Tensor, chart: int) -> Listed:
    """The objects of a point ``(dim,)``."""
    kinds = [kind for kind, count in enumerate(scene.counts[chart]) for _ in range(count)]
    return [(kind, z[i * scene.block : (i + 1) * scene.block]) for i, kind in enumerate(kinds)]


def jumps(scene: Scene, z: Tensor, chart: int) -> dict[str, list[Listed]]:
    """Other lists of objects to descend from, by the move that makes them."""
    objects = listed(scene, z, chart)
    masks = masks_of(scene, z, chart)
    found = {f"birth {k}": births(scene, objects, masks, k) for k in range(scene.kinds)}
    found["death"] = [objects[:i] + objects[i + 1 :] for i in range(len(objects))]
    found |= regroupings(scene, objects, masks)
    found["plain"] = plainer(objects)
    found["kind"] = [
        objects[:i] + [(k, block)] + objects[i + 1 :]
        for i, (kind, block) in enumerate(objects)
        for k in range(scene.kinds)
        if k != kind
    ]
    return {move: [o for o in lists if len(o) <= scene.most] for move, lists in found.items()}


def masks_of(scene: Scene, z: Tensor, chart: int) -> Tensor:
    """Of each object of a point ``(dim,)``, ``(n, size, size)``."""
    if not sum(scene.counts[chart]):
        return z.new_zeros(0, scene.size, scene.size)
    return scene.masks(z[None, : scene.chart_dims[chart]], chart)[0]


def regroupings(scene: Scene, objects: Listed, masks: Tensor) -> dict[str, list[Listed]]:
    """The same regions as other objects: one cut in two, two as one, two neighbours divided anew."""
    some = range(len(objects))
    close = [
        (i, j) for i in some for j in some if i != j and near(scene, objects[i][1], objects[j][1])
    ]
    alike = {(i, j): objects[i][0] == objects[j][0] for i, j in close}
    return {
        "split": [one for i in some for one in splits(scene, objects, masks, i)],
        # what is joined is of the first one's kind: either way round where kinds differ
        "merge": [
            merged(scene, objects, masks, i, j) for i, j in close if j < i or not alike[i, j]
        ],
        "divide": [
            one
            for i, j in close
            if j < i and alike[i, j]
            for one in divided(scene, objects, masks, i, j)
        ],
    }


def births(scene: Scene, objects: Listed, masks: Tensor, kind: int) -> list[Listed]:
    """A small disk of a kind wherever there is room for it."""
    taken = masks.amax(0) if len(masks) else masks.new_zeros(masks.shape[1:])
    found = []
    for x, y in places():
        row, column = (int((1 - y) / 2 * scene.size), int((1 + x) / 2 * scene.size))
        if taken[row, column] < 0.5:
            block = scene.half_widths.new_zeros(scene.block)
            block[0], block[1] = x, y
            block[2] = scene.arrangement.size_coordinate(block.new_tensor(NEWBORN))
            found.append([*objects, (kind, block)])
    return found


def places() -> list[tuple[float, float]]:
    """A triangular lattice in the disk."""
    found = []
    rows = int(1 / (SPACING * 0.866)) + 1
    for i in range(-rows, rows + 1):
        y = i * SPACING * 0.866
        for j in range(-rows - 1, rows + 2):
            x = (j + 0.5 * (i % 2)) * SPACING
            if x * x + y * y < (1 - NEWBORN) ** 2:
                found.append((x, y))
    return found


def splits(scene: Scene, objects: Listed, masks: Tensor, i: int) -> list[Listed]:
    """Object i cut into two halves, along its longer and its shorter axis."""
    kind = objects[i][0]
    halves = _halves(scene, masks[i])
    return [objects[:i] + [(kind, block) for block in pair] + objects[i + 1 :] for pair in halves]


def divided(scene: Scene, objects: Listed, masks: Tensor, i: int, j: int) -> list[Listed]:
    """Objects i and j joined, and cut into two halves as one is."""
    kind = objects[i][0]
    rest = [o for k, o in enumerate(objects) if k not in (i, j)]
    halves = _halves(scene, torch.maximum(masks[i], masks[j]))
    return [rest + [(kind, block) for block in pair] for pair in halves]


def _halves(scene: Scene, mask: Tensor) -> list[list[Tensor]]:
    """Both halves of a mask on either side of its axes, where both are large enough to be objects."""
    pixels = (torch.arange(scene.size).to(mask) + 0.5) * 2 / scene.size - 1
    y, x = torch.meshgrid(-pixels, pixels, indexing="ij")
    mass = mask.sum().clamp(min=1e-6)
    cx, cy = (mask * x).sum() / mass, (mask * y).sum() / mass
    dx, dy = x - cx, y - cy
    xx, yy, xy = ((mask * u * v).sum() / mass for u, v in ((dx, dx), (dy, dy), (dx, dy)))
    angle = 0.5 * torch.atan2(2 * xy, xx - yy)
    found = []
    for turn in (0.0, 0.5 * pi):
        side = dx * torch.cos(angle + turn) + dy * torch.sin(angle + turn)
        halves = [((mask > 0.5) & (side > 0)).numpy(), ((mask > 0.5) & (side <= 0)).numpy()]
        if min(h.sum() for h in halves) < 4:
            continue
        found.append([_half(scene, block_of(scene, half)) for half in halves])
    return found


def _half(scene: Scene, block: Tensor) -> Tensor:
    """A half to start from: a little smaller, since it need not touch the other, its outline plainer."""
    block = block.clone()
    block[2] = scene.arrangement.size_coordinate(0.9 * scene.arrangement.size(block[2]))
    block[3:] *= PLAINER
    return block


def plainer(objects: Listed) -> list[Listed]:
    """One of the objects as large and in the same place, with the outline of code 0."""
    return [
        objects[:i]
        + [(kind, torch.cat([block[:3], torch.zeros_like(block[3:])]))]
        + objects[i + 1 :]
        for i, (kind, block) in enumerate(objects)
    ]


def near(scene: Scene, one: Tensor, other: Tensor) -> bool:
    """Whether two objects are close enough to be one."""
    reach = scene.arrangement.size(one[2]) + scene.arrangement.size(other[2])
    return bool((one[:2] - other[:2]).norm() < 1.5 * reach)


def merged(scene: Scene, objects: Listed, masks: Tensor, i: int, j: int) -> Listed:
    """Objects i and j as one, of the kind of i; a notch of one that the other fills is gone."""
    both = ((masks[i] > 0.5) | (masks[j] > 0.5)).numpy()
    rest = [o for k, o in enumerate(objects) if k not in (i, j)]
    block = block_of(scene, both)
    block[3:] *= PLAINER
    return [*rest, (objects[i][0], block)]


def points_of(scene: Scene, lists: list[Listed]) -> Point:
    """Charts and coordinates of lists of objects."""
    charts, rows = [], []
    for objects in lists:
        ordered = sorted(objects, key=lambda o: o[0])
        counts = tuple(sum(kind == k for kind, _ in objects) for k in range(scene.kinds))
        charts.append(scene.counts.index(counts))
        blocks = [block for _, block in ordered]
        rows.append(
            pad_to(torch.cat(blocks)[None], scene.dim)[0]
            if blocks
            else scene.half_widths.new_zeros(scene.dim)
        )
    z = torch.stack(rows)
    return Point(torch.tensor(charts, device=z.device), z)
