"""The scene nearest to a picture, where reading its regions does not find the objects: those that touch are
read as one, those that another one crosses as two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, label
from torch import Tensor

from onmanifold.geometry import nearest
from onmanifold.prior import Point
from onmanifold.priors.scene.moves import Listed, listed, masks_of, plainer, points_of, regroupings
from onmanifold.priors.scene.recognition import block_of

if TYPE_CHECKING:
    from onmanifold.priors.scene.scene import Scene

EXPLAINED = 0.1  # of a picture's norm: who misses less has the right objects
GAIN = 0.7  # of what is missed a regrouping has to leave less; better outlines leave more
TRIED, KEPT = 10, 30  # steps towards the picture, of every regrouping and of the one that is kept


def miss(scene: Scene, point: Point, x: Tensor) -> Tensor:
    """Distance of the points' pictures to ``x`` ``(B, C, size, size)``, over the norm of that: ``(B,)``."""
    apart = (scene.decode(point) - x).flatten(1).norm(dim=1)
    share: Tensor = apart / x.flatten(1).norm(dim=1).clamp(min=torch.finfo(x.dtype).tiny)
    return share


def regrouped(scene: Scene, point: Point, x: Tensor) -> Point:
    """Points ``(B)`` near pictures ``x`` ``(B, C, size, size)``; of those too far away, objects regrouped."""
    unexplained = (miss(scene, point, x) > EXPLAINED).nonzero().squeeze(1)
    chart, z = point.chart.clone(), point.z.clone()
    for i in unexplained:
        found = _regrouped(scene, point.select(i[None]), x[i][None])
        chart[i], z[i] = found.chart[0], found.z[0]
    return Point(chart, z)


def _regrouped(scene: Scene, point: Point, x: Tensor) -> Point:
    """One point, its objects regrouped as long as that brings it much nearer to ``x`` ``(1, C, S, S)``."""
    far = float(miss(scene, point, x))
    while far > EXPLAINED and (lists := _regroupings(scene, point, x[0])):
        tried = points_of(scene, lists)
        pictures = x.expand(len(tried), *x.shape[1:])
        tried = nearest(scene, tried, pictures, TRIED)
        best = miss(scene, tried, pictures).argmin()
        kept = nearest(scene, tried.select(best[None]), x, KEPT)
        left = float(miss(scene, kept, x))
        if left > GAIN * far:
            break
        point, far = kept, left
    return point


def _regroupings(scene: Scene, point: Point, x: Tensor) -> list[Listed]:
    z, chart = point.z[0], int(point.chart[0])
    objects = listed(scene, z, chart)
    masks = masks_of(scene, z, chart)
    lists = [
        plainer(objects),
        *regroupings(scene, objects, masks).values(),
        cut_at_necks(scene, objects, masks, x),
    ]
    return [other for some in lists for other in some if len(other) <= scene.most]


def cut_at_necks(scene: Scene, objects: Listed, masks: Tensor, x: Tensor) -> list[Listed]:
    """What each object has of a picture ``(C, S, S)``, cut where it falls apart when it is worn away."""
    found = []
    for i, (kind, _) in enumerate(objects):
        alike = [other for other, (k, _) in enumerate(objects) if k == kind]
        own = (x[kind] > 0.5) & (masks[i] >= masks[alike].amax(0))
        parts = [(kind, block_of(scene, part)) for part in parted(own.cpu().numpy())]
        if parts:
            found.append(objects[:i] + parts + objects[i + 1 :])
    return found


def parted(region: np.ndarray) -> list[np.ndarray]:
    """The parts of a region on either side of its narrowest necks; none where it has no neck."""
    depth = distance_transform_edt(region)
    for worn in np.unique(depth)[1:-1]:
        numbered, count = label(depth > worn)
        if count > 1 and np.bincount(numbered.ravel())[1:].min() >= 4:
            row, column = distance_transform_edt(
                numbered == 0, return_distances=False, return_indices=True
            )
            nearer = numbered[row, column]
            return [region & (nearer == k) for k in range(1, count + 1)]
    return []
