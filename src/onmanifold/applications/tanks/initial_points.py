"""Where descents over scenes start: objects of one linear step, and single objects anywhere."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from scipy.ndimage import label
from torch import Tensor

from onmanifold import Fidelity
from onmanifold.operator import ForwardOperator, linearize
from onmanifold.operators.eit.one_step import one_step
from onmanifold.posterior import ray_reductions
from onmanifold.prior import ManifoldPrior, Point
from onmanifold.priors.nuisance import NuisanceParameters
from onmanifold.priors.scene import scene_of

_SIGNIFICANT = 3.0  # standard deviations above which a pixel may belong to an object
_SINGLE = 12  # single objects that compete, of all places
_THRESHOLDS = (0.2, 0.35, 0.5, 0.7)  # of the extreme values: pixels above belong to an object


def initial_points(
    operator: ForwardOperator, y: Tensor, fidelity: Fidelity, prior: NuisanceParameters
) -> Point:
    """Objects that a linear step shows, and single objects where it promises most.

    Args:
        operator: masks of resistive and conductive objects and the drift, ``(3, H, W)``, to voltages.
        y: the measured voltages, V, ``(*y_shape,)``.
        fidelity: what their residual costs.
        prior: of scenes of two kinds, with the drift as a nuisance parameter.
    """
    single = single_objects(prior)
    away = prior.decode(single)  # from water
    at = linearize(operator, torch.zeros_like(away[:1]))
    gain = ray_reductions(at, fidelity.bind(y[None]), y[None], away)
    best = single.select(gain.argsort(descending=True, stable=True)[:_SINGLE])
    return Point.cat([linear_objects(operator, y, fidelity, prior), best])


def linear_objects(
    operator: ForwardOperator, y: Tensor, fidelity: Fidelity, prior: NuisanceParameters
) -> Point:
    """Scenes of the regions above several thresholds of the linear image.

    And simpler ones of the largest regions alone, since the linear image shows artefacts, too. It is that
    of the conductive channel; where it is negative, objects are resistive.
    """
    linear = one_step(operator, y[None], fidelity, channel=1)
    mean, std = linear.mean[0, 1], linear.std[0, 1]
    shown = torch.stack([-mean, mean])
    shown = torch.where(shown > _SIGNIFICANT * std, shown, 0.0)
    peak = shown.amax((1, 2)).clamp(min=1e-12)
    masks = []
    for shares in product(_THRESHOLDS, _THRESHOLDS):
        both = torch.stack([shown[k] > share * peak[k] for k, share in enumerate(shares)])
        masks += [both, *_simpler(both)]
    x = torch.stack(masks).unique(dim=0).to(prior.dtype)
    return prior.extend(scene_of(prior).segment(x))


def _simpler(masks: Tensor) -> list[Tensor]:
    """The largest region of each kind alone, of the first, of the second: ``(2, H, W)`` each."""
    largest = torch.zeros_like(masks)
    for k, mask in enumerate(masks.numpy()):
        regions, count = label(mask)
        if count:
            sizes = np.bincount(regions.ravel())[1:]
            largest[k] = torch.from_numpy(regions == 1 + int(sizes.argmax()))
    none = torch.zeros_like(masks[0])
    return [largest, torch.stack([largest[0], none]), torch.stack([none, largest[1]])]


def single_objects(prior: ManifoldPrior) -> Point:
    """Scenes of one small disk, anywhere: a single object may be where a linear step shows none."""
    empty = Point(torch.zeros(1, dtype=torch.long), torch.zeros(1, prior.dim, dtype=prior.dtype))
    births = prior.jumps(empty).values()  # type: ignore[operator]
    return Point.cat([points for points in births if len(points)])
