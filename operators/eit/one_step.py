"""An image by one linear step from the background: quick, blurred, and without a learned prior."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator
from scipy.sparse.linalg import eigsh
from scipy.spatial.distance import cdist
from torch import Tensor

from onmanifold.checks import check_count, check_number
from onmanifold.errors import InputError
from onmanifold.fidelity import Fidelity
from onmanifold.operator import ForwardOperator
from onmanifold.posterior import LinearPosterior, linear_posterior
from onmanifold.tensors import as_mask

_MODES = 200  # of the smoothness prior; the others have less than 1e-6 of the first one's variance
_MODE_SIZE = 32  # pixels along each side of the points that modes are computed at
LENGTH = float(1 / np.sqrt(2 * np.log(100)))
"""Of :func:`one_step`, half widths: correlations fall to 0.01 at a distance of one half width."""


def one_step(
    operator: ForwardOperator,
    y: Tensor,
    fidelity: Fidelity,
    *,
    channel: int = 0,
    length: float = LENGTH,
    inside: Tensor | NDArray[np.bool_] | None = None,
) -> LinearPosterior:
    r"""The image of one linear step from the background ``x = 0``, with its standard deviation.

    What EIT calls a one-step or Tikhonov reconstruction (GREIT and NOSER are of this kind). The prior is
    normal, smooth: its covariance is :math:`s \exp(-|r - r'|^2 / 2 l^2)`; its scale s is the most likely one
    (:func:`onmanifold.posterior.linear_posterior`), so that there is no weight to choose.

    Args:
        operator: images to voltages, such as ``EIT(..., conductivity=Exponential(background),
            reference=...)``, whose image is the logarithm of conductivity over background.
        y: measured voltages, V, ``(B, *y_shape)``.
        fidelity: what their residual costs: ``Gaussian(std)`` for noise alone.
        channel: of the image; the others stay 0.
        length: l, in half widths of the image.
        inside: pixels in the body, ``(H, W)``; by default the disk that fills the image.

    Returns:
        ``mean`` and ``std`` of ``(B, *x_shape)``, 0 outside of the body.

    Raises:
        ValueError: ``inside`` is no mask of an image, or the operator is not one of images in the plane.

    Example:
        >>> from onmanifold import Gaussian
        >>> from onmanifold.operators.eit import EIT, Exponential, Protocol, Tank
        >>> tank, plan, log = Tank.unit(), Protocol.adjacent(32), Exponential(1.0)
        >>> eit = EIT(tank, plan, (1, 32, 32), conductivity=log, mesh="coarse")
        >>> x = torch.zeros(1, 1, 32, 32).double()
        >>> x[..., 8:14, 20:26] = 0.5
        >>> found = one_step(eit, eit.A(x), Gaussian(1e-4)).mean[0, 0]
        >>> row, column = divmod(int(found.argmax()), 32)
        >>> 8 <= row < 14, 20 <= column < 26
        (True, True)
    """
    shape = tuple(operator.x_shape)
    check_number(length, "length")
    if len(shape) not in (2, 3):
        raise InputError(f"one_step takes images (H, W) or (C, H, W), the operator has {shape}")
    if check_count(channel, "channel", at_least=0) >= (1 if len(shape) == 2 else shape[0]):
        raise InputError(f"there is no channel {channel} in images {shape}")
    mask = disk_pixels(shape[-2:]) if inside is None else as_mask(inside, "inside").cpu().numpy()
    if mask.shape != shape[-2:] or not mask.any():
        raise InputError(f"inside has to be a mask {shape[-2:]} with some pixels, got {mask.shape}")
    modes = y.new_zeros(_MODES, *shape)
    modes.view(_MODES, -1, *shape[-2:])[:, channel] = smooth_modes(mask, length).to(y)
    return linear_posterior(operator, y, fidelity, modes)


def disk_pixels(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The pixels whose centres lie in the disk (the ellipse) that fills an image, ``(H, W)``."""
    rows, columns = (_centres(n) for n in shape)
    return np.asarray(np.hypot(rows[:, None], columns) <= 1)


def smooth_modes(inside: NDArray[np.bool_], length: float = LENGTH) -> Tensor:
    """Modes of a normal prior of unit variance on pixels, ``(200, H, W)``, 0 on the others.

    Args:
        inside: which pixels, ``(H, W)``.
        length: of the correlations, in half widths of the image.
    """
    return _modes(np.packbits(inside).tobytes(), inside.shape, float(length))


@lru_cache(maxsize=8)  # the same for all frames
def _modes(bits: bytes, shape: tuple[int, int], length: float) -> Tensor:
    packed = np.frombuffer(bits, np.uint8)
    inside = np.unpackbits(packed, count=shape[0] * shape[1]).reshape(shape).astype(bool)
    grid = [_centres(n) for n in shape]
    near = RegularGridInterpolator(
        tuple(grid), inside.astype(float), method="nearest", bounds_error=False, fill_value=None
    )
    few = np.stack(np.meshgrid(*[_centres(_MODE_SIZE)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    points = few[near(few) > 0.5]
    shown = np.stack(np.meshgrid(*grid, indexing="ij"), axis=-1)[inside]
    count = min(_MODES, len(points) - 1)
    values, vectors = eigsh(_covariance(points, points, length), count, v0=np.ones(len(points)))
    kept = values > 1e-10 * values.max()
    values, vectors = values[kept], vectors[:, kept]
    modes = np.zeros((_MODES, *shape))
    # between the points a mode follows from its own equation (Nystroem)
    modes[: len(values), inside] = (
        _covariance(shown, points, length) @ (vectors / np.sqrt(values))
    ).T
    return torch.from_numpy(modes)


def _centres(n: int) -> NDArray[np.float64]:
    return np.asarray((np.arange(n) + 0.5) * 2 / n - 1)


def _covariance(a: Any, b: Any, length: float) -> NDArray[np.float64]:
    return np.asarray(np.exp(-cdist(a, b, "sqeuclidean") / (2 * length**2)))
