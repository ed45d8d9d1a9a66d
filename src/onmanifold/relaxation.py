"""Reconstructions a little off the manifold: ``x = D_k(z) + w`` with a price on w."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from onmanifold._checks import check_count
from onmanifold.descent import MaxSteps, SmallDecrease
from onmanifold.descent.problem import Problem
from onmanifold.fidelity import Fidelity, Gaussian
from onmanifold.operator import Linearization, linearize
from onmanifold.prior import Point
from onmanifold.solution import Solution

_DENSE = 2048  # entries of a measurement up to which matrices of that size are factored
_CHUNK = 256  # cotangents that the operator sees at once
_CG_STEPS = 500


@dataclass(frozen=True)
class Relaxed:
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


@torch.no_grad()
def relax(solution: Solution, std: float | Tensor, rounds: int = 3) -> Relaxed:
    """Let a solution leave the manifold where the data ask for it.

    Minimizes ``fidelity(A(D_k(z) + w), y) + |w / std|^2 / 2 - prior_weight log q_k(z)`` over z and w, from
    where the solution is. w is eliminated: to its own best value the data term is a Gaussian one with
    covariance ``C + A' S A'^T`` (C of the noise, ``S = diag(std^2)``), so that z descends as before, and the
    off-manifold part follows from z. A nonlinear operator is linearized in w, anew in each round.

    Args:
        solution: of :func:`onmanifold.solve`, with a :class:`Gaussian` fidelity.
        std: how far entries of x are expected to lie off the manifold: a positive number or a tensor that
            broadcasts to ``x_shape``, in the unknown's unit.
        rounds: linearizations in w; one is enough for a linear operator.

    Raises:
        ValueError: the solution was loaded without its problem, has another fidelity, or a bad ``std``.

    Example:
        >>> import torch
        >>> from onmanifold import Gaussian, load_prior, solve
        >>> ring = load_prior("ring")
        >>> y = torch.tensor([[1.2, 0.0]])
        >>> solution = solve(lambda x: x, y, ring, fidelity=Gaussian(0.1))
        >>> (relax(solution, std=0.1).x - y).norm() < 0.6 * (solution.x - y).norm()
        tensor(True)
    """
    problem = solution.problem
    if problem is None:
        raise ValueError("relax: the solution was loaded without its problem; solve again")
    if not isinstance(problem.fidelity, Gaussian):
        name = type(problem.fidelity).__name__
        raise ValueError(f"relax: needs a Gaussian fidelity, the solution has {name}")
    check_count(rounds, "relax: rounds")
    variance = _variance(std, problem)
    point = Point(solution.chart, solution.z)
    off = torch.zeros_like(solution.x)
    for _ in range(1 if problem.operator.linear else rounds):
        point, off = _round(problem, variance, point, off)
    return _relaxed(problem, variance, point, off)


def _variance(std: float | Tensor, problem: Problem) -> Tensor:
    """S, ``(*x_shape)``."""
    example = problem.measurement.new_zeros(problem.prior.x_shape)
    scale = torch.as_tensor(std).to(example)
    if not bool(((scale > 0) & torch.isfinite(scale)).all()):
        raise ValueError("relax: std has to be positive and finite")
    try:
        return scale.square().expand(example.shape)
    except RuntimeError:
        got = tuple(scale.shape)
        raise ValueError(f"relax: std has shape {got}, x {tuple(example.shape)}") from None


def _round(problem: Problem, variance: Tensor, point: Point, off: Tensor) -> tuple[Point, Tensor]:
    """Descend with w eliminated, its effect taken as linear around the present one."""
    from onmanifold.solve import solve

    on = problem.prior.decode(point.z, point.chart)
    line = linearize(problem.operator, on + off)
    # What the effect of w is beyond its derivative, ...
    bent = line.y - problem.operator.A(on) - line.jvp(off.unsqueeze(1)).squeeze(1)
    target = problem.measurement - bent  # ... taken off the data.
    marginal = Marginal(problem.fidelity, line, variance, _inverse(problem, line, variance))
    found = solve(  # its misfit counts w as noise
        problem.operator,
        target,
        problem.prior,
        fidelity=marginal,
        prior_weight=problem.prior_weight,
        starts=point,
        stop=MaxSteps(100) | SmallDecrease(1e-10),
        retraction=problem.retraction,
    )
    residual = target - problem.operator.A(found.x)
    return Point(found.chart, found.z), marginal.off(residual)


def _relaxed(problem: Problem, variance: Tensor, point: Point, off: Tensor) -> Relaxed:
    on = problem.prior.decode(point.z, point.chart)
    misfit = problem.misfit(problem.operator.A(on + off))
    price = 0.5 * (off.square() / variance).flatten(1).sum(1)
    return Relaxed(on + off, on, off, misfit, misfit + price + problem.penalty(point), point)


@dataclass(frozen=True, eq=False)
class Marginal:
    """A Gaussian data term in which unknowns may also lie off the manifold: a :class:`Fidelity`.

    Attributes:
        fidelity: of the noise alone, bound to the measurements.
        line: the operator's linearization, B members.
        variance: of w, ``(*x_shape)``.
        inverse: applies ``(C + A' S A'^T)^-1`` of the members given (an index) to ``(n, T, *y_shape)``.
        rows: the members, an index.
    """

    fidelity: Fidelity
    line: Linearization
    variance: Tensor
    inverse: Callable[[Tensor, Tensor], Tensor]
    rows: Tensor | None = None

    def bind(self, measurement: Tensor) -> Marginal:
        return replace(self, rows=torch.arange(len(measurement), device=measurement.device))

    def select(self, rows: Tensor) -> Marginal:
        assert self.rows is not None
        return replace(self, rows=self.rows[rows])

    def value(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        residual = prediction - measurement
        weighed = self.gradient(prediction, measurement)
        return 0.5 * (residual * weighed).reshape(len(residual), -1).sum(1)

    def gradient(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        assert self.rows is not None
        return self.inverse(self.rows, (prediction - measurement).unsqueeze(1)).squeeze(1)

    def curvature(self, prediction: Tensor, measurement: Tensor, tangents: Tensor) -> Tensor:
        assert self.rows is not None
        return self.inverse(self.rows, tangents)

    def expected(self, measurement: Tensor) -> Tensor:
        assert self.rows is not None
        return self.fidelity.select(self.rows).expected(measurement)

    def deviation(self, measurement: Tensor) -> Tensor:
        assert self.rows is not None
        return self.fidelity.select(self.rows).deviation(measurement)

    def off(self, residual: Tensor) -> Tensor:
        """The w that explains ``y - A(D_k(z))`` best, ``(B, *x_shape)``."""
        rows = torch.arange(len(residual), device=residual.device)
        weighed = self.inverse(rows, residual.unsqueeze(1))
        return self.variance * self.line.vjp(weighed).squeeze(1)


def _inverse(
    problem: Problem, line: Linearization, variance: Tensor
) -> Callable[[Tensor, Tensor], Tensor]:
    """What applies ``(C + A' S A'^T)^-1``; missing entries have infinite C, and give 0."""
    if problem.measurement[0].numel() <= _DENSE:
        return _dense_inverse(problem, line, variance)
    return _iterative_inverse(problem, line, variance)


def _dense_inverse(
    problem: Problem, line: Linearization, variance: Tensor
) -> Callable[[Tensor, Tensor], Tensor]:
    """By factorization of ``I + C^-1 A' S A'^T``, m x m."""
    y, shape = problem.measurement, problem.measurement.shape[1:]
    m = y[0].numel()
    some = y[:1] if problem.operator.linear else y
    eye = torch.eye(m, dtype=y.dtype, device=y.device).view(m, *shape)
    seen = line.select(torch.arange(len(some), device=y.device))
    spread = torch.cat(
        [
            seen.jvp(variance * seen.vjp(part.expand(len(some), *part.shape)))
            for part in eye.split(_CHUNK)
        ],
        dim=1,
    ).expand(len(y), *[-1] * (len(shape) + 1))
    weighed = problem.fidelity.curvature(y, y, spread).reshape(len(y), m, m).mT
    factors, pivots = torch.linalg.lu_factor(weighed + eye.reshape(m, m))

    def inverse(rows: Tensor, t: Tensor) -> Tensor:
        c = problem.fidelity.select(rows).curvature(y[rows], y[rows], t)
        solved = torch.linalg.lu_solve(factors[rows], pivots[rows], c.flatten(2).mT)
        inverted: Tensor = solved.mT.reshape(t.shape)
        return inverted

    return inverse


def _iterative_inverse(
    problem: Problem, line: Linearization, variance: Tensor
) -> Callable[[Tensor, Tensor], Tensor]:
    """``C^-1 (t - A' w)`` with the w that explains t best, found by conjugate gradients."""
    y, scale = problem.measurement, variance.sqrt()

    def inverse(rows: Tensor, t: Tensor) -> Tensor:
        part, fidelity, at = line.select(rows), problem.fidelity.select(rows), y[rows]

        def weigh(u: Tensor) -> Tensor:
            return fidelity.curvature(at, at, u)

        def normal(v: Tensor) -> Tensor:
            return v + scale * part.vjp(weigh(part.jvp(scale * v)))

        v = conjugate_gradients(normal, scale * part.vjp(weigh(t)))
        return weigh(t - part.jvp(scale * v))

    return inverse


def conjugate_gradients(matrix: Callable[[Tensor], Tensor], rhs: Tensor) -> Tensor:
    """Solve positive definite systems, each of ``(B, T, *shape)`` by itself, to the dtype's accuracy."""
    axes = tuple(range(2, rhs.ndim))
    x, r, p = torch.zeros_like(rhs), rhs, rhs
    square = r.square().sum(axes, keepdim=True)
    enough = square * (10 * torch.finfo(rhs.dtype).eps) ** 2
    for _ in range(_CG_STEPS):
        if bool((square <= enough).all()):
            break
        moved = matrix(p)
        bend = (p * moved).sum(axes, keepdim=True)
        rate = torch.where(square > enough, square / bend, 0.0)
        x, r = x + rate * p, r - rate * moved
        before, square = square, r.square().sum(axes, keepdim=True)
        p = r + torch.where(before > enough, square / before, 0.0) * p
    return x
