"""The Kuopio Tomography Challenge 2023: its files, difficulty levels, pictures and score.

M. Räsänen and others, "Kuopio Tomography Challenge 2023 open electrical impedance tomographic dataset
(KTC 2023)", Zenodo, doi:10.5281/zenodo.8252370.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from onmanifold.operators.eit.measurements.matlab import dense, load_mat
from onmanifold.operators.eit.measurements.measurement import Measurement, named
from onmanifold.operators.eit.models.protocol import Protocol

SIZE = 256
"""Rows and columns of the challenge's pictures."""
WATER, RESISTIVE, CONDUCTIVE = 0, 1, 2

_NAMES = (("Injref", "Mpat", "Uelref"), ("Inj", "Mpat", "Uel"))


def read_ktc(path: str | Path) -> Measurement:
    """Read ``ref.mat`` or ``dataN.mat``.

    Args:
        path: a Matlab 5 file with ``Inj``, ``Mpat`` and ``Uel``, or ``Injref``, ``Mpat`` and ``Uelref``;
            missing voltages are NaN.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no Matlab file, a variable is missing, or the sizes do not fit; the file
            is named.
    """
    return ktc_measurement(path, load_mat(path))


def holds_ktc(content: Mapping[str, Any]) -> bool:
    """Whether a Matlab file's variables are those of the challenge."""
    return any(all(k in content for k in names) for names in _NAMES)


def ktc_measurement(path: str | Path, content: Mapping[str, Any]) -> Measurement:
    """The measurement in the variables of a challenge file; ``path`` is for messages."""
    names = next((n for n in _NAMES if all(k in content for k in n)), None)
    if names is None:
        raise ValueError(
            f"{path} holds {', '.join(sorted(content)) or 'nothing'}; expected "
            + " or ".join(", ".join(n) for n in _NAMES)
        )
    injections, patterns, values = (dense(content[k], f"{path}: {k}") for k in names)
    with named(path):
        protocol = Protocol.from_matrices(injections, patterns)
    with named(f"{path}: {names[2]}"):
        return Measurement.from_values(protocol, values)


def read_ktc_truth(path: str | Path) -> NDArray[np.uint8]:
    """Read ``trueN.mat``: classes ``(256, 256)``, row 0 on top.

    Raises:
        ValueError: the file holds no such picture; it is named.
    """
    truth = np.asarray(load_mat(path).get("truth"))
    if truth.shape != (SIZE, SIZE) or not np.isin(truth, (0, 1, 2)).all():
        raise ValueError(f"{path} holds no picture `truth` of {SIZE} x {SIZE} classes 0, 1, 2")
    return truth.astype(np.uint8)


def ktc_level_mask(level: int, protocol: Protocol | None = None) -> Tensor:
    """Which voltages are measured at a difficulty level, bool, ``(76, 31)``.

    At level n the electrodes 1 to 2 (n - 1) are taken away: injections that use one of them are
    dropped, and the measurement patterns 1 to 2 (n - 1), which are those that touch one.

    Args:
        level: 1 (all is there) to 7.
        protocol: the challenge's one if ``None``.

    Example:
        >>> [int(ktc_level_mask(level).sum()) for level in range(1, 8)]
        [2356, 1624, 1404, 1200, 1012, 630, 513]
    """
    if isinstance(level, bool) or not isinstance(level, int) or not 1 <= level <= 7:
        raise ValueError(f"levels are 1 to 7, got {level!r}")
    return torch.from_numpy((protocol or Protocol.ktc()).free_of(range(2 * (level - 1))))


