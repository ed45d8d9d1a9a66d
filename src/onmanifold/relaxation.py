"""Reconstructions slightly off the manifold: ``x = D_k(z) + w`` with a penalty on w."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from onmanifold.checks import check_count
from onmanifold.descent import MaxSteps, SmallDecrease
from onmanifold.descent.problem import Problem
from onmanifold.errors import InputError
from onmanifold.fidelity import CorrelatedGaussian, Fidelity, Gaussian
from onmanifold.fidelity.independent import as_entries, bind_entries
from onmanifold.fidelity.inexact import InexactModel
from onmanifold.in_kind import Result, in_kind
from onmanifold.operator import Linearization, linearize
from onmanifold.printing import Brief
from onmanifold.prior import Point
from onmanifold.solution import Solution

_DENSE = 2048  # entries of a measurement up to which matrices of that size are factored
_CHUNK = 256  # cotangents that the operator sees at once
_CG_STEPS = 500


@dataclass(frozen=True, repr=False)
class Relaxed(Result, Brief):
    """Reconstructions of B measurements that may leave the manifold.

    Attributes:
        x: the reconstructions, ``(B, *x_shape)``.
        on: their part on the manifold, ``D_k(z)``, ``(B, *x_shape)``.
        off: the part w off it, ``(B, *x_shape)``.
        misfit: the fidelity's value at ``x``, ``(B,)``.
        objective: misfit, plus ``|w / std|^2 / 2``, plus the weighted penalty of z, ``(B,)``.
        point: charts and latent coordinates of ``on``.
    """

    x: Tensor
    on: Tensor
    off: Tensor
    misfit: Tensor
    objective: Tensor
    point: Point


@in_kind
@torch.no_grad()
def relax(solution: Solution, std: float | Tensor, rounds: int = 3) -> Relaxed:
    """Let a solution leave the manifold where the data require it.

    Minimizes ``fidelity(A(D_k(z) + w), y) + |w / std|^2 / 2 - prior_weight log q_k(z)`` over z and w, from
    the solution. w is eliminated: minimized over w, the data term is Gaussian with covariance
    ``C + A' S A'^T`` (C of the noise, ``S = diag(std^2)``). So z descends as before, and w follows from z. A
    nonlinear operator is linearized in w, anew in each round.

    Args:
        solution: of :func:`onmanifold.solve`, with a :class:`Gaussian` fidelity.
        std: how far entries of x are expected to lie off the manifold: a positive number or a tensor that
            broadcasts to ``x_shape``, in the unit of x.
        rounds: linearizations in w; one is enough for a linear operator.

    Raises:
        ValueError: the solution was loaded without its problem, has another fidelity, or a bad ``std``.

    Example:
        >>> import torch
        >>> from onmanifold import Gaussian, load_prior, solve
        >>> circles = load_prior("two-circles")
        >>> y = torch.tensor([[2.8, 0.0]])  # outside of both circles
        >>> solution = solve(lambda x: x, y, circles, fidelity=Gaussian(0.1))
        >>> (relax(solution, std=0.1).x - y).norm() < 0.6 * (solution.x - y).norm()
        tensor(True)
    """
    problem = solution.problem
    if problem is None:
        raise InputError("relax: the solution was loaded without its problem; solve again")
    if isinstance(problem.fidelity, InexactModel):  # w takes the place of the decoder's error
        problem = replace(problem, fidelity=problem.fidelity.noise)
    if not isinstance(problem.fidelity, Gaussian):
        name = type(problem.fidelity).__name__
        raise InputError(f"relax: needs a Gaussian fidelity, the solution has {name}")
    check_count(rounds, "relax: rounds")
    std = as_entries(std, "relax: std")
    variance = bind_entries(std, solution.x[:1], "relax: std")[0].square()  # S, (*x_shape)
    point = Point(solution.chart, solution.z)
    off = torch.zeros_like(solution.x)
    for _ in range(1 if problem.operator.linear else rounds):
        point, off = _round(problem, variance, point, off)
    on = problem.prior.decode(point)
    misfit = problem.misfit(problem.operator.A(on + off))
    penalty = 0.5 * (off.square() / variance).flatten(1).sum(1)
    return Relaxed(on + off, on, off, misfit, misfit + penalty + problem.penalty(point), point)


def _round(problem: Problem, variance: Tensor, point: Point, off: Tensor) -> tuple[Point, Tensor]:
    """Descend with w eliminated, and its effect linearized around the present w."""
    from onmanifold.solve import solve

    on = problem.prior.decode(point)
    line = linearize(problem.operator, on + off)
    # the nonlinear part of the effect of w is subtracted from the data
    nonlinear = line.y - problem.operator.A(on) - line.jvp(off.unsqueeze(1)).squeeze(1)
    target = problem.measurement - nonlinear
    found = solve(
        problem.operator,
        target,
        problem.prior,
        fidelity=_marginal(problem, line, variance),  # w counts as noise
        prior_weight=problem.prior_weight,
        starts=point,
        stop=MaxSteps(100) | SmallDecrease(1e-10),
        retraction=problem.retraction,
        decoder_error=False,
    )
    assert found.problem is not None
    gradient = found.problem.fidelity.gradient(problem.operator.A(found.x), target)
    off = -variance * line.vjp(gradient.unsqueeze(1)).squeeze(1)  # the best w for this z
    return Point(found.chart, found.z), off


def _marginal(problem: Problem, line: Linearization, variance: Tensor) -> Fidelity:
    """Normal errors with covariance ``C + A' S A'^T``: as a matrix, or matrix-free where that is large."""
    noise, y = problem.fidelity, problem.measurement
    assert isinstance(noise, Gaussian)
    if y[0].numel() > _DENSE:
        return Marginal(noise, line, variance)
    std = torch.as_tensor(noise.std).to(y).expand_as(y).flatten(1)
    spread = _spread(line, variance, y[:1] if problem.operator.linear else y)
    covariance = torch.diag_embed(std.square()) + 0.5 * (spread + spread.mT)
    return CorrelatedGaussian(covariance, noise.mask)


def _spread(line: Linearization, variance: Tensor, y: Tensor) -> Tensor:
    """``A' S A'^T``, ``(B, m, m)``, for the first members, those of ``y``."""
    m, shape = y[0].numel(), y.shape[1:]
    line = line.select(torch.arange(len(y), device=y.device))
    eye = torch.eye(m, dtype=y.dtype, device=y.device).view(m, *shape)
    parts = [part.expand(len(y), *part.shape) for part in eye.split(_CHUNK)]
    rows = [line.jvp(variance * line.vjp(part)) for part in parts]
    return torch.cat(rows, dim=1).reshape(len(y), m, m)


@dataclass(frozen=True, eq=False)
class Marginal:
    """Normal errors with covariance ``C + A' S A'^T``, applied by conjugate gradients: a :class:`Fidelity`.

    Attributes:
        noise: of covariance C, bound to the measurements.
        line: the operator's linearization, whose derivative is A'.
        variance: S, ``(*x_shape)``.
    """

    noise: Gaussian
    line: Linearization
    variance: Tensor

    def bind(self, measurement: Tensor) -> Marginal:
        return self

    def select(self, rows: Tensor) -> Marginal:
        return replace(self, noise=self.noise.select(rows), line=self.line.select(rows))

    def value(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        residual = prediction - measurement
        weighed = self.gradient(prediction, measurement)
        return 0.5 * (residual * weighed).reshape(len(residual), -1).sum(1)

    def gradient(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        residual = (prediction - measurement).unsqueeze(1)
        return self.curvature(prediction, measurement, residual).squeeze(1)

    def curvature(self, prediction: Tensor, measurement: Tensor, tangents: Tensor) -> Tensor:
        """``C^-1 (t - A' w)`` with the best w for t."""
        scale = self.variance.sqrt()

        def weigh(t: Tensor) -> Tensor:
            return self.noise.curvature(prediction, measurement, t)

        def normal(v: Tensor) -> Tensor:
            return v + scale * self.line.vjp(weigh(self.line.jvp(scale * v)))

        v = conjugate_gradients(normal, scale * self.line.vjp(weigh(tangents)))
        return weigh(tangents - self.line.jvp(scale * v))

    def expected(self, measurement: Tensor) -> Tensor:
        return self.noise.expected(measurement)

    def deviation(self, measurement: Tensor) -> Tensor:
        return self.noise.deviation(measurement)


def conjugate_gradients(matrix: Callable[[Tensor], Tensor], rhs: Tensor) -> Tensor:
    """Solve positive definite systems, each of ``(B, T, *shape)`` by itself, to the dtype's accuracy."""
    axes = tuple(range(2, rhs.ndim))
    x, r, p = torch.zeros_like(rhs), rhs, rhs
    square = r.square().sum(axes, keepdim=True)
    enough = square * (10 * torch.finfo(rhs.dtype).eps) ** 2
    for _ in range(_CG_STEPS):
        if bool((square <= enough).all()):
            break
        product = matrix(p)
        curvature = (p * product).sum(axes, keepdim=True)
        rate = torch.where(square > enough, square / curvature, 0.0)
        x, r = x + rate * p, r - rate * product
        before, square = square, r.square().sum(axes, keepdim=True)
        p = r + torch.where(before > enough, square / before, 0.0) * p
    return x
