"""Jumps from one list of objects to others.

Birth, death, split, merge, change of kind. A descent may also end in outlines that make up for an object
that is in the wrong place: so two neighbours are divided anew, and an outline is reset to code 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi

import torch
from torch import Tensor

from onmanifold.priors.scene.layout import Objects, SceneCharts

NEWBORN = 0.14  # radius of a new object, in radii of the scene
SPACING = 0.2  # of the places where new ones are tried
SHRINKAGE = 0.6  # share of the code that objects keep which were cut or joined


def jumps(scene: SceneCharts, z: Tensor, chart: int) -> dict[str, list[Objects]]:
    """Other lists of objects to descend from, by the move that makes them."""
    objects = scene.objects(z, chart)
    masks = masks_of(scene, objects)
    found = {f"birth {k}": births(scene, objects, masks, k) for k in range(scene.kinds)}
    found["death"] = [without(objects, i) for i in range(len(objects))]
    found |= regroupings(scene, objects, masks)
    found["plain"] = plain(objects)
    found["kind"] = [
        replaced(objects, i, (k, block))
        for i, (kind, block) in enumerate(objects)
        for k in range(scene.kinds)
        if k != kind
    ]
    return {move: [o for o in lists if len(o) <= scene.most] for move, lists in found.items()}


def masks_of(scene: SceneCharts, objects: Objects) -> Tensor:
    """Of each object, ``(n, size, size)``."""
    if not objects:
        return scene.new_block().new_zeros(0, scene.size, scene.size)
    return scene.masks(torch.stack([block for _, block in objects]))


def without(objects: Objects, *dropped: int) -> Objects:
    """The list without some of its objects."""
    return [o for i, o in enumerate(objects) if i not in dropped]


def replaced(objects: Objects, i: int, *others: tuple[int, Tensor]) -> Objects:
    """The list with other objects in the place of object i."""
    return [*objects[:i], *others, *objects[i + 1 :]]


# The same regions as other objects ----------------------------------------------------------------


def regroupings(scene: SceneCharts, objects: Objects, masks: Tensor) -> dict[str, list[Objects]]:
    """One object cut in two, two as one, two neighbours divided anew."""
    pairs = neighbours(scene, objects)
    alike = [(i, j) for i, j in pairs if i > j and objects[i][0] == objects[j][0]]
    return {
        "split": cuts(scene, objects, masks, [(i,) for i in range(len(objects))]),
        "merge": merges(scene, objects, masks, pairs),
        "divide": cuts(scene, objects, masks, alike),
    }


def neighbours(scene: SceneCharts, objects: Objects) -> list[tuple[int, int]]:
    """Ordered pairs of objects that are close enough to be one."""
    size = scene.arrangement.size

    def near(one: Tensor, other: Tensor) -> bool:
        reach = size(one[2]) + size(other[2])
        return bool((one[:2] - other[:2]).norm() < 1.5 * reach)

    some = range(len(objects))
    return [(i, j) for i in some for j in some if i != j and near(objects[i][1], objects[j][1])]


def merges(
    scene: SceneCharts, objects: Objects, masks: Tensor, pairs: list[tuple[int, int]]
) -> list[Objects]:
    """Two as one, of the kind of the first; a notch of one that the other fills is gone.

    Either way round where kinds differ.
    """
    found = []
    for i, j in pairs:
        kind = objects[i][0]
        if j > i and kind == objects[j][0]:
            continue
        block = scene.fit(((masks[i] > 0.5) | (masks[j] > 0.5)).cpu().numpy())
        block[3:] *= SHRINKAGE
        found.append([*without(objects, i, j), (kind, block)])
    return found


def cuts(
    scene: SceneCharts, objects: Objects, masks: Tensor, groups: Sequence[tuple[int, ...]]
) -> list[Objects]:
    """An object, or two of a kind joined, cut in two along the longer and along the shorter axis."""
    found = []
    for group in groups:
        kind = objects[group[0]][0]
        for pair in halves(scene, masks[list(group)].amax(0)):
            found.append([*without(objects, *group), *((kind, block) for block in pair)])
    return found


def halves(scene: SceneCharts, mask: Tensor) -> list[list[Tensor]]:
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
        regions = [((mask > 0.5) & part).cpu().numpy() for part in (side > 0, side <= 0)]
        if min(region.sum() for region in regions) >= 4:
            found.append([_shrunk(scene, scene.fit(region)) for region in regions])
    return found


def _shrunk(scene: SceneCharts, block: Tensor) -> Tensor:
    """A half to start from: a little smaller, since it need not touch the other; its outline is plainer."""
    block = block.clone()
    block[2] = scene.arrangement.size_coordinate(0.9 * scene.arrangement.size(block[2]))
    block[3:] *= SHRINKAGE
    return block


# One object more, one outline reset ---------------------------------------------------------------


def births(scene: SceneCharts, objects: Objects, masks: Tensor, kind: int) -> list[Objects]:
    """A small disk of a kind wherever there is room for it."""
    taken = masks.amax(0) if len(masks) else masks.new_zeros(masks.shape[1:])
    size = scene.arrangement.size_coordinate(taken.new_tensor(NEWBORN))
    found = []
    for x, y in places():
        row, column = int((1 - y) / 2 * scene.size), int((1 + x) / 2 * scene.size)
        if taken[row, column] < 0.5:
            found.append([*objects, (kind, scene.new_block(x, y, size))])
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


def plain(objects: Objects) -> list[Objects]:
    """One of the objects as large and in the same place, with the outline of code 0."""
    return [
        replaced(objects, i, (kind, torch.cat([block[:3], torch.zeros_like(block[3:])])))
        for i, (kind, block) in enumerate(objects)
    ]