def ktc_picture(truth: ArrayLike, size: int = 64) -> Tensor:
    """Classes ``(256, 256)`` as a picture ``(1, size, size)``: -1 resistive, 0 water, 1 conductive.

    Args:
        truth: classes 0, 1, 2.
        size: a divisor of 256; blocks are averaged.

    Example:
        >>> truth = np.zeros((256, 256), int)
        >>> truth[100:150, 80:120] = 1
        >>> ktc_picture(truth).shape, float(ktc_picture(truth).min())
        (torch.Size([1, 64, 64]), -1.0)
    """
    classes = np.asarray(truth)
    if classes.shape != (SIZE, SIZE) or SIZE % size:
        raise ValueError(
            f"expected {SIZE} x {SIZE} classes and a divisor of {SIZE}, got {classes.shape} and {size}"
        )
    values = torch.tensor([0.0, -1.0, 1.0], dtype=torch.float64)
    picture = values[torch.from_numpy(classes.astype(np.int64))]
    return torch.nn.functional.avg_pool2d(picture[None], SIZE // size)


def ktc_classes(x: Tensor, threshold: float | tuple[float, float] = 0.5) -> NDArray[np.uint8]:
    """Classes ``(256, 256)`` of a picture with -1 resistive, 0 water, 1 conductive; outside the tank water.

    Args:
        x: ``(1, H, W)`` or ``(H, W)``; interpolated bilinearly.
        threshold: how far from 0 a pixel counts as resistive and conductive: one number for
            both, or one for each.

    Example:
        >>> classes = ktc_classes(-torch.ones(1, 64, 64))
        >>> classes.shape, int(classes[128, 128]), int(classes[0, 0])
        ((256, 256), 1, 0)
    """
    if x.ndim not in (2, 3) or x.shape[:-2].numel() != 1:
        raise ValueError(f"expected one picture (1, H, W) or (H, W), got shape {tuple(x.shape)}")
    low, high = threshold if isinstance(threshold, tuple) else (threshold, threshold)
    if not (low > 0 and high > 0):
        raise ValueError(f"thresholds have to be positive, got {threshold}")
    image = x.detach().to("cpu", torch.float64).reshape(1, 1, *x.shape[-2:])
    fine = torch.nn.functional.interpolate(image, (SIZE, SIZE), mode="bilinear")[0, 0].numpy()
    centre = (np.arange(SIZE) + 0.5) / SIZE * 2 - 1
    inside = centre[:, None] ** 2 + centre**2 <= 1
    classes = np.full((SIZE, SIZE), WATER, np.uint8)
    classes[inside & (fine < -low)] = RESISTIVE
    classes[inside & (fine > high)] = CONDUCTIVE
    return classes


def ktc_score(prediction: ArrayLike, truth: ArrayLike, std: float = 80.0) -> float:
    """The challenge's score: structural similarity of the two classes' masks, averaged.

    Args:
        prediction: classes 0 water, 1 resistive, 2 conductive.
        truth: the true ones.
        std: standard deviation of the Gaussian window, pixels; it is cut off at twice that, and
            cut and renormalized at the picture's edge.

    Returns:
        1 for a perfect picture, negative at worst, 0 for a picture of another size.

    Example:
        >>> truth = np.zeros((256, 256))
        >>> truth[100:150, 80:120] = 1
        >>> ktc_score(truth, truth)
        1.0
    """
    p, t = np.asarray(prediction), np.asarray(truth)
    if t.ndim != 2 or not np.isin(t, (0, 1, 2)).all():
        raise ValueError(f"truth has to hold classes 0, 1, 2 in a matrix, got shape {t.shape}")
    if p.shape != t.shape:
        return 0.0
    if not np.isin(p, (0, 1, 2)).all():
        raise ValueError("prediction holds other classes than 0, 1, 2")
    return float(np.mean([_similarity(p == c, t == c, std) for c in (RESISTIVE, CONDUCTIVE)]))


def _similarity(p: NDArray[np.bool_], t: NDArray[np.bool_], std: float) -> float:
    def window(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return gaussian_filter(values, std, mode="constant", radius=int(2 * std))

    weight = window(np.ones(t.shape))
    x, y = p.astype(np.float64), t.astype(np.float64)
    mean_p, mean_t = window(x) / weight, window(y) / weight
    var_p = window(x * x) / weight - mean_p**2
    var_t = window(y * y) / weight - mean_t**2
    covariance = window(x * y) / weight - mean_p * mean_t
    above = (2 * mean_t * mean_p + 1e-4) * (2 * covariance + 9e-4)
    below = (mean_t**2 + mean_p**2 + 1e-4) * (var_t + var_p + 9e-4)
    return float((above / below).mean())
