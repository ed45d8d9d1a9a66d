"""One linear step from water, and the objects that it hints at."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import label
from scipy.optimize import minimize_scalar
from scipy.sparse.linalg import eigsh
from torch import Tensor
from torch.nn.functional import interpolate

from onmanifold import Fidelity
from onmanifold.operators.eit import EIT
from onmanifold.prior import Point, pad_to
from onmanifold.priors.parameters import WithParameters
from onmanifold.priors.scene import Scene

MODES = 200  # of the smoothness prior; the rest has a millionth of the first one's variance or less
MODE_SIZE = 64  # pixels along each side on which modes are computed
LENGTH = 1 / np.sqrt(2 * np.log(100))  # radii: correlations fall to 0.01 at a distance of one
SPREAD = (1e-3, 10.0)  # standard deviation of a picture's values, where it is looked for
# shares of the extreme values above which pixels are taken for objects
SIGNIFICANT = 3.0  # standard deviations


def linear_step(
    operator: EIT, y: Tensor, fidelity: Fidelity, channel: int = 0
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of one channel of the picture, ``(size, size)``, 0 outside of the tank.

    With the modes L of a smoothness prior, ``x = L c``, and ``c`` normal of variance s, the objective is
    quadratic: ``c`` has the precision ``H + 1 / s``, H the curvature of the linearized data term. How far
    values spread is the s under which the voltages are likeliest.

    Args:
        operator: voltages of pictures; 0 is water.
        y: the measured ones, V, ``(*y_shape,)``.
        fidelity: what their residual costs.
        channel: of the picture, the others stay 0.
    """
    modes = smooth_modes(operator.x_shape[-1]).to(y)
    water = torch.zeros(1, *operator.x_shape, dtype=y.dtype)
    tangents = torch.zeros(1, MODES, *operator.x_shape, dtype=y.dtype)
    tangents[0, :, channel] = modes
    at, target = operator.linearize(water), y[None]
    fidelity = fidelity.bind(target)
    columns = at.jvp(tangents)
    bent = fidelity.curvature(at.y, target, columns)[0].flatten(1).double()
    rows = columns[0].flatten(1).double()
    curvature = rows @ bent.T
    pull = -rows @ fidelity.gradient(at.y, target).flatten().double()
    values, vectors = torch.linalg.eigh((curvature + curvature.T) / 2)
    values, pull = values.clamp(min=0), vectors.T @ pull
    s = likeliest_variance(values.numpy(), pull.numpy())
    shrunk = s / (1 + s * values)
    shown = torch.einsum("kij,km->mij", modes.double(), vectors)
    mean = torch.einsum("m,mij->ij", shrunk * pull, shown)
    return mean, torch.einsum("m,mij->ij", shrunk, shown.square()).sqrt()


def likeliest_variance(curvature: NDArray[np.float64], pull: NDArray[np.float64]) -> float:
    """The prior's variance s under which the data are likeliest.

    Args:
        curvature: eigenvalues h of the data term's.
        pull: its negative gradient b along their vectors. The logarithm of the data's density is, up to a
            constant, ``sum (s b^2 / (1 + s h) - log(1 + s h)) / 2``.
    """

    def cost(log_s: float) -> float:
        gain = 1 + np.exp(log_s) * curvature
        return float((np.log(gain) - np.exp(log_s) * pull**2 / gain).sum())

    found = minimize_scalar(cost, bounds=tuple(2 * np.log(SPREAD)), method="bounded")
    return float(np.exp(found.x))


@cache
def smooth_modes(size: int) -> Tensor:
    """Modes of a normal prior of unit variance on the tank's pixels, ``(MODES, size, size)``."""
    centre = (np.arange(MODE_SIZE) + 0.5) * 2 / MODE_SIZE - 1
    x, y = np.meshgrid(centre, -centre)
    inside = np.hypot(x, y) <= 1
    points = np.stack([x[inside], y[inside]], axis=1)
    square = ((points[:, None] - points) ** 2).sum(axis=2)
    values, vectors = eigsh(np.exp(-square / (2 * LENGTH**2)), MODES, v0=np.ones(len(points)))
    modes = np.zeros((MODES, MODE_SIZE, MODE_SIZE))
    modes[:, inside] = (vectors * np.sqrt(values.clip(0))).T
    shown = torch.from_numpy(modes)
    if size == MODE_SIZE:
        return shown
    return interpolate(shown[None], (size, size), mode="bilinear")[0]


def hinted_objects(operator: EIT, y: Tensor, fidelity: Fidelity, prior: WithParameters) -> Point:
    """Scenes of the regions above several shares of the linear picture's extreme values.

    And simpler ones of the largest regions alone, since the step shows echoes of objects, too.

    The picture is that of the conductive channel; where it is negative, objects are resistive.
    """
    mean, std = linear_step(operator, y, fidelity, channel=1)
    shown = torch.stack([-mean, mean])
    shown = torch.where(shown > SIGNIFICANT * std, shown, 0.0)
    peak = shown.amax((1, 2)).clamp(min=1e-12)
    masks = []
    for shares in product(LEVELS, LEVELS):
        both = torch.stack([shown[k] > share * peak[k] for k, share in enumerate(shares)])
        masks += [both, *simpler(both)]
    x = torch.stack(masks).to(prior.dtype)
    scene = prior.prior
    assert isinstance(scene, Scene)
    seen = scene.read_regions(x)
    return Point(seen.chart, pad_to(seen.z, prior.dim))  # the drift's coordinate is 0


def simpler(masks: Tensor) -> list[Tensor]:
    """The largest region of each kind alone, of the first, of the second: ``(2, H, W)`` each."""
    largest = torch.zeros_like(masks)
    for k, mask in enumerate(masks.numpy()):
        regions, count = label(mask)
        if count:
            sizes = np.bincount(regions.ravel())[1:]
            largest[k] = torch.from_numpy(regions == 1 + int(sizes.argmax()))
    none = torch.zeros_like(masks[0])
    return [largest, torch.stack([largest[0], none]), torch.stack([none, largest[1]])]


LEVELS = (0.2, 0.35, 0.5, 0.7)
