"""The posterior's density and its local model.

Over charts k and latent coordinates z in the box,

    pi(k, z | y) ~ q_k(z) exp(-Phi(A(D_k(z)), y)),

with the prior's mixture density q: minus the logarithm is the objective that ``solve`` minimizes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from onmanifold.descent.levenberg_marquardt import LMState
from onmanifold.descent.model import QuadraticModel, Rows
from onmanifold.descent.problem import Problem, Trial
from onmanifold.errors import InputError, InputTypeError
from onmanifold.operator import OutsideDomain
from onmanifold.prior import Point
from onmanifold.solution import UNLIKELY, InconsistentWarning, Solution
from onmanifold.status import Status

_AT_REST = (*(int(s) for s in Status if s.converged), int(Status.STALLED))


def problem_of(solution: Solution) -> Problem:
    """The problem of a solution that has a posterior.

    Raises:
        TypeError: not a solution.
        ValueError: the solution carries no problem, or its problem states no noise level or weighs the
            prior by another number than 1.
    """
    if not isinstance(solution, Solution):
        raise InputTypeError(
            f"solution has to be what solve() returns, got {type(solution).__name__}"
        )
    problem = solution.problem
    if problem is None:
        raise InputError(
            "the solution carries no problem (a stored one does not): call solve() again"
        )
    if not problem.noise_known or not problem.weighted:
        raise InputError(
            "a posterior needs the noise level and the prior: call solve() again with "
            "fidelity=Gaussian(std) and without prior_weight"
        )
    if bool((problem.prior_weight != 1).any()):
        weights = ", ".join(f"{weight:g}" for weight in problem.prior_weight.unique()[:3].tolist())
        raise InputError(
            f"with prior_weight={weights} the objective is no posterior's: call solve() again "
            "without prior_weight, and put what you know of the noise into the fidelity"
        )
    return problem


def converged_problem(solution: Solution) -> Problem:
    """The same, of a solution with a converged start for each measurement.

    Raises:
        ValueError: all starts of a measurement failed.
    """
    problem = problem_of(solution)
    status = solution.final_points.status
    good = torch.stack([status == code for code in _AT_REST]).any(0)
    failed = ~(good & torch.isfinite(solution.final_points.objective)).any(1)
    if bool(failed.any()):
        raise InputError(
            f"measurements {failed.nonzero().squeeze(1).tolist()}: no start converged "
            f"({solution.reason[int(failed.long().argmax())]}); solve them again, with more steps or "
            "starts, or leave them out"
        )
    return problem


def warn_inconsistent(consistent: Tensor, stacklevel: int = 3) -> None:
    """Warn of the measurements ``(B,)`` whose best mode is inconsistent with the noise."""
    rows = (~consistent).nonzero().flatten().tolist()
    if rows:
        warnings.warn(
            f"the posterior of measurements {rows} is not to be relied on: its best mode is inconsistent "
            f"with the noise (p < {UNLIKELY}); the truth lies off the manifold, the noise is larger than "
            "stated, the operator is another, or more starts are needed",
            InconsistentWarning,
            stacklevel=stacklevel + 1,
        )


@dataclass(frozen=True)
class LocalModel(Rows):
    """The posterior around B points, to second order; derivatives in float64.

    Attributes:
        point: where.
        x: decoded, ``(B, *x_shape)``.
        misfit: the fidelity's value, ``(B,)``.
        objective: minus the logarithm of the density, up to a constant, ``(B,)``.
        gradient: of the objective in the latent coordinates, ``(B, d)``.
        hessian: Gauss-Newton curvature of the misfit plus the positive part of that of ``-log q``,
            with no direction less certain than the latent box, ``(B, d, d)``; 0 for coordinates that the
            chart does not have.
    """

    point: Point
    x: Tensor
    misfit: Tensor
    objective: Tensor
    gradient: Tensor
    hessian: Tensor


def evaluate(problem: Problem, point: Point) -> tuple[Tensor, Trial, Tensor] | None:
    """Linearize the operator at those points where it is defined; ``None`` if there are none.

    Returns:
        Which points those are, an index; the linearization, misfit and objective there; and the points
        decoded, ``(B, *x_shape)``.
    """
    x = problem.prior.decode(point)
    rows = torch.isfinite(x).flatten(1).all(1).nonzero().squeeze(1)
    while len(rows):
        try:
            trial = problem.select(rows).at(point.select(rows), x[rows])
        except OutsideDomain as error:
            rows = rows[~error.members]
            continue
        return rows, trial, x[rows]
    return None


def local_model(problem: Problem, trial: Trial, x: Tensor) -> LocalModel:
    """The posterior around ``trial``, decoded ``x``, by d tangents a member."""
    return _local_model(problem, trial, x, problem.quadratic_model(trial))


def final_model(problem: Problem, state: LMState) -> LocalModel:
    """The posterior around the final points of descents, whose derivatives are known."""
    return _local_model(problem, state, problem.prior.decode(state.point), state.model)


def _local_model(
    problem: Problem, at: Trial | LMState, x: Tensor, model: QuadraticModel
) -> LocalModel:
    hessian = _confined(problem, at.point.chart, model.hessian.double())
    gradient = model.gradient.double()
    return LocalModel(at.point, x, at.misfit, at.objective.double(), gradient, hessian)


def _confined(problem: Problem, chart: Tensor, hessian: Tensor) -> Tensor:
    """Raise the curvatures ``(B, d, d)`` to 3 / box^2, the precision of a uniform density on the box.

    Only for coordinates that the charts ``(B,)`` have; the others stay 0.
    """
    box, active = box_of(problem, chart), problem.prior.active(chart)
    scale = torch.where(torch.isfinite(box) & active, box, 1.0)
    least = torch.where(torch.isfinite(box).all(1, keepdim=True), 3.0, 0.0)
    scaled = scale.unsqueeze(2) * hessian * scale.unsqueeze(1)
    values, vectors = torch.linalg.eigh(0.5 * (scaled + scaled.mT))
    least = torch.maximum(least, values[:, -1:] * torch.finfo(values.dtype).eps)
    raised = (vectors * torch.maximum(values, least).unsqueeze(1)) @ vectors.mT
    result: Tensor = raised / scale.unsqueeze(2) / scale.unsqueeze(1)
    return torch.where(active.unsqueeze(1) & active.unsqueeze(2), result, 0.0)


def box_of(problem: Problem, chart: Tensor) -> Tensor:
    """Half-widths of the charts' latent boxes, ``(..., d)``, in float64."""
    return problem.prior.box_half_width(
        chart, torch.empty(0, dtype=torch.float64, device=chart.device)
    )


def in_box(problem: Problem, chart: Tensor, z: Tensor) -> Tensor:
    """Which of the latent points ``(..., d)`` lie inside the boxes of their charts ``(...)``: ``(...)``."""
    return (z.abs() <= problem.prior.box_half_width(chart, z)).all(dim=-1)
