"""Local models at the end of a step without new tangents, by Broyden's formula."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from onmanifold.descent.model import QuadraticModel, times
from onmanifold.descent.problem import Problem, Trial


def secant_model(
    problem: Problem, trial: Trial, before: QuadraticModel, moved: Tensor
) -> QuadraticModel:
    """The model where a step ended, from that where it began.

    Of all derivatives of the prediction that agree with the step's change of it, the one nearest to the last
    is taken, in the metric there, which stays. The penalty's derivatives are those of the new point.

    Args:
        problem: B members.
        trial: where they are.
        before: the model where they came from, with its tangents.
        moved: change of their latent coordinates, ``(B, d)``.

    References:
        C. G. Broyden, A class of methods for solving nonlinear simultaneous equations, Math. Comp. 19
        (1965); Madsen, Nielsen, Tingleff (2004), section 3.5.
    """
    y, fidelity, measurement = trial.linearization.y, problem.fidelity, problem.measurement
    share = times(before.metric, moved)
    squared = (moved * share).sum(1, keepdim=True)
    share = torch.where(squared > 0, share / squared, 0.0)
    predicted = (moved.unsqueeze(1) @ before.tangents).squeeze(1)
    missed = (y - before.prediction).flatten(1) - predicted
    weighted = fidelity.curvature(y, measurement, missed.view_as(y).unsqueeze(1)).flatten(1)
    turn = _outer(share, times(before.tangents, weighted))
    change = turn + turn.mT + _outer(share, share * (missed * weighted).sum(1, keepdim=True))
    tangents = before.tangents + _outer(share, missed)
    penalty_gradient, penalty_hessian = problem.penalty_derivatives(trial.point)
    return replace(
        before,
        misfit_gradient=times(tangents, fidelity.gradient(y, measurement).flatten(1)),
        misfit_hessian=before.misfit_hessian + change,
        penalty_gradient=penalty_gradient,
        penalty_hessian=penalty_hessian,
        tangents=tangents,
        prediction=y,
    )


def _outer(a: Tensor, b: Tensor) -> Tensor:
    return a.unsqueeze(2) * b.unsqueeze(1)
