"""The posterior of a solved problem: what may be asked for it, its density, its local model.

Over charts k and latent coordinates z in the box,

    pi(k, z | y) ~ q_k(z) exp(-Phi(A(D_k(z)), y)),

with the prior's mixture density q: minus the logarithm is the objective that ``solve`` minimizes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from onmanifold.descent.model import QuadraticModel, Rows
from onmanifold.descent.problem import Problem, Trial
from onmanifold.operator import OutsideDomain
from onmanifold.prior import Point
from onmanifold.solution import Solution
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
        raise TypeError(f"solution has to be what solve() returns, got {type(solution).__name__}")
    problem = solution.problem
    if problem is None:
        raise ValueError(
            "the solution carries no problem (a stored one does not): call solve() again"
        )
    if not problem.noise_known or not problem.weighted:
        raise ValueError(
            "a posterior needs the noise level and the prior: call solve() again with "
            "fidelity=Gaussian(std) and without prior_weight"
        )
    if bool((problem.prior_weight != 1).any()):
        raise ValueError(
            f"with prior_weight={_told(problem)} the objective is no posterior's: call solve() "
            "again without prior_weight, and put what you know of the noise into the fidelity"
        )
    return problem


def at_rest(solution: Solution) -> Problem:
    """The same, of a solution whose starts came to rest.

    Raises:
        ValueError: all starts of a measurement failed.
    """
    problem = problem_of(solution)
    status = solution.final_points.status
    good = torch.stack([status == code for code in _AT_REST]).any(0)
    failed = ~(good & torch.isfinite(solution.final_points.objective)).any(1)
    if bool(failed.any()):
        raise ValueError(
            f"measurements {failed.nonzero().squeeze(1).tolist()}: no start converged "
            f"({solution.reason[int(failed.long().argmax())]}); solve them again, with more steps or "
            "starts, or leave them out"
        )
    return problem


@dataclass(frozen=True)
class Local(Rows):
    """The posterior around B points, to second order; derivatives in float64.

    Attributes:
        chart: the chart of each, ``(B,)``, integer.
        z: latent coordinates, ``(B, d)``.
        x: decoded, ``(B, *x_shape)``.
        objective: minus the logarithm of the density, up to a constant, ``(B,)``.
        gradient: of the objective in the latent coordinates, ``(B, d)``.
        hessian: Gauss-Newton curvature of the misfit plus the positive part of that of ``-log q``,
            with no direction less certain than the latent box, ``(B, d, d)``; 0 for coordinates that the
            chart does not have.
    """

    chart: Tensor
    z: Tensor
    x: Tensor
    objective: Tensor
    gradient: Tensor
    hessian: Tensor

    @property
    def point(self) -> Point:
        """Chart and coordinates together."""
        return Point(self.chart, self.z)


@dataclass(frozen=True)
class Visit:
    """The points, of those asked for, at which the operator is defined.

    Attributes:
        rows: which those are, an index.
        x: decoded, ``(B, *x_shape)``.
        trial: the operator's linearization, misfit and objective there.
    """

    rows: Tensor
    x: Tensor
    trial: Trial


def visit(problem: Problem, point: Point) -> Visit | None:
    """Linearize the operator at those points where it is defined; ``None`` if there are none."""
    x = problem.prior.decode(point)
    rows = torch.isfinite(x).flatten(1).all(1).nonzero().squeeze(1)
    while len(rows):
        try:
            trial = problem.select(rows).at(point.select(rows), x[rows])
        except OutsideDomain as error:
            rows = rows[~error.members]
            continue
        return Visit(rows, x[rows], trial)
    return None


def local(problem: Problem, trial: Trial, x: Tensor) -> Local:
    """Derivatives of the posterior at ``trial``, by d tangents a member."""
    return modelled(problem, trial.point, x, trial.objective, problem.quadratic_model(trial))


def modelled(
    problem: Problem, point: Point, x: Tensor, objective: Tensor, model: QuadraticModel
) -> Local:
    """The same where the objective's model is known, as at the end of a descent."""
    gradient = model.gradient.double()
    curvature = model.hessian.double()
    used = problem.prior.active(point.chart)
    hessian = _no_wider_than(box_of(problem, point.chart), used, curvature)
    return Local(point.chart, point.z, x, objective.double(), gradient, hessian)


def _no_wider_than(box: Tensor, used: Tensor, hessian: Tensor) -> Tensor:
    """Raise the curvatures ``(B, d, d)`` to 3 / box^2, the precision of a uniform density on the box.

    Only where coordinates are used, ``(B, d)``; the others stay 0.
    """
    scale = torch.where(torch.isfinite(box) & used, box, 1.0)
    least = torch.where(torch.isfinite(box).all(1, keepdim=True), 3.0, 0.0)
    scaled = scale.unsqueeze(2) * hessian * scale.unsqueeze(1)
    values, vectors = torch.linalg.eigh(0.5 * (scaled + scaled.mT))
    least = torch.maximum(least, values[:, -1:] * torch.finfo(values.dtype).eps)
    raised = (vectors * torch.maximum(values, least).unsqueeze(1)) @ vectors.mT
    result: Tensor = raised / scale.unsqueeze(2) / scale.unsqueeze(1)
    return torch.where(used.unsqueeze(1) & used.unsqueeze(2), result, 0.0)


def box_of(problem: Problem, chart: Tensor) -> Tensor:
    """Half-widths of the charts' latent boxes, ``(..., d)``, in float64."""
    like = torch.empty(0, dtype=torch.float64, device=chart.device)
    return problem.prior.box_half_width(chart, like)


def in_box(problem: Problem, chart: Tensor, z: Tensor) -> Tensor:
    """Which of the latent points ``(..., d)`` lie inside the boxes of their charts ``(...)``: ``(...)``."""
    return (z.abs() <= problem.prior.box_half_width(chart, z)).all(dim=-1)


def _told(problem: Problem) -> str:
    """The weights that a problem has, in short."""
    return ", ".join(f"{weight:g}" for weight in problem.prior_weight.unique()[:3].tolist())
