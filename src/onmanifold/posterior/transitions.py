"""The two transitions of the sampler: a Langevin step along the manifold, and an independence step."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import Self

import torch
from torch import Tensor

from onmanifold import geometry
from onmanifold.descent.model import Rows
from onmanifold.descent.problem import Problem, Trial
from onmanifold.posterior.laplace import Laplace
from onmanifold.posterior.target import evaluate, in_box, local_model
from onmanifold.prior import Point

_EVEN = 0.1  # share of the proposals that all modes have alike: a weight may be far too small
_DF = 4  # degrees of freedom beyond the chart's dimension: with more, tails are light


@dataclass(frozen=True)
class Chains(Rows):
    """States of N Markov chains.

    Attributes:
        point: chart and latent coordinates of each.
        x: decoded, ``(N, *x_shape)``.
        objective: minus the logarithm of the posterior's density, ``(N,)``.
        known: whether the following are those of the point, ``(N,)``, boolean; only Langevin steps need them.
        factor: L of the metric ``M = L L^T``, which is the Hessian, ``(N, d, d)``; 1 on the diagonal of
            coordinates that the chart does not have, so that they leave its determinant as it is.
        drift: ``-M^-1 gradient``, ``(N, d)``.
    """

    point: Point
    x: Tensor
    objective: Tensor
    known: Tensor
    factor: Tensor
    drift: Tensor

    @classmethod
    def at(cls, trial: Trial, x: Tensor) -> Self:
        """Chains at the points of ``trial``, decoded ``x``, their metrics not known."""
        z = trial.point.z
        nothing = torch.zeros((*z.shape, z.shape[1]), dtype=torch.float64, device=z.device)
        known = torch.zeros_like(trial.point.chart, dtype=torch.bool)
        return cls(trial.point, x, trial.objective.double(), known, nothing, nothing[:, 0])

    @classmethod
    def with_metric(cls, problem: Problem, trial: Trial, x: Tensor) -> Self:
        """The same, their metrics known."""
        here = local_model(problem, trial, x)
        active = problem.prior.active(here.point.chart)
        factor = torch.linalg.cholesky(geometry.filled(here.hessian, active, size=1.0))
        drift = -torch.cholesky_solve(here.gradient.unsqueeze(2), factor).squeeze(2)
        known = torch.ones_like(here.point.chart, dtype=torch.bool)
        return cls(here.point, here.x, here.objective, known, factor, drift)


def langevin_step(
    problem: Problem, chains: Chains, step: Tensor, source: torch.Generator
) -> tuple[Chains, Tensor]:
    """A Langevin step in the metric of the curvature, within the chart.

    The proposal is normal with mean ``z + step^2 / 2 drift`` and covariance ``step^2 M(z)^-1``: the
    simplified manifold Metropolis-adjusted Langevin algorithm.

    Source: Girolami and Calderhead, J. R. Stat. Soc. B 73 (2011).

    Returns:
        The chains, and the probability with which each step of length ``step`` was accepted, ``(N,)``.
    """
    new = (~chains.known).nonzero().squeeze(1)
    if len(new):
        members, there = problem.select(new), chains.select(new)
        now = Chains.with_metric(members, members.at(there.point, there.x), there.x)
        chains = chains.merge(new, now)
    noise = _normal(chains.drift.shape, step, source) * problem.prior.active(chains.point.chart)
    uniform = torch.empty_like(step).uniform_(generator=source)
    away = torch.linalg.solve_triangular(chains.factor.mT, noise.unsqueeze(2), upper=True)
    target = _mean_step(chains, step) + step.unsqueeze(1) * away.squeeze(2)
    found = _evaluate_in_box(problem, chains.point.at(target.to(chains.point.z)))
    if found is None:
        return chains, torch.zeros_like(step)
    rows, before = found[0], chains.select(found[0])
    moved = Chains.with_metric(problem.select(rows), *found[1:])
    way_back = _log_step(moved, before.point.z, step[rows])
    odds = way_back - _log_step(before, moved.point.z, step[rows])
    return _accept(chains, rows, moved, odds, uniform)


def independence_step(
    problem: Problem, chains: Chains, proposal: StudentMixture, source: torch.Generator
) -> tuple[Chains, Tensor]:
    """A step to a point drawn from ``proposal``, in whatever chart.

    Returns what :func:`langevin_step` does.
    """
    point = proposal.sample(source)
    uniform = torch.empty_like(chains.objective).uniform_(generator=source)
    found = _evaluate_in_box(problem, point)
    if found is None:
        return chains, torch.zeros_like(uniform)
    rows, trial, x = found
    odds = proposal.log_prob(chains.point) - proposal.log_prob(point)
    return _accept(chains, rows, Chains.at(trial, x), odds[rows], uniform)


def _accept(
    chains: Chains, rows: Tensor, moved: Chains, odds: Tensor, uniform: Tensor
) -> tuple[Chains, Tensor]:
    """The rule of Metropolis and Hastings for the chains ``rows``, which may move to ``moved``.

    ``odds`` is the log-density of proposing the way back over that of the way there.
    """
    ratio = chains.objective[rows] - moved.objective + odds
    chance = ratio.clamp(max=0.0).exp().nan_to_num(nan=0.0)
    taken = uniform[rows] < chance
    accepted = torch.zeros_like(uniform).index_copy(0, rows, chance)
    return chains.merge(rows[taken], moved.select(taken)), accepted


class StudentMixture:
    """Student's t distributions at the modes of Laplace's approximation, for C chains of each measurement.

    Each is a density on the d_k coordinates of its chart; the others are 0.

    Attributes:
        chart: of each mode, ``(N, M)``.
        active: which coordinates its chart has, ``(N, M, d)``, boolean.
        mean: ``(N, M, d)``.
        factor: L of each mode's scale matrix ``L L^T``, ``(N, M, d, d)``; 1 on the diagonal of coordinates
            that the chart does not have.
        log_weight: ``(N, M)``, -inf for none.
        dtype: of the points that are drawn.
    """

    def __init__(self, approximation: Laplace, chains: int) -> None:
        weights, real = approximation.weights, torch.isfinite(approximation.log_mass)
        even = real / real.sum(1, keepdim=True)
        rows = torch.arange(len(weights), device=weights.device).repeat_interleave(chains)
        active = approximation.problem.prior.active(approximation.chart)
        unused = torch.diag_embed((~active).to(weights))
        self.chart, self.active = approximation.chart[rows], active[rows]
        self.mean = approximation.mean[rows]
        self.factor = torch.linalg.cholesky(approximation.covariance + unused)[rows]
        self.log_weight = ((1 - _EVEN) * weights + _EVEN * even).log()[rows]
        self.dtype = approximation.problem.prior.dtype

    @property
    def df(self) -> Tensor:
        """Degrees of freedom of each, ``(N, M)``."""
        return self.active.sum(2) + _DF

    def sample(self, source: torch.Generator) -> Point:
        """A point for each chain."""
        rows = torch.arange(len(self.mean), device=self.mean.device)
        modes = torch.multinomial(self.log_weight.exp(), 1, generator=source).squeeze(1)
        d, df = self.mean.shape[2], self.df[rows, modes].unsqueeze(1)
        normal = _normal((len(rows), d), self.mean, source) * self.active[rows, modes]
        counts = torch.arange(d + _DF, device=rows.device) < df
        squares = _normal(counts.shape, self.mean, source).square() * counts
        away = (self.factor[rows, modes] @ normal.unsqueeze(2)).squeeze(2)
        z = self.mean[rows, modes] + away / (squares.sum(1, keepdim=True) / df).sqrt()
        return Point(self.chart[rows, modes], z.to(self.dtype))

    def log_prob(self, point: Point) -> Tensor:
        """Logarithm of the density over charts and coordinates, one point a chain: ``(N,)``."""
        d, n = self.active.sum(2), self.df.double()
        away = (point.z.double().unsqueeze(1) - self.mean).unsqueeze(3)
        squared = torch.linalg.solve_triangular(self.factor, away, upper=False).square().sum((2, 3))
        constant = ((n + d) / 2).lgamma() - (n / 2).lgamma() - 0.5 * d * (n * pi).log()
        size = self.factor.diagonal(dim1=2, dim2=3).log().sum(2)
        each = constant - size - 0.5 * (n + d) * (squared / n).log1p() + self.log_weight
        there = self.chart == point.chart.unsqueeze(1)
        return torch.where(there, each, -torch.inf).logsumexp(dim=1)


def _normal(shape: tuple[int, ...], like: Tensor, source: torch.Generator) -> Tensor:
    return like.new_empty(shape).normal_(generator=source)


def _evaluate_in_box(problem: Problem, point: Point) -> tuple[Tensor, Trial, Tensor] | None:
    """What :func:`evaluate` returns for the points that lie in the latent box."""
    inside = in_box(problem, point.chart, point.z).nonzero().squeeze(1)
    if len(inside) == 0:
        return None
    found = evaluate(problem.select(inside), point.select(inside))
    return None if found is None else (inside[found[0]], *found[1:])


def _mean_step(chains: Chains, step: Tensor) -> Tensor:
    return chains.point.z.double() + 0.5 * step.square().unsqueeze(1) * chains.drift


def _log_step(chains: Chains, target: Tensor, step: Tensor) -> Tensor:
    """Log-density of the Langevin proposal at ``target`` ``(N, d)``, up to a constant: ``(N,)``."""
    off = (target.double() - _mean_step(chains, step)).unsqueeze(2)
    away = (chains.factor.mT @ off).squeeze(2)
    size = chains.factor.diagonal(dim1=1, dim2=2).log().sum(1)
    return size - 0.5 * away.square().sum(1) / step.square()
