"""Closed polygons in the plane, many at once: area, centroid, signed distance.

A batch holds its corners in order, ``(n, K, 2)``. Polygons with fewer corners repeat one of them.
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

PART = 500_000  # distances that are computed at once: they stay in the cache


def area(corners: Tensor) -> Tensor:
    """Areas of polygons ``(n, K, 2)``, ``(n,)``: positive where the corners run counterclockwise.

    Example:
        >>> area(torch.tensor([[[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [0.0, 1.0]]]))
        tensor([2.])
    """
    return _cross(corners, corners.roll(-1, dims=1)).sum(dim=1) / 2


def centroid(corners: Tensor) -> Tensor:
    """Centres of mass of polygons ``(n, K, 2)``, ``(n, 2)``.

    Example:
        >>> centroid(torch.tensor([[[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [0.0, 1.0]]]))
        tensor([[1.0000, 0.5000]])
    """
    following = corners.roll(-1, dims=1)
    weight = _cross(corners, following)[:, :, None]
    return ((corners + following) * weight).sum(dim=1) / (3 * weight.sum(dim=1))


def normalized(corners: Tensor) -> Tensor:
    """The same shapes ``(n, K, 2)`` with area pi and the centroid at the origin."""
    scale = (pi / area(corners).abs()).sqrt()
    return (corners - centroid(corners)[:, None]) * scale[:, None, None]


def turned(corners: Tensor, angle: Tensor) -> Tensor:
    """Polygons ``(n, K, 2)`` turned counterclockwise about the origin by angles ``(n,)`` in radians."""
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    x, y = corners.unbind(dim=2)
    return torch.stack([cos * x - sin * y, sin * x + cos * y], dim=2)


def signed_distance(corners: Tensor, points: Tensor) -> Tensor:
    """Exact Euclidean distance of points ``(m, 2)`` to the polygons' sides, positive inside: ``(n, m)``.

    Args:
        corners: simple polygons ``(n, K, 2)``, in either direction.
        points: where, the same for all polygons.

    Example:
        >>> square = torch.tensor([[[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]])
        >>> signed_distance(square, torch.tensor([[0.0, 0.5], [4.0, 5.0]]))
        tensor([[ 0.5000, -5.0000]])
    """
    size = max(1, PART // (corners.shape[1] * len(points)))
    return torch.cat([_signed_distance(part, points) for part in corners.split(size)])


def _signed_distance(corners: Tensor, points: Tensor) -> Tensor:
    side = corners.roll(-1, dims=1) - corners
    length = side.norm(dim=2)
    unit = side / length[:, :, None]
    unit = torch.where(
        length[:, :, None] > 0, unit, unit.new_tensor([1.0, 0.0])
    )  # a corner repeated
    normal = torch.stack([-unit[..., 1], unit[..., 0]], dim=2)
    along = unit @ points.T - (unit * corners).sum(dim=2, keepdim=True)  # (n, K, m)
    left = normal @ points.T - (normal * corners).sum(dim=2, keepdim=True)
    beyond = along - along.clamp(min=0).minimum(length[:, :, None])
    distance = (left.square() + beyond.square()).amin(dim=1).sqrt()
    # Inside, a ray to the right passes an odd number of sides.
    above = corners[:, :, 1, None] > points[:, 1]
    up = above.roll(-1, dims=1) & ~above
    down = above & ~above.roll(-1, dims=1)
    passed = (up & (left > 0)) | (down & (left < 0))
    inside = passed.sum(dim=1) % 2 == 1
    return torch.where(inside, distance, -distance)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
