"""The two transitions of the sampler: a Langevin step along the manifold, and an independence step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from onmanifold import geometry
from onmanifold.descent.model import Rows
from onmanifold.descent.problem import Problem, Trial
from onmanifold.posterior.proposal import StudentMixture, evaluate_in_box, normal
from onmanifold.posterior.target import local_model
from onmanifold.prior import Point


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
    noise = normal(chains.drift.shape, step, source) * problem.prior.active(chains.point.chart)
    uniform = torch.empty_like(step).uniform_(generator=source)
    away = torch.linalg.solve_triangular(chains.factor.mT, noise.unsqueeze(2), upper=True)
    target = _mean_step(chains, step) + step.unsqueeze(1) * away.squeeze(2)
    found = evaluate_in_box(problem, chains.point.at(target.to(chains.point.z)))
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
    """A step to a point drawn from ``proposal``, in whatever chart; as many chains of each measurement.

    Returns what :func:`langevin_step` does.
    """
    point = proposal.sample(len(problem) // len(proposal), source)
    uniform = torch.empty_like(chains.objective).uniform_(generator=source)
    found = evaluate_in_box(problem, point)
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


def _mean_step(chains: Chains, step: Tensor) -> Tensor:
    return chains.point.z.double() + 0.5 * step.square().unsqueeze(1) * chains.drift


def _log_step(chains: Chains, target: Tensor, step: Tensor) -> Tensor:
    """Log-density of the Langevin proposal at ``target`` ``(N, d)``, up to a constant: ``(N,)``."""
    off = (target.double() - _mean_step(chains, step)).unsqueeze(2)
    away = (chains.factor.mT @ off).squeeze(2)
    size = chains.factor.diagonal(dim1=1, dim2=2).log().sum(1)
    return size - 0.5 * away.square().sum(1) / step.square()
