"""Where descents over scenes start: objects of one linear step, and single objects anywhere."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import label
from scipy.sparse.linalg import eigsh
from scipy.spatial.distance import cdist
from torch import Tensor

from onmanifold import Fidelity
from onmanifold.operator import ForwardOperator, linearize
from onmanifold.posterior import linear_posterior, ray_reductions
from onmanifold.prior import ManifoldPrior, Point
from onmanifold.priors.nuisance import NuisanceParameters
from onmanifold.priors.scene import scene_of

_MODES = 200  # of the smoothness prior; the others have less than 1e-6 of the first one's variance
_MODE_SIZE = 32  # pixels along each side of the points that modes are computed at
_LENGTH = 1 / np.sqrt(2 * np.log(100))  # radii: correlations fall to 0.01 at a distance of one
_SIGNIFICANT = 3.0  # standard deviations above which a pixel may belong to an object
_SINGLE = 12  # single objects that compete, of all places
_THRESHOLDS = (0.2, 0.35, 0.5, 0.7)  # of the extreme values: pixels above belong to an object


def linear_image(
    operator: ForwardOperator, y: Tensor, fidelity: Fidelity, channel: int = 0
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of one channel of the image, by one linear step from water.

    The smoothness prior is normal, its covariance that of :func:`smooth_modes`, its scale the most likely
    one (:func:`onmanifold.posterior.linear_posterior`).

    Args:
        operator: images to voltages; 0 is water.
        y: the measured voltages, V, ``(*y_shape,)``.
        fidelity: what their residual costs.
        channel: of the image; the others stay 0.

    Returns:
        Two images ``(size, size)``, 0 outside of the tank.
    """
    modes = y.new_zeros(_MODES, *operator.x_shape)
    modes[:, channel] = smooth_modes(operator.x_shape[-1]).to(y)
    found = linear_posterior(operator, y[None], fidelity, modes)
    return found.mean[0, channel], found.std[0, channel]


@cache
def smooth_modes(size: int) -> Tensor:
    """Modes of a normal prior of unit variance on the pixels of the unit disk, ``(200, size, size)``."""
    points, shown = _disk(_MODE_SIZE)[0], _disk(size)
    values, vectors = eigsh(_covariance(points, points), _MODES, v0=np.ones(len(points)))
    modes = np.zeros((_MODES, size, size))
    # between the points a mode follows from its own equation (Nystroem)
    modes[:, shown[1]] = (_covariance(shown[0], points) @ (vectors / np.sqrt(values))).T
    return torch.from_numpy(modes)


def _disk(size: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The pixels of the unit disk: their places ``(P, 2)``, and which they are, ``(size, size)``."""
    centre = (np.arange(size) + 0.5) * 2 / size - 1
    x, y = np.meshgrid(centre, -centre)
    inside = np.hypot(x, y) <= 1
    return np.stack([x[inside], y[inside]], axis=1), inside


def _covariance(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.exp(-cdist(a, b, "sqeuclidean") / (2 * _LENGTH**2)))


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
    mean, std = linear_image(operator, y, fidelity, channel=1)
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
