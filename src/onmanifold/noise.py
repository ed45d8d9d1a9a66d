"""The size of the noise, from what a solution leaves of the measurement."""

from __future__ import annotations

import torch
from torch import Tensor

from onmanifold.checks import as_generator
from onmanifold.descent.problem import Problem, tangents
from onmanifold.fidelity.estimated import EstimatedGaussian
from onmanifold.prior import Point

_ROUNDS = 50
_SETTLED = 1e-3  # relative change of a variance
_DENSE, _PROBES = 512, 64  # entries up to which traces are exact; random signs beyond


def estimate(problem: Problem, noise: EstimatedGaussian, point: Point) -> EstimatedGaussian:
    """The noise whose likelihood is largest at the solution ``point``, by restricted maximum likelihood.

    With the covariance ``C = sum_j level_j diag(part_j) + M`` of noise and model error, tangents F of the
    predictions and the penalty's Hessian L, the residual r has beside what was fitted the inverse covariance
    ``P = C^-1 - C^-1 F (F^T C^-1 F + L)^-1 F^T C^-1``. The likelihood is stationary where
    ``r^T C^-1 part_j C^-1 r = tr(P part_j)`` for each j; each level is multiplied by the ratio of both sides
    until that holds. A measurement whose prediction is not finite keeps its level.
    """
    trial = problem.at(point)
    prediction, measurement = trial.linearization.y, problem.measurement
    pushed = tangents(problem, trial)
    n = pushed.shape[1]
    penalty = problem.penalty_derivatives(point)[1][:, :n, :n]
    parts, signs = noise.parts(prediction), _probes(measurement)
    assert noise.level is not None
    level, least = noise.level, noise.least(measurement).unsqueeze(1)
    sound = torch.isfinite(prediction).flatten(1).all(1)
    for _ in range(_ROUNDS):
        fidelity = problem.with_noise(noise.at(level, prediction)).fidelity
        residual = fidelity.gradient(prediction, measurement)  # C^-1 r
        weighted = fidelity.curvature(prediction, measurement, pushed)  # C^-1 F
        spread = fidelity.curvature(prediction, measurement, signs)
        left = torch.einsum("bj...,b...->bj", parts, residual.square())
        hessian = torch.einsum("bt...,bu...->btu", pushed, weighted) + penalty
        inverse = torch.linalg.pinv(hessian.nan_to_num().double(), hermitian=True).to(hessian)
        fitted = torch.einsum("btu,bt...,bj...,bu...->bj", inverse, weighted, parts, weighted)
        whole = torch.einsum("bj...,bp...,bp...->bj", parts, signs, spread)
        free = torch.maximum(whole - fitted, 1e-3 * whole)
        new = level * left / free.clamp(min=torch.finfo(free.dtype).tiny)
        new = torch.where(sound.unsqueeze(1), new, level)
        new[:, :1] = torch.maximum(new[:, :1], least)
        change = (new - level).abs() / (level + least)
        level = new
        if not bool((change > _SETTLED).any()):
            break
    return noise.at(level, torch.where(torch.isfinite(prediction), prediction, 0.0))


def _probes(measurement: Tensor) -> Tensor:
    """Directions e of entries, ``(B, P, *y_shape)``, over which ``e e^T`` sums to the unit matrix."""
    m = measurement[0].numel()
    if m <= _DENSE:
        signs = torch.eye(m, dtype=measurement.dtype)
    else:
        draws = torch.randint(0, 2, (_PROBES, m), generator=as_generator(0))
        signs = (2.0 * draws - 1).to(measurement.dtype) / _PROBES**0.5
    shaped = signs.to(measurement.device).view(-1, *measurement.shape[1:])
    return shaped.expand(len(measurement), *shaped.shape)
