"""The objective on the manifold, and what it costs to evaluate it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from typing import Self

import torch
from torch import Tensor

from onmanifold import geometry
from onmanifold.autodiff import jvp
from onmanifold.descent.model import (
    FirstOrderModel,
    QuadraticModel,
    Rows,
    clip_to_psd,
    magnitude,
)
from onmanifold.examination import check_values, describe
from onmanifold.fidelity import Fidelity
from onmanifold.fidelity.inexact import with_model_error
from onmanifold.fidelity.scaled import ScaledFidelity
from onmanifold.operator import (
    ForwardOperator,
    Linearization,
    OutsideDomain,
    linearize,
)
from onmanifold.printing import Brief
from onmanifold.prior import ManifoldPrior, Point, pad_to
from onmanifold.retraction import Retraction

_COLUMN_BUDGET = 2**23  # numbers in the Jacobians decoded at once
_FEW = 2  # tangents that cost no more with each trial than another pass once it is accepted


@dataclass(frozen=True)
class Trial(Rows):
    """Points at which the operator was linearized.

    Attributes:
        point: where, B members.
        linearization: the operator's, at the decoded points.
        misfit: the fidelity's value, ``(B,)``.
        objective: misfit plus weighted penalty, ``(B,)``.
        resolution: changes of the objective below it are rounding, ``(B,)``.
        switched: whether the chart changed on the way here, ``(B,)``, boolean.
        columns: of the decoder's Jacobian, ``(B, d, *x_shape)``, if already known.
    """

    point: Point
    linearization: Linearization
    misfit: Tensor
    objective: Tensor
    resolution: Tensor
    switched: Tensor
    columns: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Counts:
    """How often the operator was applied and linearized, for each member, ``(N,)``."""

    evaluations: Tensor
    linearizations: Tensor

    @classmethod
    def none_yet(cls, members: Tensor) -> Self:
        """Zeros for each of the ``members``."""
        return cls(torch.zeros_like(members), torch.zeros_like(members))

    def copy(self) -> Counts:
        """The counts as they are now."""
        return Counts(self.evaluations.clone(), self.linearizations.clone())

    def add(self, other: Counts) -> None:
        """Count what was done before, too."""
        self.evaluations.add_(other.evaluations)
        self.linearizations.add_(other.linearizations)


@dataclass(frozen=True, eq=False)
class ChartChanges:
    """When members may change their chart. A rejected change costs a linearization: each doubles the wait.

    Attributes:
        wait: number of steps before the next change is tried, for each member, ``(N,)``.
        rejections: changes rejected since the last accepted one, ``(N,)``.
    """

    wait: Tensor
    rejections: Tensor

    @classmethod
    def of(cls, problem: Problem) -> Self:
        """All members may change at once."""
        return cls(*(torch.zeros_like(problem.counts.evaluations) for _ in range(2)))

    def allowed(self, members: Tensor) -> Tensor:
        """Which of the ``members`` may change with their next step, boolean."""
        return self.wait[members] == 0

    def record(self, members: Tensor, tried: Tensor, accepted: Tensor) -> None:
        """Note a step of the ``members``: which tried to change, and whether their steps were accepted."""
        rejected, changed = tried & ~accepted, tried & accepted
        wait, rejections = self.wait[members], self.rejections[members]
        self.wait[members] = torch.where(rejected, 2**rejections, (wait - 1).clamp(min=0))
        rejections = (rejections + rejected).clamp(max=6)
        self.rejections[members] = torch.where(changed, 0, rejections)

    def reset(self, members: Tensor) -> None:
        """Let the ``members`` change at once."""
        self.wait[members] = 0
        self.rejections[members] = 0


@dataclass(frozen=True, eq=False, repr=False)
class Problem(Brief):
    """Minimize ``Phi(A(D_k(z)), y) - prior_weight * log q_k(z)`` for each of B members.

    A member is one descent: a measurement with one initial point. Made by :func:`build_problem`, which
    checks everything.

    Attributes:
        operator: A.
        measurement: y, ``(B, *y_shape)``.
        prior: the manifold.
        fidelity: Phi, bound to the measurements.
        prior_weight: weight of the latent density, ``(B,)``: 1 makes the minimizer the maximum a posteriori.
        retraction: how points move along tangents.
        model_error: the prior's decoder error as the operator sees it, for
            :func:`~onmanifold.fidelity.inexact.with_model_error`; ``None`` where it is not known.
        chart_changes: when steps may lead to another chart; ``None`` keeps them in theirs.
        members: each row's number among the N that the counts are kept for, ``(B,)``.
        counts: operator calls so far.
        unit: size of the objective, a power of two, ``(B,)``.
        noise_known: whether the fidelity was given; without, its scale means nothing.
    """

    operator: ForwardOperator
    measurement: Tensor
    prior: ManifoldPrior
    fidelity: Fidelity
    prior_weight: Tensor
    retraction: Retraction
    members: Tensor = field(repr=False)
    counts: Counts = field(repr=False)
    unit: Tensor = field(repr=False)
    noise_known: bool = True
    chart_changes: ChartChanges | None = field(default=None, repr=False)
    model_error: tuple[Tensor, Tensor, Tensor] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.measurement)

    def select(self, rows: Tensor) -> Problem:
        """The same for the members ``rows`` (an index); the counts stay shared."""
        return replace(
            self,
            measurement=self.measurement[rows],
            fidelity=self.fidelity.select(rows),
            prior_weight=self.prior_weight[rows],
            members=self.members[rows],
            unit=self.unit[rows],
        )

    def with_noise(self, noise: Fidelity) -> Problem:
        """The same with other noise, bound to the measurements; the model's error is added to it."""
        if self.model_error is not None:
            noise = with_model_error(noise, self.measurement, *self.model_error)
        return replace(self, fidelity=noise, unit=unit_of(noise, self.measurement))

    def normalized(self) -> Problem:
        """The same with the objective divided by its unit; the counts stay shared."""
        return replace(
            self,
            fidelity=ScaledFidelity(self.fidelity, 1 / self.unit),
            prior_weight=self.prior_weight / self.unit,
            unit=torch.ones_like(self.unit),
        )

    def repeat(self, starts: int) -> Problem:
        """Each member ``starts`` times in a row, with counts of their own."""
        rows = torch.arange(len(self), device=self.measurement.device).repeat_interleave(starts)
        members = torch.arange(len(rows), device=rows.device)
        return replace(self.select(rows), members=members, counts=Counts.none_yet(members))

    # Values ---------------------------------------------------------------------------------------

    def misfit(self, prediction: Tensor) -> Tensor:
        """Phi(prediction, y), ``(B,)``."""
        return self.fidelity.value(prediction, self.measurement)

    @property
    def weighted(self) -> bool:
        """Whether the latent density counts for any member."""
        return bool((self.prior_weight != 0).any())

    def penalty(self, point: Point) -> Tensor:
        """``-prior_weight * log q_k(z)``, ``(B,)``."""
        if not self.weighted:
            return point.z.new_zeros(len(point))
        return self.weigh(self.prior.log_prob(point))

    def penalty_gradient(self, point: Point) -> Tensor:
        """Its gradient in the latent coordinates, ``(B, d)``."""
        if not self.weighted:
            return torch.zeros_like(point.z)
        return self.weigh(geometry.log_prob_gradient(self.prior, point))

    def penalty_derivatives(self, point: Point) -> tuple[Tensor, Tensor]:
        """Its gradient ``(B, d)`` and the positive part of its Hessian, ``(B, d, d)``."""
        if not self.weighted:
            return torch.zeros_like(point.z), torch.zeros_like(torch.diag_embed(point.z))
        gradient, hessian = geometry.log_prob_derivatives(self.prior, point)
        return self.weigh(gradient), clip_to_psd(torch.nan_to_num(self.weigh(hessian)))

    def weigh(self, log_prob: Tensor) -> Tensor:
        """``-prior_weight`` times something of the density, ``(B, ...)``."""
        weight = self.prior_weight.view(-1, *[1] * (log_prob.ndim - 1))
        return torch.where(weight == 0, 0.0, -weight * log_prob)  # the density may vanish

    def bounds(self, point: Point) -> tuple[Tensor, Tensor]:
        """How far each coordinate may fall and rise inside the latent box: two ``(B, d)``.

        Not at all where the chart does not have it.
        """
        box = self.prior.box_half_width(point.chart, point.z)
        return (-box - point.z).clamp(max=0.0), (box - point.z).clamp(min=0.0)

    def at(self, point: Point, x: Tensor | None = None) -> Trial:
        """Linearize the operator at ``point``, decoded ``x``: one linearization a member."""
        columns = None
        if x is None:
            x, columns = self._decode(point)
        return self._trial(point, x, columns, torch.zeros_like(point.chart, dtype=torch.bool))

    def after(self, point: Point, v: Tensor) -> Trial:
        """Move ``point`` by the tangent ``v`` ``(B, d)``, change charts where that is allowed and better.

        One linearization of the operator a member, at the point where it ends. A move that leaves
        the range of the dtype or the operator's domain ends where it began, with an infinite objective.
        """
        target = self.retraction(self.prior, point, v)
        x, columns = self._decode(target)
        sound = torch.isfinite(x).flatten(1).all(1)
        target = _where(sound, target, point)
        target, switched = self._switch(target, x, sound)
        changed = (switched | ~sound).nonzero().squeeze(1)
        if len(changed):
            again, along = self._decode(target.select(changed), columns is not None)
            x = x.index_copy(0, changed, again)
            if columns is not None and along is not None:
                columns = columns.index_copy(0, changed, along)
        try:
            trial = self._trial(target, x, columns, switched)
        except OutsideDomain as error:
            sound = sound & ~error.members
            target, switched = _where(sound, target, point), switched & sound
            trial = self._trial(target, *self._decode(target), switched)
        if bool(sound.all()):
            return trial
        return replace(trial, objective=torch.where(sound, trial.objective, torch.inf))

    def _switch(self, point: Point, x: Tensor, sound: Tensor) -> tuple[Point, Tensor]:
        """Change charts where that is allowed and better; also returns where it was, boolean."""
        if self.chart_changes is None:
            return point, torch.zeros_like(sound)
        allowed = self.chart_changes.allowed(self.members) & sound
        rows = allowed.nonzero().squeeze(1)
        moved, switched = geometry.transition(self.prior, point.select(rows), x[rows])
        chart = point.chart.index_copy(0, rows, moved.chart)
        z = point.z.index_copy(0, rows, moved.z)
        return Point(chart, z), allowed.index_copy(0, rows, switched)

    def _decode(self, point: Point, columns: bool | None = None) -> tuple[Tensor, Tensor | None]:
        """Decode, together with the Jacobian's columns if they are to be, by default if they are few."""
        size = self.prior.dim * len(point) * prod(self.prior.x_shape)
        if (self.prior.dim <= _FEW and size <= _COLUMN_BUDGET) if columns is None else columns:
            return geometry.decode_with_jacobian(self.prior, point)
        return self.prior.decode(point), None

    def _trial(self, point: Point, x: Tensor, columns: Tensor | None, switched: Tensor) -> Trial:
        linearization = linearize(self.operator, x)
        check_values(linearization.y, x, tuple(self.operator.y_shape), describe(self.operator))
        once = torch.ones_like(self.members)
        self.counts.evaluations.index_add_(0, self.members, once)
        self.counts.linearizations.index_add_(0, self.members, once)
        misfit = self.misfit(linearization.y)
        objective = misfit + self.penalty(point)
        resolution = self._resolution(linearization.y, objective)
        return Trial(point, linearization, misfit, objective, resolution, switched, columns)

    def _resolution(self, prediction: Tensor, objective: Tensor) -> Tensor:
        """How well the dtype tells objectives apart: ``(B,)``.

        A small misfit is a small difference of large numbers, so that rounding of the prediction
        weighs more than that of the objective itself.
        """
        gradient = self.fidelity.gradient(prediction, self.measurement)
        rounding = (gradient * prediction).reshape(len(gradient), -1).norm(dim=1)
        eps = torch.finfo(objective.dtype).eps
        resolution: Tensor = (objective.abs() + rounding) * (10 * eps)
        return resolution

    # Derivatives ----------------------------------------------------------------------------------

    def first_order_model(self, trial: Trial) -> FirstOrderModel:
        """Gradient, metric and tangent space by one adjoint a member."""
        return self._in_parts(trial, _first_order)

    def quadratic_model(self, trial: Trial, keep_tangents: bool = False) -> QuadraticModel:
        """Gradient, Gauss-Newton matrix and metric by d tangents a member.

        As many as the largest chart among the members has coordinates, and at least one.
        """
        return self._in_parts(trial, partial(_quadratic, keep_tangents))

    def curvature_along(self, trial: Trial, v: Tensor) -> Tensor:
        """Gauss-Newton curvature of the misfit along ``v`` ``(B, d)``, by one tangent each: ``(B,)``."""
        point, y = trial.point, trial.linearization.y
        _, pushed = jvp(lambda z: self.prior.decode(point.at(z)), point.z, v)
        tangent = trial.linearization.jvp(pushed.unsqueeze(1))
        weighted = self.fidelity.curvature(y, self.measurement, tangent)
        return (tangent * weighted).flatten(1).sum(1)

    def _in_parts[R: Rows](self, trial: Trial, derive: Callable[[Problem, Trial], R]) -> R:
        """Differentiate a bounded number of members at once: their Jacobians take the most memory.

        Only members whose charts are of one dimension go together, so that small charts take few tangents.
        """
        size = max(_COLUMN_BUDGET // max(self.prior.dim * prod(self.prior.x_shape), 1), 1)
        dims = self.prior.active(trial.point.chart).sum(1)
        alike = [(dims == d).nonzero().squeeze(1) for d in dims.unique()]
        parts = [rows for group in alike for rows in torch.split(group, size)]
        if len(parts) <= 1:
            return derive(self, trial)
        derived = [derive(self.select(rows), trial.select(rows)) for rows in parts]
        return derived[0].cat(derived).select(torch.cat(parts).argsort())


def _first_order(problem: Problem, trial: Trial) -> FirstOrderModel:
    columns, active = _tangents(problem, trial)
    cotangent = problem.fidelity.gradient(trial.linearization.y, problem.measurement)
    image_gradient = trial.linearization.vjp(cotangent.unsqueeze(1)).squeeze(1)
    return FirstOrderModel(
        misfit_gradient=pad_to(geometry.pull_back(columns, image_gradient), problem.prior.dim),
        penalty_gradient=problem.penalty_gradient(trial.point),
        metric=geometry.pullback_metric(columns, active),
        columns=pad_to(columns, problem.prior.dim),
    )


def _quadratic(keep_tangents: bool, problem: Problem, trial: Trial) -> QuadraticModel:
    columns, active = _tangents(problem, trial)
    d, n = problem.prior.dim, columns.shape[1]
    metric = geometry.pullback_metric(columns, active)
    pushed = trial.linearization.jvp(columns)  # F, the derivative of A o D_k: (B, d, *y_shape)
    y, measurement, fidelity = trial.linearization.y, problem.measurement, problem.fidelity
    weighted = fidelity.curvature(y, measurement, pushed)
    rows = pushed.reshape(*columns.shape[:2], -1)
    hessian = rows @ weighted.reshape(rows.shape).mT
    if getattr(fidelity, "indefinite", False):
        hessian = magnitude(hessian.nan_to_num(0.0, 0.0, 0.0), metric[:, :n, :n])
    gradient = geometry.pull_back(rows, fidelity.gradient(y, measurement))
    penalty_gradient, penalty_hessian = problem.penalty_derivatives(trial.point)
    return QuadraticModel(
        misfit_gradient=pad_to(gradient, d),
        misfit_hessian=pad_to(hessian, d, d),
        metric=metric,
        penalty_gradient=penalty_gradient,
        penalty_hessian=penalty_hessian,
        tangents=pad_to(rows, d) if keep_tangents else rows[:, :0],
        prediction=y,
    )


def tangents(problem: Problem, trial: Trial) -> Tensor:
    """F, the derivative of the predictions in the latent coordinates, ``(B, n, *y_shape)``, n <= d."""
    return trial.linearization.jvp(_tangents(problem, trial)[0])


def unit_of(fidelity: Fidelity, measurement: Tensor) -> Tensor:
    """The size of the misfit of a prediction half as large as the measurement, ``(B,)``; 1 without one."""
    misfit = fidelity.value(0.5 * measurement, measurement).detach().abs()
    size = torch.exp2(misfit.log2().round())  # inf, NaN or 0 where the misfit is
    return torch.where(torch.isfinite(size) & (size > 0), size, 1.0)


def _tangents(problem: Problem, trial: Trial) -> tuple[Tensor, Tensor]:
    """J's columns up to the last that some member's chart has, and which each has, ``(B, d)``."""
    active = problem.prior.active(trial.point.chart)
    width, columns = max(int(active.any(0).sum()), 1), trial.columns
    if columns is None:
        columns = geometry.decode_with_jacobian(problem.prior, trial.point, width)[1]
    return columns[:, :width], active


def _where(condition: Tensor, point: Point, other: Point) -> Point:
    return Point(
        torch.where(condition, point.chart, other.chart),
        torch.where(condition.unsqueeze(1), point.z, other.z),
    )
