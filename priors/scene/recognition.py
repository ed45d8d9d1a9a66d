"""Objects read off a picture: the encoder of scenes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, label, map_coordinates
from torch import Tensor

from onmanifold.priors.scene.placement import REACH

if TYPE_CHECKING:
    from onmanifold.priors.scene.scene import Scene


FINER = 4  # contours are found on so many times as many pixels


def recognize(scene: Scene, x: Tensor, chart: int) -> Tensor:
    """Coordinates ``(B, d)`` of the largest connected regions of each kind, largest first.

    Missing ones become small disks in the middle.
    """
    rows = []
    for regions in regions_of(x):
        blocks = []
        for count, own in zip(scene.counts[chart], regions, strict=True):
            blocks += [block_of(scene, region) for region in own[:count]]
            blocks += [_small(scene)] * (count - len(own[:count]))
        rows.append(torch.cat(blocks) if blocks else torch.zeros(0))
    return torch.stack(rows).to(x)


def regions_of(x: Tensor) -> list[list[list[np.ndarray]]]:
    """Of each picture and kind the connected regions, largest first, on a finer grid."""
    fine = torch.nn.functional.interpolate(
        x.detach().cpu().double(), scale_factor=FINER, mode="bilinear"
    )
    return [[components(mask) for mask in picture] for picture in (fine > 0.5).numpy()]


def chart_of(scene: Scene, x: Tensor) -> Tensor:
    """The chart with as many objects of each kind as there are regions, ``(B,)``; at most as many as fit."""
    charts = []
    for regions in regions_of(x):
        sized = [(int(r.sum()), kind) for kind, own in enumerate(regions) for r in own]
        kept = sorted(sized, reverse=True)[: scene.most]
        counts = tuple(sum(k == kind for _, k in kept) for kind in range(scene.kinds))
        charts.append(scene.counts.index(counts))
    return torch.tensor(charts, device=x.device)


def components(mask: np.ndarray) -> list[np.ndarray]:
    """The connected regions of a mask, largest first."""
    numbered, count = label(mask)
    regions = [numbered == k + 1 for k in range(count)]
    return sorted(regions, key=lambda region: -int(region.sum()))


def block_of(scene: Scene, region: np.ndarray) -> Tensor:
    """Centre, size coordinate and code of one region of a picture, ``(3 + d,)``."""
    size = len(region)
    pixel = 2 / size
    row, column = np.nonzero(region)
    centre = np.array([(column.mean() + 0.5) * pixel - 1, 1 - (row.mean() + 0.5) * pixel])
    radius = max(np.sqrt(len(row) / np.pi) * pixel, 0.5 * pixel)
    distance = distance_transform_edt(region) - distance_transform_edt(~region)
    distance = (distance - 0.5 * np.sign(distance)) * pixel
    side = scene.outlines.x_shape[-1]
    around = ((np.arange(side) + 0.5) * (2 * REACH / side) - REACH) * radius
    rows = (1 - (centre[1] - around)) / pixel - 0.5
    columns = (centre[0] + around + 1) / pixel - 0.5
    places = np.stack(np.meshgrid(rows, columns, indexing="ij"))
    level = map_coordinates(distance, places, order=1, mode="nearest") / radius
    picture = torch.from_numpy(np.tanh(level)).to(scene.half_widths)[None, None]
    with torch.no_grad():
        code = scene.outlines.encode_chart(picture, 0)[0]
    t = scene.arrangement.size_coordinate(torch.tensor([radius]))
    block = torch.cat([torch.from_numpy(centre).to(code), t.to(code), code])
    widths = scene.half_widths[: scene.block]
    return torch.clamp(block, -widths, widths)


def _small(scene: Scene) -> Tensor:
    block = scene.half_widths.new_zeros(scene.block)
    block[2] = -3.0
    return block
