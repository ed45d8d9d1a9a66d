"""How masks change where true outlines lie off the learned manifold."""

from __future__ import annotations

import torch
from torch import Tensor

from onmanifold.prior import Point
from onmanifold.priors.scene.layout import SceneCharts

_AXES = 60  # of an object's displacements; the others have a fiftieth of the variance
_EDGE = 0.1  # of the steepest slope of a mask: pixels that are less steep are no edge


@torch.no_grad()
def displaced_masks(scene: SceneCharts, point: Point, size: float, length: float) -> Tensor:
    """Changes of a scene's images where outlines are displaced at random: a factor of their covariance.

    Every edge moves across itself by a normal random function. Its standard deviation is ``size`` of the
    object's radius, and the correlation of two places at distance r is ``exp(-r^2 / (2 l^2))``, where l is
    ``length`` of the radius.

    Args:
        scene: of C kinds of objects, images of ``S x S`` pixels.
        point: one scene.
        size: in radii of a disk of the object's area.
        length: in the same unit.

    Returns:
        Images ``(K, C, S, S)``, whose products sum to the covariance; none for a scene without objects.

    Example:
        >>> from onmanifold.priors.scene import RadialOutlines, Scene
        >>> scene = Scene(RadialOutlines(3), kinds=2, size=32)
        >>> displaced_masks(scene, scene.points([[(1, scene.new_block())]]), 0.1, 0.3).shape
        torch.Size([60, 2, 32, 32])
    """
    objects = scene.objects(point.z[0], int(point.chart[0]))
    pixels = (torch.arange(scene.size, dtype=torch.float64) + 0.5) * 2 / scene.size - 1
    y, x = torch.meshgrid(-pixels, pixels, indexing="ij")
    changes = [torch.zeros(0, *scene.x_shape[:1], scene.size, scene.size, dtype=torch.float64)]
    for kind, block in objects:
        radius = float(scene.arrangement.size(block[2]))
        mask = scene.masks(block[None])[0].double().cpu()
        slope = torch.hypot(*torch.gradient(mask, spacing=2 / scene.size))
        edge = slope > _EDGE * slope.max()
        places = torch.stack([x[edge], y[edge]], dim=1)
        apart = torch.cdist(places, places) / (length * radius)
        variances, axes = torch.linalg.eigh((-0.5 * apart.square()).exp())
        kept = (variances.clamp(min=0).sqrt() * axes)[:, -_AXES:]
        change = torch.zeros(kept.shape[1], *changes[0].shape[1:], dtype=torch.float64)
        change[:, kind, edge] = size * radius * slope[edge] * kept.T
        changes.append(change)
    return torch.cat(changes).to(point.z)
