"""The picture of classes that is expected to score best, given what is believed of the tank."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onmanifold.operators.eit.measurements.ktc import CONDUCTIVE, RESISTIVE, SIZE, WATER

_COARSE = 128  # rows and columns at which scores are compared
_THRESHOLDS = (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.1, 0.9)  # of equals the first is taken


def ktc_best_labels(masks: Tensor, std: float = 80.0) -> NDArray[np.uint8]:
    """Classes ``(256, 256)`` with the largest mean score over samples of what the tank may hold.

    The score (:func:`ktc_score`) is a mean over the two classes of objects, each compared by itself. For
    each, pixels above a threshold of their probability are candidates, for nine thresholds, and so is no
    object at all; the candidate that is on average most similar to the samples is taken. The most
    probable picture is not: where several differ, it bets everything on one.

    Args:
        masks: S samples of the resistive and the conductive objects' masks, in [0, 1], ``(S, 2, H, W)``.
        std: standard deviation of the score's window, pixels of 256.

    Example:
        >>> masks = torch.zeros(4, 2, 32, 32)
        >>> masks[:3, 0, 8:20, 8:20] = 1  # a resistive object in three samples of four
        >>> labels = ktc_best_labels(masks)
        >>> labels.shape, int(labels[100, 100]), int(labels[30, 30])
        ((256, 256), 1, 0)
    """
    if masks.ndim != 4 or masks.shape[1] != 2 or len(masks) == 0:
        raise ValueError(f"expected samples of two masks (S, 2, H, W), got {tuple(masks.shape)}")
    fine = (_resized(masks, SIZE) > 0.5).double().mean(0)
    hard = (_resized(masks.double(), _COARSE) > 0.5).double()
    probability = _resized((masks > 0.5).double().mean(0), _COARSE)
    chosen = []
    for k in range(2):
        candidates = torch.stack([(probability[k] > t).double() for t in _THRESHOLDS])
        candidates = torch.cat([candidates, torch.zeros_like(candidates[:1])])
        score = _similarities(candidates, hard[:, k], std * _COARSE / SIZE).mean(1)
        threshold = (*_THRESHOLDS, 2.0)[int(score.argmax())]
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
        return torch.nn.functional.interpolate(batch, (size, size), mode="area").view(shape)
    return torch.nn.functional.interpolate(batch, (size, size), mode="bilinear").view(shape)


def _similarities(candidates: Tensor, samples: Tensor, std: float) -> Tensor:
    """The score's similarity of each candidate ``(C, n, n)`` to each sample ``(S, n, n)``: ``(C, S)``."""
    window = _window(candidates.shape[-1], std)

    def mean(image: Tensor) -> Tensor:
        return window @ image @ window.mT

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
    away = place[:, None] - place
    weight = torch.exp(-0.5 * (away / std) ** 2) * (away.abs() <= int(2 * std))
    return weight / weight.sum(1, keepdim=True)
