"""Sampling of the posterior by Markov chains, along the manifold and between its charts and modes."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from math import log
from typing import Self

import torch
from torch import Tensor

from onmanifold.checks import as_generator, check_count
from onmanifold.descent.problem import Problem
from onmanifold.errors import InputError
from onmanifold.evaluation_mode import evaluation
from onmanifold.posterior.laplace import Laplace, laplace
from onmanifold.posterior.samples import MIXED, NotMixed, PosteriorSamples, diagnostics
from onmanifold.posterior.target import converged_problem, evaluate
from onmanifold.posterior.transitions import (
    Chains,
    StudentMixture,
    independence_step,
    langevin_step,
)
from onmanifold.prior import Point
from onmanifold.solution import Solution

_TARGET = 0.574  # acceptance at which Langevin steps do best (Roberts and Rosenthal, 1998)
_LONGEST = 2.0  # standard deviations
# Where so many global moves are accepted, a local one is made for each so-many-th draw only.
_GOOD, _SELDOM = 0.4, 5
_PROJECTIONS = 8


@torch.no_grad()
def sample_posterior(
    solution: Solution,
    draws: int = 1000,
    chains: int = 4,
    warmup: int = 200,
    seed: int | torch.Generator = 0,
    approximation: Laplace | None = None,
) -> PosteriorSamples:
    """Draw from the posterior over (chart, z); all chains of all measurements are one batch.

    For each draw a chain makes a local move, a Langevin step in the metric of the curvature, and a
    global one, to a point of a mixture of Student's t distributions at all modes in all charts. Both are
    accepted or refused by the rule of Metropolis and Hastings, so that the draws are exact whatever the
    mixture is. Where the global moves do well, which take no derivatives, the local ones are made
    for each fifth draw only.

    Args:
        solution: what was solved, with a noise level.
        draws: kept, of each chain.
        chains: of each measurement; they start from draws of the mixture.
        warmup: draws before, not kept, in which the local moves are adapted.
        seed: same seed, same draws of the same batch. All chains share the random numbers: a measurement's
            draws are others, of the same distribution, where it is sampled alone or among others.
        approximation: ``laplace(solution)`` if it is known already.

    Returns:
        The :class:`PosteriorSamples`.

    Raises:
        TypeError, ValueError: as :func:`laplace`, or ``draws`` is no int of at least 4, ``chains``
            or ``warmup`` none of at least 1.
        ImportError: arviz-stats is not installed.

    Warns:
        NotMixed: chains of some measurement do not agree: an R-hat exceeds 1.01.

    Example:
        >>> import torch
        >>> from onmanifold import Gaussian, load_prior, solve
        >>> from onmanifold.posterior import sample_posterior
        >>> prior = load_prior("two-circles")
        >>> y = torch.tensor([[1.5]])  # the first coordinate: a point below, or one above
        >>> solution = solve(lambda x: x[:, :1], y, prior, fidelity=Gaussian(0.05))
        >>> samples = sample_posterior(solution, draws=500)
        >>> samples.mixed, samples.x(3).shape
        (tensor([True]), torch.Size([1, 3, 2]))
    """
    began = time.perf_counter()
    for count, name in ((draws, "draws"), (chains, "chains"), (warmup, "warmup")):
        check_count(count, name)
    if draws < 4:
        raise InputError(f"draws has to be at least 4, for R-hat, got {draws}")
    diagnostics()
    problem = converged_problem(solution)
    approximation = laplace(solution) if approximation is None else approximation
    source = as_generator(seed, solution.z.device)
    members = problem.repeat(chains)
    with evaluation(problem.prior):
        sampler = _Sampler.begin(members, approximation, source)
        sampler.warm_up(warmup)
        record = _Record.empty(solution, chains, draws)
        for t in range(draws):
            sampler.draw(t)
            record.add(t, sampler.chains)
    seconds = time.perf_counter() - began
    samples = record.samples(problem, approximation.p_value, sampler, seconds)
    if not bool(samples.mixed.all()):
        which = (~samples.mixed).nonzero().squeeze(1).tolist()
        warnings.warn(
            f"measurements {which}: R-hat above {MIXED} (at most {samples.rhat.max():.3f}); draw more, "
            "or start solve() from more points, so that it finds more modes",
            NotMixed,
            stacklevel=2,
        )
    return samples


def _begun(
    members: Problem, approximation: Laplace, proposal: StudentMixture, source: torch.Generator
) -> Chains:
    """Chains at draws of the proposal, or at the best mode where the operator is not defined there."""
    drawn = members.prior.clamp(proposal.sample(source))
    each = len(members) // len(approximation)
    found = evaluate(members, drawn)
    rows = found.rows if found else torch.empty_like(drawn.chart[:0])
    chart = approximation.chart[:, 0].repeat_interleave(each)
    z = approximation.mode[:, 0].repeat_interleave(each, dim=0).to(drawn.z)
    point = Point(
        chart.index_copy(0, rows, drawn.chart[rows]), z.index_copy(0, rows, drawn.z[rows])
    )
    x = members.prior.decode(point)
    return Chains.at(members.at(point, x), x)


@dataclass
class _Sampler:
    """Moves the chains of B measurements, which lie in a row, C each.

    Attributes:
        members: one for each chain.
        chains: their states.
        proposal: of the global moves.
        source: of random numbers.
        log_step: of the local moves' length, ``(B,)``.
        every: a local move precedes each so-many-th draw, ``(B,)``, integer.
        tried: local and global moves so far, ``(2, B)``.
        accepted: of these, the expected number of accepted ones, ``(2, B)``.
    """

    members: Problem
    chains: Chains
    proposal: StudentMixture
    source: torch.Generator
    log_step: Tensor
    every: Tensor
    tried: Tensor
    accepted: Tensor

    @classmethod
    def begin(cls, members: Problem, approximation: Laplace, source: torch.Generator) -> Self:
        """Chains at their first points."""
        batch = len(approximation)
        proposal = StudentMixture.of(approximation, len(members) // batch)
        zero = torch.zeros((2, batch), dtype=torch.float64, device=members.measurement.device)
        every = torch.ones(batch, dtype=torch.long, device=zero.device)
        chains = _begun(members, approximation, proposal, source)
        return cls(members, chains, proposal, source, zero[0], every, zero, zero)

    def warm_up(self, draws: int) -> None:
        """Adapt the step's length (Robbins and Monro) and, halfway, how often local moves are made."""
        for t in range(draws):
            acceptance = self.draw(t)
            adapted = self.log_step + (acceptance - _TARGET) / (t + 1) ** 0.6
            self.log_step = torch.where(t % self.every == 0, adapted, self.log_step)
            self.log_step = self.log_step.clamp(max=log(_LONGEST))
            if t == draws // 2:
                good = self.accepted[1] >= _GOOD * self.tried[1]
                self.every = torch.where(good, _SELDOM, 1)
        self.tried, self.accepted = torch.zeros_like(self.tried), torch.zeros_like(self.tried)

    def draw(self, t: int) -> Tensor:
        """Make draw number t; the local moves' acceptance, ``(B,)``, 0 where none was made."""
        batch, each = len(self.every), len(self.members) // len(self.every)
        local = t % self.every == 0
        local_acceptance = torch.zeros_like(self.log_step)
        if bool(local.any()):
            rows = local.repeat_interleave(each).nonzero().squeeze(1)
            step = self.log_step.exp().repeat_interleave(each)[rows]
            moved, chance = langevin_step(
                self.members.select(rows), self.chains.select(rows), step, self.source
            )
            self.chains = self.chains.merge(rows, moved)
            local_acceptance[local] = chance.view(-1, each).mean(dim=1)
        self.chains, chance = independence_step(
            self.members, self.chains, self.proposal, self.source
        )
        global_acceptance = chance.view(batch, each).mean(dim=1)
        self.tried = self.tried + torch.stack([local, torch.ones_like(local)])
        self.accepted = self.accepted + torch.stack([local_acceptance, global_acceptance])
        return local_acceptance


