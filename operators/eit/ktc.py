"""The Kuopio Tomography Challenge 2023: its files, difficulty levels, noise and score.

M. Räsänen and others, "Kuopio Tomography Challenge 2023 open electrical impedance tomographic dataset
(KTC 2023)", Zenodo, doi:10.5281/zenodo.8252370.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.io import loadmat
from scipy.ndimage import gaussian_filter
from torch import Tensor

from onmanifold.operators.eit.protocol import Protocol

SIZE = 256
"""Rows and columns of the challenge's pictures."""
WATER, RESISTIVE, CONDUCTIVE = 0, 1, 2

_NAMES = (("Injref", "Mpat", "Uelref"), ("Inj", "Mpat", "Uel"))


@dataclass(frozen=True, eq=False)
class KTCMeasurement:
    """One measurement file.

    Attributes:
        protocol: injections and measurement patterns.
        voltages: V, ``(I, M)``, float64; zero where missing.
        mask: which voltages are there, bool, ``(I, M)``.
    """

    protocol: Protocol
    voltages: Tensor
    mask: Tensor


def read_ktc(path: str | Path) -> KTCMeasurement:
    """Read ``ref.mat`` or ``dataN.mat``.

    Args:
        path: a Matlab 5 file with ``Inj``, ``Mpat`` and ``Uel``, or ``Injref``, ``Mpat`` and ``Uelref``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no Matlab file, a variable is missing, or the sizes do not fit; the file
            is named.
    """
    content = _load(path)
    names = next((n for n in _NAMES if all(k in content for k in n)), None)
    if names is None:
        known = sorted(k for k in content if not k.startswith("__"))
        raise ValueError(
            f"{path} holds {', '.join(known) or 'nothing'}; expected "
            + " or ".join(", ".join(n) for n in _NAMES)
        )
    injections, patterns, values = (content[k] for k in names)
    try:
        protocol = Protocol.from_matrices(injections, patterns)
        voltages = np.asarray(values, np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    if voltages.size != protocol.shape[0] * protocol.shape[1]:
        raise ValueError(
            f"{path}: {names[2]} has {voltages.size} entries; {protocol.shape[0]} injections with "
            f"{protocol.shape[1]} patterns make {protocol.shape[0] * protocol.shape[1]}"
        )
    if np.isinf(voltages).any():
        raise ValueError(f"{path}: {names[2]} holds infinite voltages; missing ones are NaN")
    mask = torch.from_numpy(~np.isnan(voltages)).reshape(protocol.shape)
    return KTCMeasurement(
        protocol, torch.from_numpy(np.nan_to_num(voltages)).reshape(protocol.shape), mask
    )


def read_ktc_truth(path: str | Path) -> NDArray[np.uint8]:
    """Read ``trueN.mat``: classes ``(256, 256)``, row 0 on top.

    Raises:
        ValueError: the file holds no such picture; it is named.
    """
    truth = np.asarray(_load(path).get("truth"))
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
    protocol = protocol or Protocol.ktc()
    gone = 2 * (level - 1)
    injections = ~(protocol.injections[:gone] != 0).any(axis=0)
    patterns = ~(protocol.patterns[:gone] != 0).any(axis=0)
    return torch.from_numpy(np.outer(injections, patterns))


def noise_std(
    reference: ArrayLike | Tensor, relative: float = 0.0005, floor: float = 0.0001
) -> Tensor:
    """Standard deviation of voltages: ``std^2 = (relative |U|)^2 + (floor max|U|)^2``.

    The defaults are the challenge's own.

    Args:
        reference: voltages U, V, any shape.
        relative: part of each voltage.
        floor: part of the largest one.

    Returns:
        V, the shape of ``reference``, float64.

    Raises:
        ValueError: a negative part, both zero, or voltages that are zero or not finite.
    """
    u = torch.as_tensor(reference).detach().to("cpu", torch.float64).abs()
    if not (relative >= 0 and floor >= 0 and relative + floor > 0):
        raise ValueError(
            f"expected parts >= 0, not both zero; got relative {relative}, floor {floor}"
        )
    if u.numel() == 0 or not bool(torch.isfinite(u).all()):
        raise ValueError("reference has to hold finite voltages")
    std = ((relative * u) ** 2 + (floor * u.max()) ** 2).sqrt()
    if bool((std == 0).any()):
        raise ValueError("reference has voltages of zero, which get a noise of zero; set floor > 0")
    return std


def ktc_picture(truth: ArrayLike, size: int = 64) -> Tensor:
    """Classes ``(256, 256)`` as a picture ``(1, size, size)``: -1 resistive, 0 water, 1 conductive.

    Args:
        truth: classes 0, 1, 2.
        size: a divisor of 256; blocks are averaged.
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
        >>> truth = np.zeros((256, 256)); truth[100:150, 80:120] = 1
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


def _load(path: str | Path) -> dict[str, Any]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        content: dict[str, Any] = loadmat(path)
    except Exception as error:  # whatever a damaged file makes of the parser
        raise ValueError(f"{path} is not a readable Matlab 5 file: {error}") from error
    return content
