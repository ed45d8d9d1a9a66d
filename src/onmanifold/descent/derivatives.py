"""What a descent knows of the objective around a point: derivatives in the latent coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from onmanifold import geometry
from onmanifold.descent.quadratic import magnitude
from onmanifold.descent.state import Rows
from onmanifold.prior import pad_to

if TYPE_CHECKING:
    from onmanifold.descent.problem import Problem, Trial


@dataclass(frozen=True)
class Slope(Rows):
    """The objective to first order, and the tangent space.

    Attributes:
        gradient: of the misfit, ``(B, d)``.
        slope: the penalty's gradient, ``(B, d)``.
        metric: G = J^T J, regular also where charts have fewer coordinates, ``(B, d, d)``.
        columns: J, ``(B, d, *x_shape)``.
    """

    gradient: Tensor
    slope: Tensor
    metric: Tensor
    columns: Tensor

    @property
    def bend(self) -> Tensor:
        """The penalty's curvature, of which nothing is known."""
        return torch.zeros_like(self.metric)

    @property
    def natural(self) -> Tensor:
        """Coordinates of the Riemannian gradient of the misfit, ``(B, d)``."""
        return geometry.riemannian_gradient(self.metric, self.gradient)

    def transport_from(self, before: Slope) -> Tensor:
        """What carries tangents from ``before`` to here, ``(B, d, d)``."""
        return geometry.transport(self.metric, self.columns, before.columns)


@dataclass(frozen=True)
class Model(Rows):
    """The objective to second order, and the metric.

    Attributes:
        gradient: of the misfit, ``(B, d)``.
        curvature: of the misfit, the Gauss-Newton matrix, ``(B, d, d)``.
        metric: G = J^T J, regular also where charts have fewer coordinates, ``(B, d, d)``.
        slope: the penalty's gradient, ``(B, d)``.
        bend: the positive part of the penalty's Hessian, ``(B, d, d)``.
    """

    gradient: Tensor
    curvature: Tensor
    metric: Tensor
    slope: Tensor
    bend: Tensor


def slope_at(problem: Problem, trial: Trial) -> Slope:
    """First derivatives at ``trial``, by one adjoint of the operator a member."""
    columns, used = _tangents(problem, trial)
    metric = geometry.pullback_metric(columns, used)
    residual = problem.fidelity.gradient(trial.linearization.y, problem.measurement)
    image_gradient = trial.linearization.vjp(residual.unsqueeze(1)).squeeze(1)
    return Slope(
        gradient=pad_to(geometry.pull_back(columns, image_gradient), problem.prior.dim),
        slope=problem.penalty_gradient(trial.point),
        metric=metric,
        columns=pad_to(columns, problem.prior.dim),
    )


def model_at(problem: Problem, trial: Trial) -> Model:
    """Second derivatives at ``trial``, by d tangents through the operator a member.

    As many as the largest chart among the members has coordinates, and at least one.
    """
    columns, used = _tangents(problem, trial)
    d, n = problem.prior.dim, columns.shape[1]
    metric = geometry.pullback_metric(columns, used)
    tangents = trial.linearization.jvp(columns)  # F, the derivative of A o D_k: (B, d, *y_shape)
    y, measurement, fidelity = trial.linearization.y, problem.measurement, problem.fidelity
    bent = fidelity.curvature(y, measurement, tangents)
    rows = tangents.reshape(*columns.shape[:2], -1)
    curvature = rows @ bent.reshape(rows.shape).mT
    if getattr(fidelity, "indefinite", False):
        curvature = magnitude(curvature.nan_to_num(0.0, 0.0, 0.0), metric[:, :n, :n])
    gradient = geometry.pull_back(rows, fidelity.gradient(y, measurement))
    return Model(
        pad_to(gradient, d),
        pad_to(curvature, d, d),
        metric,
        *problem.penalty_derivatives(trial.point),
    )


def _tangents(problem: Problem, trial: Trial) -> tuple[Tensor, Tensor]:
    """J's columns up to the last that some member's chart has, and which each has, ``(B, d)``."""
    used = problem.prior.active(trial.point.chart)
    _, columns = geometry.decode_with_jacobian(problem.prior, trial.point)
    return columns[:, : max(int(used.any(0).sum()), 1)], used
