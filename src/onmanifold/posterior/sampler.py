"""Sampling of the posterior by Markov chains, along the manifold and between its charts and modes."""

from __future__ import annotations

import time
import warnings
from math import log

import torch
from torch import Tensor

from onmanifold.checks import as_generator, check_count
from onmanifold.descent.problem import Problem
from onmanifold.evaluation_mode import computing
from onmanifold.in_kind import in_kind
from onmanifold.posterior.base import off_manifold
from onmanifold.posterior.laplace import Laplace, laplace
from onmanifold.posterior.proposal import StudentMixture, adapted
from onmanifold.posterior.samples import MIXED, NotMixed, PosteriorSamples, diagnostics
from onmanifold.posterior.target import converged_problem, evaluate
from onmanifold.posterior.transitions import Chains, independence_step, langevin_step
from onmanifold.prior import Point
from onmanifold.solution import Solution

_TARGET = 0.574  # acceptance at which Langevin steps do best (Roberts and Rosenthal, 1998)
_LONGEST = 2.0  # standard deviations
# Where so many global moves are accepted, a local one is made for each so-many-th draw only.
_GOOD, _SELDOM = 0.4, 5
_PROJECTIONS = 8
_ROUND = 100  # points of a round of the adaptation


@in_kind
@torch.no_grad()
def sample_posterior(
    solution: Solution,
    draws: int = 1000,
    chains: int = 4,
    warmup: int = 200,
    seed: int | torch.Generator = 0,
    approximation: Laplace | None = None,
    adaptation: int = 5,
) -> PosteriorSamples:
    """Draw from the posterior over (chart, z); all chains of all measurements are one batch.

    For each draw a chain makes a local move, a Langevin step in the metric of the curvature, and a
    global one, to a point of a mixture of Student's t distributions, three at each mode in each chart.
    Before, this mixture is fitted to the posterior by importance sampling, in rounds of a hundred points.
    Both moves are accepted or refused by the rule of Metropolis and Hastings, so that the draws are exact
    whatever the mixture is. Where the global moves do well, which take no derivatives, the local ones are
    made for each fifth draw only.

    Args:
        solution: what was solved, with a noise level.
        draws: kept, of each chain.
        chains: of each measurement; they start from draws of the mixture.
        warmup: draws before, not kept, in which the local moves are adapted.
        seed: same seed, same draws of the same batch. All chains share the random numbers: a measurement's
            draws are others, of the same distribution, where it is sampled alone or among others.
        approximation: ``laplace(solution)`` if it is known already.
        adaptation: rounds in which the global moves' mixture is fitted; 0 leaves a component at each mode, as
            Laplace's approximation has it.

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
    check_count(draws, "draws", at_least=4)  # for R-hat
    check_count(chains, "chains")
    check_count(warmup, "warmup")
    check_count(adaptation, "adaptation", at_least=0)
    diagnostics()
    problem = converged_problem(solution)
    approximation = laplace(solution) if approximation is None else approximation
    source = as_generator(seed, solution.z.device)
    members = problem.repeat(chains)
    with computing(problem.prior):
        proposal = StudentMixture.of(approximation)
        if adaptation:
            alone = problem.repeat(1)
            proposal = adapted(proposal.divided(), alone, adaptation, _ROUND, source)
            members.counts.linearizations[::chains] += alone.counts.linearizations
        sampler = _Sampler(members, approximation, proposal, source)
        sampler.warm_up(warmup)
        kept = _draw_all(sampler, draws, solution.x)
    samples = PosteriorSamples(
        problem=problem,
        p_value=approximation.p_value,
        **kept,
        step=sampler.log_step.exp(),
        local_acceptance=sampler.accepted[0] / sampler.tried[0],
        global_acceptance=sampler.accepted[1] / sampler.tried[1],
        operator_calls=members.counts.linearizations.view(len(problem), -1).sum(dim=1),
        seconds=time.perf_counter() - began,
    )
    if not bool(samples.mixed.all()):
        which = (~samples.mixed).nonzero().squeeze(1).tolist()
        warnings.warn(
            f"measurements {which}: R-hat above {MIXED} (at most {samples.rhat.max():.3f}); draw more, "
            "or start solve() from more points, so that it finds more modes",
            NotMixed,
            stacklevel=2,
        )
    return samples


def _draw_all(sampler: _Sampler, draws: int, centre: Tensor) -> dict[str, Tensor]:
    """The fields of :class:`PosteriorSamples` that hold draws of x and z, or moments of x.

    Those are taken about ``centre``, the solution, so that x itself need not be kept.
    """
    fixed = as_generator(0, centre.device)
    directions = centre.new_empty(centre[0].numel(), _PROJECTIONS).normal_(generator=fixed)
    directions = directions / directions.norm(dim=0)
    names = ("chart", "z", "log_density", "projections")
    each: dict[str, list[Tensor]] = {name: [] for name in names}
    first, second = torch.zeros_like(centre), torch.zeros_like(centre)
    for t in range(draws):
        sampler.draw(t)
        now = sampler.chains
        off = now.x.unflatten(0, (-1, sampler.each)) - centre.unsqueeze(1)
        projected = off.flatten(2).flatten(0, 1) @ directions
        values = (now.point.chart, now.point.z, -now.objective, projected)
        for name, value in zip(names, values, strict=True):
            each[name].append(value)
        first += off.sum(dim=1)
        second += off.square().sum(dim=1)
    kept = {n: torch.stack(v, 1).unflatten(0, (-1, sampler.each)) for n, v in each.items()}
    mean = first / (sampler.each * draws)
    variance = second / (sampler.each * draws) - mean.square()
    variance = variance.clamp(min=0.0) + off_manifold(sampler.members.prior)
    return kept | {"mean": centre + mean, "std": variance.sqrt()}


class _Sampler:
    """Moves the chains of B measurements, which lie in a row, C each.

    Attributes:
        chains: their states.
        log_step: of the local moves' length, ``(B,)``.
        every: a local move precedes each so-many-th draw, ``(B,)``, integer.
        tried: local and global moves so far, ``(2, B)``.
        accepted: of these, the expected number of accepted ones, ``(2, B)``.
    """

    def __init__(
        self,
        members: Problem,
        approximation: Laplace,
        proposal: StudentMixture,
        source: torch.Generator,
    ) -> None:
        batch, device = len(approximation), members.measurement.device
        self.members, self.source, self.each = members, source, len(members) // batch
        self.proposal = proposal
        self.chains = self._begin(approximation)
        self.tried = self.accepted = torch.zeros((2, batch), dtype=torch.float64, device=device)
        self.log_step = self.tried[0]
        self.every = torch.ones(batch, dtype=torch.long, device=device)

    def _begin(self, approximation: Laplace) -> Chains:
        """Chains at draws of the proposal, or at the best mode where the operator is not defined there."""
        prior = self.members.prior
        drawn = prior.clamp(self.proposal.sample(self.each, self.source))
        found = evaluate(self.members, drawn)
        rows = found[0] if found else torch.empty_like(drawn.chart[:0])
        chart = approximation.chart[:, 0].repeat_interleave(self.each)
        z = approximation.mode[:, 0].repeat_interleave(self.each, dim=0).to(drawn.z)
        chart = chart.index_copy(0, rows, drawn.chart[rows])
        point = Point(chart, z.index_copy(0, rows, drawn.z[rows]))
        x = prior.decode(point)
        return Chains.at(self.members.at(point, x), x)

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
        local = t % self.every == 0
        local_acceptance = torch.zeros_like(self.log_step)
        if bool(local.any()):
            rows = local.repeat_interleave(self.each).nonzero().squeeze(1)
            step = self.log_step.exp().repeat_interleave(self.each)[rows]
            moved, chance = langevin_step(
                self.members.select(rows), self.chains.select(rows), step, self.source
            )
            self.chains = self.chains.merge(rows, moved)
            local_acceptance[local] = chance.view(-1, self.each).mean(dim=1)
        self.chains, chance = independence_step(
            self.members, self.chains, self.proposal, self.source
        )
        global_acceptance = chance.view(-1, self.each).mean(dim=1)
        self.tried = self.tried + torch.stack([local, torch.ones_like(local)])
        self.accepted = self.accepted + torch.stack([local_acceptance, global_acceptance])
        return local_acceptance
