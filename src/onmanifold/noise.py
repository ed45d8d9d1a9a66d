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
_PROBES = 64  # random signs; for as many entries the trace is exact


def estimate(problem: Problem, noise: EstimatedGaussian, point: Point) -> EstimatedGaussian:
    """The noise whose likelihood is largest at the solution ``point``, by restricted maximum likelihood.

    With the covariance ``C = sum_j level_j diag(part_j) + M`` of noise and model error, tangents F of the
    predictions and the penalty's Hessian L, the residual r has beside what was fitted the inverse covariance
    ``P = C^-1 - C^-1 F (F^T C^-1 F + L)^-1 F^T C^-1``. The likelihood is stationary where
    ``r^T C^-1 part_j C^-1 r = tr(P part_j)`` for each j, which Fisher's scoring finds. A measurement whose
    prediction is not finite keeps its level.
    """
    trial = problem.at(point)
    prediction, measurement = trial.linearization.y, problem.measurement
    pushed = tangents(problem, trial)
    n = pushed.shape[1]
    penalty = problem.penalty_derivatives(point)[1][:, :n, :n]
    parts, signs = noise.parts(prediction), _probes(problem)
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
        diagonal = (signs * spread).sum(1)  # of C^-1
        free = torch.einsum("bj...,b...->bj", parts, diagonal) - fitted
        new = _scored(level, left - free, parts, diagonal)
        new = torch.where(sound.unsqueeze(1), new, level)
        new[:, :1] = torch.maximum(new[:, :1], least)
        shift = torch.einsum("bj,bj...->b...", new - level, parts).abs()
        settled = shift <= _SETTLED * noise.at(new, prediction).entries.square()
        level = new
        if bool((settled | ~torch.isfinite(shift)).all()):
            break
    return noise.at(level, torch.where(torch.isfinite(prediction), prediction, 0.0))


def _scored(level: Tensor, score: Tensor, parts: Tensor, diagonal: Tensor) -> Tensor:
    """A step of Fisher's scoring, by which no level changes more than tenfold; C^-1 counts as diagonal."""
    scaled = level.view(*level.shape, *[1] * (parts.ndim - 2)) * parts * diagonal.unsqueeze(1)
    information = torch.einsum("bj...,bk...->bjk", scaled, scaled).double()
    inverse = torch.linalg.pinv(information.nan_to_num(), hermitian=True).to(level)
    step = (inverse @ (level * score).unsqueeze(2)).squeeze(2)  # relative to the levels
    new: Tensor = level * (1 + step).clamp(0.1, 10.0)
    return new


def _probes(problem: Problem) -> Tensor:
    """Directions e of entries, ``(B, P, *y_shape)``, over which ``e e^T`` sums to about the unit matrix.

    Of independent noise C is diagonal, and one of them gives its traces exactly.
    """
    measurement = problem.measurement
    m = measurement[0].numel()
    if problem.model_error is None:
        signs = torch.ones(1, m)
    elif m <= _PROBES:
        signs = torch.eye(m)
    else:
        draws = torch.randint(0, 2, (_PROBES, m), generator=as_generator(0))
        signs = (2.0 * draws - 1) / _PROBES**0.5
    shaped = signs.to(measurement).view(-1, *measurement.shape[1:])
    return shaped.expand(len(measurement), *shaped.shape)
