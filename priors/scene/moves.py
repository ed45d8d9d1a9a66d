"""Jumps from one list of objects to others.

Birth, death, split, merge, change of kind. A descent may also end in outlines that make up for an object
that is in the wrong place: so two neighbours are divided anew, and an outline is reset to code 0.
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from onmanifold.priors.scene.layout import Layout, Objects

NEWBORN = 0.14  # radius of a new object, in radii of the scene
SPACING = 0.2  # of the places where new ones are tried
SHRINKAGE = 0.6  # share of the code that objects keep which were cut or joined


def jumps(layout: Layout, z: Tensor, chart: int) -> dict[str, list[Objects]]:
    """Other lists of objects to descend from, by the move that makes them."""
    objects = layout.objects(z, chart)
    masks = masks_of(layout, objects)
    found = {f"birth {k}": births(layout, objects, masks, k) for k in range(layout.kinds)}
    found["death"] = [without(objects, i) for i in range(len(objects))]
    found |= regroupings(layout, objects, masks)
    found["plain"] = plain(objects)
    found["kind"] = [
        replaced(objects, i, (k, block))
        for i, (kind, block) in enumerate(objects)
        for k in range(layout.kinds)
        if k != kind
    ]
    return {move: [o for o in lists if len(o) <= layout.most] for move, lists in found.items()}


def masks_of(layout: Layout, objects: Objects) -> Tensor:
    """Of each object, ``(n, size, size)``."""
    if not objects:
        return layout.new_block().new_zeros(0, layout.size, layout.size)
    return layout.masks(torch.stack([block for _, block in objects]))


def without(objects: Objects, *dropped: int) -> Objects:
    """The list without some of its objects."""
    return [o for i, o in enumerate(objects) if i not in dropped]


def replaced(objects: Objects, i: int, *others: tuple[int, Tensor]) -> Objects:
    """The list with other objects in the place of object i."""
    return [*objects[:i], *others, *objects[i + 1 :]]


# The same regions as other objects ----------------------------------------------------------------


def regroupings(layout: Layout, objects: Objects, masks: Tensor) -> dict[str, list[Objects]]:
    """One object cut in two, two as one, two neighbours divided anew."""
    pairs = neighbours(layout, objects)
    return {
        "split": [one for i in range(len(objects)) for one in splits(layout, objects, masks, i)],
        "merge": merges(layout, objects, masks, pairs),
        "divide": divisions(layout, objects, masks, pairs),
    }


def neighbours(layout: Layout, objects: Objects) -> list[tuple[int, int]]:
    """Ordered pairs of objects that are close enough to be one."""
    size = layout.arrangement.size

    def near(one: Tensor, other: Tensor) -> bool:
        reach = size(one[2]) + size(other[2])
        return bool((one[:2] - other[:2]).norm() < 1.5 * reach)

    some = range(len(objects))
    return [(i, j) for i in some for j in some if i != j and near(objects[i][1], objects[j][1])]


def splits(layout: Layout, objects: Objects, masks: Tensor, i: int) -> list[Objects]:
    """Object i cut into two halves, along its longer and its shorter axis."""
    kind = objects[i][0]
    pairs = halves(layout, masks[i])
    return [replaced(objects, i, *((kind, block) for block in pair)) for pair in pairs]


def merges(
    layout: Layout, objects: Objects, masks: Tensor, pairs: list[tuple[int, int]]
) -> list[Objects]:
    """Two as one, of the kind of the first; a notch of one that the other fills is gone.

    Either way round where kinds differ.
    """
    found = []
    for i, j in pairs:
        kind = objects[i][0]
        if j > i and kind == objects[j][0]:
            continue
        block = layout.fit(((masks[i] > 0.5) | (masks[j] > 0.5)).cpu().numpy())
        block[3:] *= SHRINKAGE
        found.append([*without(objects, i, j), (kind, block)])
    return found


def divisions(
    layout: Layout, objects: Objects, masks: Tensor, pairs: list[tuple[int, int]]
) -> list[Objects]:
    """Two of a kind joined, and cut into two halves as one is."""
    found = []
    for i, j in pairs:
        kind = objects[i][0]
        if j > i or kind != objects[j][0]:
            continue
        for pair in halves(layout, torch.maximum(masks[i], masks[j])):
            found.append([*without(objects, i, j), *((kind, block) for block in pair)])
    return found


def halves(layout: Layout, mask: Tensor) -> list[list[Tensor]]:
    """Both halves of a mask on either side of its axes, where both are large enough to be objects."""
    pixels = (torch.arange(layout.size).to(mask) + 0.5) * 2 / layout.size - 1
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
            found.append([_shrunk(layout, layout.fit(region)) for region in regions])
    return found


def _shrunk(layout: Layout, block: Tensor) -> Tensor:
    """A half to start from: a little smaller, since it need not touch the other; its outline is plainer."""
    block = block.clone()
    block[2] = layout.arrangement.size_coordinate(0.9 * layout.arrangement.size(block[2]))
    block[3:] *= SHRINKAGE
    return block


# One object more, one outline reset ---------------------------------------------------------------


def births(layout: Layout, objects: Objects, masks: Tensor, kind: int) -> list[Objects]:
    """A small disk of a kind wherever there is room for it."""
    taken = masks.amax(0) if len(masks) else masks.new_zeros(masks.shape[1:])
    size = layout.arrangement.size_coordinate(taken.new_tensor(NEWBORN))
    found = []
    for x, y in places():
        row, column = int((1 - y) / 2 * layout.size), int((1 + x) / 2 * layout.size)
        if taken[row, column] < 0.5:
            found.append([*objects, (kind, layout.new_block(x, y, size))])
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