@dataclass
class _Record:
    """What is kept of the draws; moments of x about ``centre``, so that x itself need not be."""

    chart: Tensor
    z: Tensor
    log_density: Tensor
    projections: Tensor
    directions: Tensor
    centre: Tensor
    first: Tensor
    second: Tensor

    @classmethod
    def empty(cls, solution: Solution, chains: int, draws: int) -> Self:
        """No draws yet."""
        x, z = solution.x, solution.z
        shape = (len(solution), chains, draws)
        fixed = as_generator(0, x.device)
        directions = x.new_empty(x[0].numel(), _PROJECTIONS).normal_(generator=fixed)
        return cls(
            chart=torch.zeros(shape, dtype=torch.long, device=x.device),
            z=z.new_zeros(*shape, z.shape[1]),
            log_density=torch.zeros(shape, dtype=torch.float64, device=x.device),
            projections=x.new_zeros(*shape, _PROJECTIONS),
            directions=directions / directions.norm(dim=0),
            centre=x,
            first=torch.zeros_like(x),
            second=torch.zeros_like(x),
        )

    def add(self, t: int, chains: Chains) -> None:
        """Keep draw number t."""
        batch, each = self.chart.shape[:2]
        self.chart[:, :, t] = chains.chart.view(batch, each)
        self.z[:, :, t] = chains.z.view(batch, each, -1)
        self.log_density[:, :, t] = -chains.objective.view(batch, each)
        off = chains.x.view(batch, each, *chains.x.shape[1:]) - self.centre.unsqueeze(1)
        self.projections[:, :, t] = off.flatten(2) @ self.directions
        self.first += off.sum(dim=1)
        self.second += off.square().sum(dim=1)

    def samples(
        self, problem: Problem, p_value: Tensor, sampler: _Sampler, seconds: float
    ) -> PosteriorSamples:
        """All of them."""
        batch, each, draws = self.chart.shape
        mean = self.first / (each * draws)
        variance = self.second / (each * draws) - mean.square()
        local_share, global_share = sampler.accepted / sampler.tried
        return PosteriorSamples(
            problem=problem,
            p_value=p_value,
            chart=self.chart,
            z=self.z,
            log_density=self.log_density,
            projections=self.projections,
            mean=self.centre + mean,
            std=variance.clamp(min=0.0).sqrt(),
            step=sampler.log_step.exp(),
            local_acceptance=local_share,
            global_acceptance=global_share,
            operator_calls=sampler.members.counts.linearizations.view(batch, -1).sum(dim=1),
            seconds=seconds,
        )
