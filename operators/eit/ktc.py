"""The Kuopio Tomography Challenge 2023: its tank, files, difficulty levels, images and score.

M. Räsänen and others, "Kuopio Tomography Challenge 2023 open electrical impedance tomographic dataset
(KTC 2023)", Zenodo, doi:10.5281/zenodo.8252370.

    from onmanifold.operators.eit import ktc

    reference, measurement = ktc.read("ref.mat"), ktc.read("data1.mat")
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from onmanifold.checks import check_count, check_number
from onmanifold.errors import InputError
from onmanifold.operators.eit.arguments import whole_numbers
from onmanifold.operators.eit.geometry.tank import Tank
from onmanifold.operators.eit.measurements.matlab import challenge_measurement
from onmanifold.operators.eit.measurements.measurement import Measurement
from onmanifold.operators.eit.models.protocol import Protocol
from onmanifold.operators.matlab import load_mat
from onmanifold.tensors import as_real

SIZE = 256
"""Rows and columns of the challenge's images."""
WATER, RESISTIVE, CONDUCTIVE = 0, 1, 2
WATER_CONDUCTIVITY = 0.79
"""About that of its water, mS, to tell whether voltages have the right size."""

# Currents by source electrode 1, 3, ..., 31, as all its training files have them.
_CURRENTS = (
    (1.4720, 1.4952, 1.4502, 1.4876, 1.5142, 1.4906, 1.4100, 1.4390)
    + (1.4368, 1.4480, 1.4502, 1.4524, 1.4838, 1.4742, 1.4540, 1.5052)
)  # fmt: skip
_COARSE = 128  # rows and columns at which candidates for the best labels are compared
_THRESHOLDS = (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.1, 0.9)  # of equals the first is taken


def tank() -> Tank:
    """The challenge's water tank.

    Radius 0.115 m, 32 electrodes of 5.625 degrees, the first at 12 o'clock, counterclockwise,
    contact impedance 1e-6. Its files name no units; with currents in mA and voltages in V the
    conductivity of this two-dimensional tank is in mS (conductivity times depth), water about 0.79.
    """
    return Tank(radius=0.115, first_angle=90.0, contact_impedance=1e-6)


