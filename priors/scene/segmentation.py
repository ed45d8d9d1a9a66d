"""Objects read off an image: the connected regions of each kind's mask."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import label
from torch import Tensor

from onmanifold.priors.scene.layout import Layout

FINER = 4  # contours are found on so many times as many pixels
_SMALLEST = -3.0  # size coordinate of an object that the image does not show


def segment(layout: Layout, x: Tensor, chart: int) -> Tensor:
    """Coordinates ``(B, d_k)`` of the largest connected regions of each kind, largest first.

    Missing ones become small disks in the middle.
    """
    missing = layout.new_block(t=_SMALLEST)
    rows = []
    for regions in regions_of(x):
        blocks = [missing[:0]]
        for count, own in zip(layout.counts[chart], regions, strict=True):
            blocks += [layout.fit(region) for region in own[:count]]
            blocks += [missing] * (count - len(own[:count]))
        rows.append(torch.cat(blocks))
    return torch.stack(rows).to(x)


def chart_of(layout: Layout, x: Tensor) -> Tensor:
    """The chart with as many objects of each kind as there are regions, ``(B,)``; at most as many as fit."""
    charts = []
    for regions in regions_of(x):
        sized = [(int(r.sum()), kind) for kind, own in enumerate(regions) for r in own]
        kept = sorted(sized, reverse=True)[: layout.most]
        charts.append(
            layout.chart([sum(k == kind for _, k in kept) for kind in range(layout.kinds)])
        )
    return torch.tensor(charts, device=x.device)


def regions_of(x: Tensor) -> list[list[list[np.ndarray]]]:
    """Of each image and kind the connected regions, largest first, on a finer grid."""
    fine = torch.nn.functional.interpolate(
        x.detach().cpu().double(), scale_factor=FINER, mode="bilinear"
    )
    return [[connected(mask) for mask in image] for image in (fine > 0.5).numpy()]


def connected(mask: np.ndarray) -> list[np.ndarray]:
    """The connected regions of a mask, largest first."""
    numbered, count = label(mask)
    regions = [numbered == k + 1 for k in range(count)]
    return sorted(regions, key=lambda region: -int(region.sum()))
