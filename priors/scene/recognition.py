"""Scenes recognized in images: their regions as objects, and other objects for the same regions.

Objects that touch are one region; an object that another one crosses is two.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, label
from torch import Tensor

from onmanifold.geometry import nearest
from onmanifold.prior import ManifoldPrior, Point
from onmanifold.priors.scene.layout import Objects, SceneCharts
from onmanifold.priors.scene.moves import masks_of, plain, regroupings, replaced

FINER = 4  # contours are found on so many times as many pixels
_SMALLEST = -3.0  # size coordinate of an object that the image does not show
ACCEPTED = 0.1  # relative residual below which the objects are the right ones
REDUCTION = 0.7  # of the residual that a regrouping has to reach; better outlines reach more
TRIED, KEPT = 10, 30  # steps towards the image, of every regrouping and of the one that is kept


def segment(scene: SceneCharts, x: Tensor, chart: int) -> Tensor:
    """Coordinates ``(B, d_k)`` of the largest connected regions of each kind, largest first.

    Missing ones become small disks in the middle.
    """
    missing = scene.new_block(t=_SMALLEST)
    rows = []
    for regions in regions_of(x):
        blocks = [missing[:0]]
        for count, own in zip(scene.counts[chart], regions, strict=True):
            blocks += [scene.fit(region) for region in own[:count]]
            blocks += [missing] * (count - len(own[:count]))
        rows.append(torch.cat(blocks))
    return torch.stack(rows).to(x)


def objects_in(scene: SceneCharts, x: Tensor) -> list[Objects]:
    """The regions of each image as objects, the largest first; at most as many as fit."""
    found = []
    known: dict[bytes, Tensor] = {}  # images often share regions, as thresholds of one image do
    for regions in regions_of(x):
        every = [(kind, region) for kind, own in enumerate(regions) for region in own]
        every.sort(key=lambda one: (int(one[1].sum()), one[0]), reverse=True)
        objects = []
        for kind, region in every[: scene.most]:
            key = np.packbits(region).tobytes()
            if key not in known:
                known[key] = scene.fit(region)
            objects.append((kind, known[key]))
        found.append(objects)
    return found


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


# Objects regrouped ---------------------------------------------------------------------------------


def relative_residual(prior: ManifoldPrior, point: Point, x: Tensor) -> Tensor:
    """Distance of the points' images to ``x`` ``(B, C, size, size)``, over the norm of that: ``(B,)``."""
    apart = (prior.decode(point) - x).flatten(1).norm(dim=1)
    relative: Tensor = apart / x.flatten(1).norm(dim=1).clamp(min=torch.finfo(x.dtype).tiny)
    return relative


def regrouped(scene: SceneCharts, point: Point, x: Tensor) -> Point:
    """Points ``(B)`` near images ``x`` ``(B, C, size, size)``; of those too far away, objects regrouped."""
    far = (relative_residual(scene, point, x) > ACCEPTED).nonzero().squeeze(1)
    chart, z = point.chart.clone(), point.z.clone()
    for i in far:
        found = _regrouped(scene, point.select(i[None]), x[i][None])
        chart[i], z[i] = found.chart[0], found.z[0]
    return Point(chart, z)


def _regrouped(scene: SceneCharts, point: Point, x: Tensor) -> Point:
    """One point, its objects regrouped as long as that brings it much nearer to ``x`` ``(1, C, S, S)``."""
    residual = float(relative_residual(scene, point, x))
    while residual > ACCEPTED and (lists := _candidates(scene, point, x[0])):
        tried = scene.points(lists)
        images = x.expand(len(tried), *x.shape[1:])
        tried = nearest(scene, tried, images, TRIED)
        best = relative_residual(scene, tried, images).argmin()
        kept = nearest(scene, tried.select(best[None]), x, KEPT)
        left = float(relative_residual(scene, kept, x))
        if left > REDUCTION * residual:
            break
        point, residual = kept, left
    return point


def _candidates(scene: SceneCharts, point: Point, x: Tensor) -> list[Objects]:
    objects = scene.objects(point.z[0], int(point.chart[0]))
    masks = masks_of(scene, objects)
    lists = [
        plain(objects),
        *regroupings(scene, objects, masks).values(),
        cut_at_necks(scene, objects, masks, x),
    ]
    return [other for some in lists for other in some if len(other) <= scene.most]


def cut_at_necks(scene: SceneCharts, objects: Objects, masks: Tensor, x: Tensor) -> list[Objects]:
    """Each object's share of an image ``(C, S, S)``, cut where erosion parts it."""
    found = []
    for i, (kind, _) in enumerate(objects):
        alike = [other for other, (k, _) in enumerate(objects) if k == kind]
        own = (x[kind] > 0.5) & (masks[i] >= masks[alike].amax(0))
        parts = [(kind, scene.fit(part)) for part in split_at_necks(own.cpu().numpy())]
        if parts:
            found.append(replaced(objects, i, *parts))
    return found


def split_at_necks(region: np.ndarray) -> list[np.ndarray]:
    """The parts of a region on either side of its narrowest necks; none where it has no neck."""
    depth = distance_transform_edt(region)
    for eroded in np.unique(depth)[1:-1]:
        numbered, count = label(depth > eroded)
        if count > 1 and np.bincount(numbered.ravel())[1:].min() >= 4:
            row, column = distance_transform_edt(
                numbered == 0, return_distances=False, return_indices=True
            )
            nearer = numbered[row, column]
            return [region & (nearer == k) for k in range(1, count + 1)]
    return []
