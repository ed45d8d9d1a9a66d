"""Controls without the manifold's geometry: the latent coordinates as a Euclidean space."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from onmanifold.checks import check_field, check_number
from onmanifold.descent.method import Method, State, first_order_arrival
from onmanifold.descent.model import FirstOrderModel, QuadraticModel
from onmanifold.descent.problem import Problem, Trial
from onmanifold.prior import Point

_FIRST, _SECOND = 0.9, 0.999  # Adam's running means keep so much of their last values


@dataclass(frozen=True)
class Latent:
    """Another method, run as if latent coordinates were Euclidean: the metric is the identity.

    A control: unlike the method itself, it depends on the parametrization of the chart. Lengths in its
    states are lengths of latent coordinates.

    Args:
        method: one of the others.

    Example:
        >>> from onmanifold import LBFGS
        >>> Latent(LBFGS())
        Latent(method=LBFGS(memory=10))
    """

    method: Method[Any]

    def init(self, problem: Problem, point: Point) -> Any:
        return self.method.init(_Flat.of(problem), point)

    def step(self, problem: Problem, state: Any) -> Any:
        return self.method.step(_Flat.of(problem), state)


@dataclass(frozen=True, eq=False)
class _Flat(Problem):
    """A problem whose latent coordinates are a Euclidean space."""

    @classmethod
    def of(cls, problem: Problem) -> _Flat:
        return cls(**{field.name: getattr(problem, field.name) for field in fields(problem)})

    def first_order_model(self, trial: Trial) -> FirstOrderModel:
        model = super().first_order_model(trial)
        # Charts are spaces of their own, orthogonal to each other: nothing is transported between them.
        each = torch.nn.functional.one_hot(trial.point.chart, self.prior.num_charts)
        columns = torch.einsum("bde,bk->bdek", _identity(model.metric), each.to(model.metric))
        return replace(model, metric=_identity(model.metric), columns=columns)

    def quadratic_model(self, trial: Trial, keep_tangents: bool = False) -> QuadraticModel:
        model = super().quadratic_model(trial, keep_tangents)
        return replace(model, metric=_identity(model.metric))


def _identity(metric: Tensor) -> Tensor:
    return torch.eye(metric.shape[1], dtype=metric.dtype, device=metric.device).expand_as(metric)


@dataclass(frozen=True)
class AdamState(State):
    """The best point so far, as a :class:`State`, and Adam's present iterate.

    Attributes:
        iterate: Adam's point.
        gradient: of the objective there, ``(B, d)``.
        mean: running mean of gradients, ``(B, d)``.
        square: running mean of their squares, ``(B, d)``.
    """

    iterate: Point
    gradient: Tensor
    mean: Tensor
    square: Tensor


@dataclass(frozen=True)
class LatentAdam:
    """Adam in the latent coordinates of its initial chart; every step is accepted.

    The state is the best point so far. It stops by the number of steps or by the gradient there.

    Args:
        rate: learning rate, in units of latent coordinates.

    References:
        D. P. Kingma, J. Ba, Adam: a method for stochastic optimization, ICLR 2015.

    Example:
        >>> LatentAdam(rate=0.03)
        LatentAdam(rate=0.03)
    """

    rate: float = 0.1

    def __post_init__(self) -> None:
        check_field(self, "rate", check_number)

    def init(self, problem: Problem, point: Point) -> AdamState:
        state, gradient = _arrive(problem, problem.at(point))
        zero = torch.zeros_like(gradient)
        return AdamState(**vars(state), iterate=point, gradient=gradient, mean=zero, square=zero)

    def step(self, problem: Problem, state: AdamState) -> AdamState:
        mean = _FIRST * state.mean + (1 - _FIRST) * state.gradient
        square = _SECOND * state.square + (1 - _SECOND) * state.gradient.square()
        age = (state.steps + 1)[:, None]
        unbiased = mean / (1 - _FIRST**age), square / (1 - _SECOND**age)
        v = -self.rate * unbiased[0] / (unbiased[1].sqrt() + torch.finfo(mean.dtype).eps)
        trial = replace(problem, chart_changes=None).after(state.iterate, v)
        there, gradient = _arrive(problem, trial)
        later: dict[str, Any] = {
            "steps": state.steps + 1,
            "iterate": trial.point,
            "gradient": gradient,
            "mean": mean,
            "square": square,
        }
        stay = replace(state, step_length=torch.zeros_like(state.step_length), **later)
        moved = (trial.point.z - state.point.z).norm(dim=1)
        best = AdamState(**vars(there) | later | {"step_length": moved})
        rows = (trial.objective < state.objective).nonzero().squeeze(1)
        return stay.merge(rows, best.select(rows))


def _arrive(problem: Problem, trial: Trial) -> tuple[State, Tensor]:
    """The state at ``trial``, and the objective's gradient in latent coordinates."""
    state, model = first_order_arrival(_Flat.of(problem), trial)
    return state, model.gradient