def protocol() -> Protocol:
    """The challenge's 76 injections and 31 voltages, those that all its training files have in common.

    Example:
        >>> protocol().shape
        (76, 31)
    """
    odd = range(0, 32, 2)
    pairs = [(k, (k + 2) % 32) for k in odd]
    pairs += [(k, sink) for sink in (0, 8, 16, 24) for k in odd if k != sink]
    injections = np.zeros((32, len(pairs)))
    for i, (source, sink) in enumerate(pairs):
        injections[[source, sink], i] = np.array([1, -1]) * _CURRENTS[source // 2]
    eye = np.eye(32)
    return Protocol(injections, eye[:, :31] - eye[:, 1:])


def read(path: str | Path) -> Measurement:
    """Read ``ref.mat`` or ``dataN.mat``.

    Args:
        path: a Matlab 5 file with ``Inj``, ``Mpat`` and ``Uel``, or ``Injref``, ``Mpat`` and ``Uelref``;
            missing voltages are NaN.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no Matlab file, a variable is missing, or the sizes do not fit; the file
            is named.
    """
    return challenge_measurement(path, load_mat(path))


def read_truth(path: str | Path) -> NDArray[np.uint8]:
    """Read ``trueN.mat``: classes ``(256, 256)``, row 0 on top.

    Raises:
        ValueError: the file holds no such image; it is named.
    """
    truth = np.asarray(load_mat(path).get("truth"))
    if truth.shape != (SIZE, SIZE) or not np.isin(truth, (0, 1, 2)).all():
        raise InputError(f"{path} holds no image `truth` of {SIZE} x {SIZE} classes 0, 1, 2")
    return truth.astype(np.uint8)


def level_mask(level: int, plan: Protocol | None = None) -> Tensor:
    """Which voltages are measured at a difficulty level, bool, ``(76, 31)``.

    At level n the electrodes 1 to 2 (n - 1) are taken away: injections that use one of them are
    dropped, and the measurement patterns 1 to 2 (n - 1), which are those that touch one.

    Args:
        level: 1 (all is there) to 7.
        plan: a file's protocol; :func:`protocol` if ``None``.

    Example:
        >>> [int(level_mask(level).sum()) for level in range(1, 8)]
        [2356, 1624, 1404, 1200, 1012, 630, 513]
    """
    if check_count(level, "level") > 7:
        raise InputError(f"levels are 1 to 7, got {level!r}")
    return torch.from_numpy((plan or protocol()).free_of(range(2 * (level - 1))))


def image(truth: ArrayLike, size: int = 64) -> Tensor:
    """Classes ``(256, 256)`` as an image ``(1, size, size)``: -1 resistive, 0 water, 1 conductive.

    Args:
        truth: classes 0, 1, 2.
        size: a divisor of 256; blocks are averaged.

    Example:
        >>> truth = np.zeros((256, 256), int)
        >>> truth[100:150, 80:120] = 1
        >>> image(truth).shape, float(image(truth).min())
        (torch.Size([1, 64, 64]), -1.0)
    """
    size, classes = check_count(size, "size"), whole_numbers(truth, "truth")
    if classes.shape != (SIZE, SIZE) or SIZE % size or not np.isin(classes, (0, 1, 2)).all():
        raise InputError(
            f"expected {SIZE} x {SIZE} classes and a divisor of {SIZE}, got {classes.shape} and {size}"
        )
    values = torch.tensor([0.0, -1.0, 1.0], dtype=torch.float64)
    return avg_pool2d(values[torch.from_numpy(classes.astype(np.int64))][None], SIZE // size)


def classes(x: Tensor) -> NDArray[np.uint8]:
    """Classes ``(256, 256)`` of an image with -1 resistive, 0 water, 1 conductive; outside the tank water.

    Pixels count as resistive below -0.5 and as conductive above 0.5.

    Args:
        x: ``(1, H, W)`` or ``(H, W)``; interpolated bilinearly.

    Example:
        >>> found = classes(-torch.ones(1, 64, 64))
        >>> found.shape, int(found[128, 128]), int(found[0, 0])
        ((256, 256), 1, 0)
    """
    if x.ndim not in (2, 3) or x.shape[:-2].numel() != 1:
        raise InputError(f"expected one image (1, H, W) or (H, W), got shape {tuple(x.shape)}")
    coarse = x.detach().to("cpu", torch.float64).reshape(1, 1, *x.shape[-2:])
    fine = interpolate(coarse, (SIZE, SIZE), mode="bilinear")[0, 0].numpy()
    centre = (np.arange(SIZE) + 0.5) / SIZE * 2 - 1
    inside = centre[:, None] ** 2 + centre**2 <= 1
    found = np.full((SIZE, SIZE), WATER, np.uint8)
    found[inside & (fine < -0.5)] = RESISTIVE
    found[inside & (fine > 0.5)] = CONDUCTIVE
    return found


def score(prediction: ArrayLike, truth: ArrayLike, std: float = 80.0) -> float:
    """The challenge's score: structural similarity of the two classes' masks, averaged.

    Args:
        prediction: classes 0 water, 1 resistive, 2 conductive.
        truth: the true ones.
        std: standard deviation of the Gaussian window, pixels; it is cut off at twice that, and
            cut and renormalized at the image's edge.

    Returns:
        1 for a perfect image, negative at worst, 0 for an image of another size.

    Example:
        >>> truth = np.zeros((256, 256))
        >>> truth[100:150, 80:120] = 1
        >>> score(truth, truth)
        1.0
    """
    p, t = whole_numbers(prediction, "prediction"), whole_numbers(truth, "truth")
    if t.ndim != 2 or not np.isin(t, (0, 1, 2)).all():
        raise InputError(f"truth has to hold classes 0, 1, 2 in a matrix, got shape {t.shape}")
    if p.shape != t.shape:
        return 0.0
    if not np.isin(p, (0, 1, 2)).all():
        raise InputError("prediction holds other classes than 0, 1, 2")
    pairs = (
        (torch.from_numpy(x == c).double()[None] for x in (p, t)) for c in (RESISTIVE, CONDUCTIVE)
    )
    return float(np.mean([float(_similarities(a, b, std)) for a, b in pairs]))


def best_labels(masks: Tensor, std: float = 80.0) -> NDArray[np.uint8]:
    """Classes ``(256, 256)`` with the largest mean score over samples of the tank's inclusions.

    The score (:func:`score`) is a mean over the two classes of objects, each compared by itself. For
    each, pixels above a threshold of their probability are candidates, for nine thresholds, and so is no
    object at all; the candidate that is on average most similar to the samples is taken. The most
    probable image is not: where several differ, it bets everything on one.

    Args:
        masks: S samples of the resistive and the conductive objects' masks, in [0, 1], ``(S, 2, H, W)``.
        std: standard deviation of the score's window, pixels of 256.

    Example:
        >>> masks = torch.zeros(4, 2, 32, 32)
        >>> masks[:3, 0, 8:20, 8:20] = 1  # a resistive object in three samples of four
        >>> labels = best_labels(masks)
        >>> labels.shape, int(labels[100, 100]), int(labels[30, 30])
        ((256, 256), 1, 0)
    """
    masks = as_real(masks, "masks").cpu()
    if masks.ndim != 4 or masks.shape[1] != 2 or len(masks) == 0:
        raise InputError(f"expected samples of two masks (S, 2, H, W), got {tuple(masks.shape)}")
    fine = (_resized(masks, SIZE) > 0.5).double().mean(0)
    hard = (_resized(masks.double(), _COARSE) > 0.5).float()
    probability = _resized((masks > 0.5).double().mean(0), _COARSE)
    chosen = []
    for k in range(2):
        candidates = torch.stack([(probability[k] > t).float() for t in _THRESHOLDS])
        candidates = torch.cat([candidates, torch.zeros_like(candidates[:1])])
        scores = _similarities(candidates, hard[:, k], std * _COARSE / SIZE).mean(1)
        threshold = (*_THRESHOLDS, 2.0)[int(scores.argmax())]
        chosen.append((fine[k] > threshold).numpy())
    labels = np.full((SIZE, SIZE), WATER, np.uint8)
    labels[chosen[0]] = RESISTIVE
    labels[chosen[1] & ~(chosen[0] & (fine[0] > fine[1]).numpy())] = CONDUCTIVE
    return labels


def _resized(masks: Tensor, size: int) -> Tensor:
    """Masks ``(..., 2, H, W)`` at another number of pixels."""
    batch = masks.reshape(-1, 1, *masks.shape[-2:])
    shape = (*masks.shape[:-2], size, size)
    if size < masks.shape[-1]:
        return interpolate(batch, (size, size), mode="area").view(shape)
    return interpolate(batch, (size, size), mode="bilinear").view(shape)


def _similarities(candidates: Tensor, samples: Tensor, std: float) -> Tensor:
    """The score's similarity of each candidate ``(C, H, W)`` to each sample ``(S, H, W)``: ``(C, S)``."""
    rows, columns = (_window(size, std).to(samples) for size in candidates.shape[1:])

    def mean(image: Tensor) -> Tensor:
        return rows @ image @ columns.mT

    p, t = candidates, samples
    mean_p, mean_t = mean(p), mean(t)
    var_p, var_t = mean(p) - mean_p**2, mean(t) - mean_t**2  # of masks, which are their own squares
    found = []
    for i in range(len(p)):
        covariance = mean(p[i] * t) - mean_p[i] * mean_t
        above = (2 * mean_p[i] * mean_t + 1e-4) * (2 * covariance + 9e-4)
        below = (mean_p[i] ** 2 + mean_t**2 + 1e-4) * (var_p[i] + var_t + 9e-4)
        found.append((above / below).mean((1, 2)))
    return torch.stack(found)


def _window(size: int, std: float) -> Tensor:
    """The Gaussian window along one axis, cut at two deviations and at the edge: ``(size, size)``."""
    place = torch.arange(size, dtype=torch.float64)
    away, std = place[:, None] - place, check_number(std, "std")
    weight = torch.exp(-0.5 * (away / std) ** 2) * (away.abs() <= int(2 * std))
    return weight / weight.sum(1, keepdim=True)
