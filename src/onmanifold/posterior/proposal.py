"""The sampler's global proposal: a mixture of Student's t distributions, adapted to the posterior."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import pi

import torch
from torch import Tensor

from onmanifold.descent.problem import Problem, Trial
from onmanifold.posterior.laplace import Laplace
from onmanifold.posterior.target import evaluate, in_box
from onmanifold.prior import Point

_EVEN = 0.1  # share of the proposals that all components have alike: a weight may be far too small
_DF = 4  # degrees of freedom beyond the chart's dimension: with more, tails are light
_APART, _NARROWER = 1.2, 0.6  # of a mode's parts along its longest axis, standard deviations
_EM_STEPS = 4  # of expectation and maximization, for each round's draws
_KNOWN = 4.0  # effective draws a dimension by which half of what a component was is forgotten


@dataclass(frozen=True)
class StudentMixture:
    """For each of B measurements a density over charts and their coordinates.

    Each component is a density on the d_k coordinates of its chart; the others are 0.

    Attributes:
        chart: of each component, ``(B, M)``.
        active: which coordinates its chart has, ``(B, M, d)``, boolean.
        mean: ``(B, M, d)``.
        factor: L of each component's scale matrix ``L L^T``, ``(B, M, d, d)``; 1 on the diagonal of
            coordinates that the chart does not have.
        weight: ``(B, M)``, 0 for none.
        dtype: of the points that are drawn.
    """

    chart: Tensor
    active: Tensor
    mean: Tensor
    factor: Tensor
    weight: Tensor
    dtype: torch.dtype

    @classmethod
    def of(cls, approximation: Laplace) -> StudentMixture:
        """A component at each mode."""
        active = approximation.problem.prior.active(approximation.chart)
        unused = torch.diag_embed((~active).to(approximation.covariance))
        return cls(
            chart=approximation.chart,
            active=active,
            mean=approximation.mean,
            factor=torch.linalg.cholesky(approximation.covariance + unused),
            weight=approximation.weights,
            dtype=approximation.problem.prior.dtype,
        )

    def __len__(self) -> int:
        return len(self.chart)

    @property
    def df(self) -> Tensor:
        """Degrees of freedom of each, ``(B, M)``."""
        return self.active.sum(2) + _DF

    @property
    def log_weight(self) -> Tensor:
        """With the share that all have alike; -inf for none: ``(B, M)``."""
        real = (self.weight > 0).to(self.weight)
        even = real / real.sum(1, keepdim=True)
        return ((1 - _EVEN) * self.weight + _EVEN * even).log()

    def sample(self, each: int, source: torch.Generator) -> Point:
        """So many points for each measurement in turn."""
        modes = torch.multinomial(self.log_weight.exp(), each, replacement=True, generator=source)
        rows = torch.arange(len(self), device=modes.device).repeat_interleave(each)
        modes = modes.flatten()
        d, df = self.mean.shape[2], self.df[rows, modes].unsqueeze(1)
        away = normal((len(rows), d), self.mean, source) * self.active[rows, modes]
        counts = torch.arange(d + _DF, device=rows.device) < df
        squares = normal(counts.shape, self.mean, source).square() * counts
        away = (self.factor[rows, modes] @ away.unsqueeze(2)).squeeze(2)
        z = self.mean[rows, modes] + away / (squares.sum(1, keepdim=True) / df).sqrt()
        return Point(self.chart[rows, modes], z.to(self.dtype))

    def log_prob(self, point: Point) -> Tensor:
        """Logarithm of the density over charts and coordinates, as many points each: ``(B * n,)``."""
        log_each, _ = self._components(point)
        return log_each.logsumexp(dim=2).flatten()

    def _components(self, point: Point) -> tuple[Tensor, Tensor]:
        """Log-densities of weighted components at ``(B * n)`` points, squared distances: ``(B, n, M)``."""
        d, df = self.active.sum(2), self.df.double()
        z = point.z.double().unflatten(0, (len(self), -1))
        away = (z.unsqueeze(2) - self.mean.unsqueeze(1)).permute(0, 2, 3, 1)  # (B, M, d, n)
        white = torch.linalg.solve_triangular(self.factor, away, upper=False)
        squared = white.square().sum(2).mT
        constant = ((df + d) / 2).lgamma() - (df / 2).lgamma() - 0.5 * d * (df * pi).log()
        size = self.factor.diagonal(dim1=2, dim2=3).log().sum(2)
        tail = -0.5 * (df + d).unsqueeze(1) * (squared / df.unsqueeze(1)).log1p()
        each = (constant - size + self.log_weight).unsqueeze(1) + tail
        there = self.chart.unsqueeze(1) == point.chart.unflatten(0, (len(self), -1)).unsqueeze(2)
        return torch.where(there, each, -torch.inf), squared

    def where(self, rows: Tensor, other: StudentMixture) -> StudentMixture:
        """This one for the measurements ``rows`` ``(B,)``, boolean, another for the rest."""

        def chosen(own: Tensor, others: Tensor) -> Tensor:
            return torch.where(rows.view(-1, *[1] * (own.ndim - 1)), own, others)

        return replace(
            self,
            mean=chosen(self.mean, other.mean),
            factor=chosen(self.factor, other.factor),
            weight=chosen(self.weight, other.weight),
        )

    # Adaptation -----------------------------------------------------------------------------------

    def divided(self) -> StudentMixture:
        """Each component as three, side by side along its longest axis: bent posteriors need several."""
        covariance = self.factor @ self.factor.mT
        own = self.active.unsqueeze(2) & self.active.unsqueeze(3)
        values, axes = torch.linalg.eigh(torch.where(own, covariance, 0.0))
        longest = values[..., -1].clamp(min=0).sqrt().unsqueeze(2) * axes[..., -1]
        along = longest.unsqueeze(3) * longest.unsqueeze(2)
        factor = torch.linalg.cholesky(covariance - (1 - _NARROWER**2) * along)
        steps = (0.0, -_APART, _APART)
        return StudentMixture(
            chart=self.chart.repeat(1, 3),
            active=self.active.repeat(1, 3, 1),
            mean=torch.cat([self.mean + step * longest for step in steps], dim=1),
            factor=factor.repeat(1, 3, 1, 1),
            weight=self.weight.repeat(1, 3) / 3,
            dtype=self.dtype,
        )

    def fitted(self, point: Point, log_mass: Tensor) -> StudentMixture:
        """Moved towards a distribution that weighted points stand for, by expectation and maximization.

        A component keeps the more of what it was the fewer points speak for it.

        Args:
            point: n for each measurement, ``(B * n)``.
            log_mass: logarithms of their weights, ``(B, n)``.
        """
        mixture, z = self, point.z.double().unflatten(0, (len(self), -1))
        mass = log_mass.softmax(1).unsqueeze(2)
        for _ in range(_EM_STEPS):
            log_each, squared = mixture._components(point)
            d, df = mixture.active.sum(2).unsqueeze(1), mixture.df.unsqueeze(1)
            share = mass * log_each.softmax(2).nan_to_num(nan=0.0)
            total = share.sum(1)
            effective = total.square() / share.square().sum(1).clamp(min=1e-300)
            new = effective / (effective + _KNOWN * (d[:, 0] + 1))
            scaled = share * (df + d) / (df + squared)
            size = scaled.sum(1).clamp(min=1e-300)
            mean = torch.einsum("bnm,bnd->bmd", scaled, z) / size.unsqueeze(2)
            mean = mixture.mean + new.unsqueeze(2) * (mean - mixture.mean)
            away = z.unsqueeze(2) - mean.unsqueeze(1)
            scatter = torch.einsum("bnm,bnmi,bnmj->bmij", scaled, away, away)
            scatter = scatter / total.clamp(min=1e-300)[..., None, None]
            old = mixture.factor @ mixture.factor.mT
            own = mixture.active.unsqueeze(2) & mixture.active.unsqueeze(3)
            blend = torch.where(own, new[..., None, None], 0.0)
            factor, failed = torch.linalg.cholesky_ex(old + blend * (scatter - old))
            factor = torch.where((failed > 0)[..., None, None], mixture.factor, factor)
            mixture = replace(mixture, mean=mean, factor=factor, weight=total)
        return mixture


def adapted(
    mixture: StudentMixture, problem: Problem, rounds: int, each: int, source: torch.Generator
) -> StudentMixture:
    """The mixture fitted to the posteriors by importance sampling, in rounds that draw from the last one.

    All rounds' draws count, weighed by the mean of all proposals so far. (Cappé and others, Stat. Comput. 18,
    2008; Cornuet and others, Scand. J. Stat. 39, 2012.)

    Args:
        mixture: the first proposal.
        problem: of B measurements.
        rounds: how many.
        each: draws of a round, for each measurement.
        source: of random numbers.
    """
    batch, proposals = len(problem), [mixture]
    members = problem.select(
        torch.arange(batch, device=problem.measurement.device).repeat_interleave(each)
    )
    points: list[Point] = []
    targets: list[Tensor] = []
    for _ in range(rounds):
        points.append(proposals[-1].sample(each, source))
        targets.append(_log_target(members, points[-1]).unflatten(0, (batch, each)))
        every = _joined(points, batch)
        proposed = torch.stack([p.log_prob(every) for p in proposals]).logsumexp(0)
        log_mass = torch.cat(targets, dim=1) - proposed.unflatten(0, (batch, -1))
        known = torch.isfinite(log_mass).any(1)
        log_mass = torch.where(known.unsqueeze(1), log_mass, 0.0)
        new = proposals[0].fitted(every, log_mass)
        proposals.append(new.where(known, proposals[-1]))
    return proposals[-1]


def _joined(points: list[Point], batch: int) -> Point:
    """The points of all rounds, one measurement after the other."""
    chart = torch.cat([p.chart.unflatten(0, (batch, -1)) for p in points], dim=1)
    z = torch.cat([p.z.unflatten(0, (batch, -1)) for p in points], dim=1)
    return Point(chart.flatten(), z.flatten(0, 1))


def _log_target(problem: Problem, point: Point) -> Tensor:
    """Logarithm of the posterior's density, -inf where it is 0 or not defined."""
    found = evaluate_in_box(problem, point)
    log_density = torch.full_like(point.z[:, 0], -torch.inf, dtype=torch.float64)
    if found is None:
        return log_density
    rows, trial, _ = found
    return log_density.index_copy(0, rows, -trial.objective.double().nan_to_num(nan=torch.inf))


def evaluate_in_box(problem: Problem, point: Point) -> tuple[Tensor, Trial, Tensor] | None:
    """What :func:`evaluate` returns for the points that lie in the latent box."""
    inside = in_box(problem, point.chart, point.z).nonzero().squeeze(1)
    if len(inside) == 0:
        return None
    found = evaluate(problem.select(inside), point.select(inside))
    return None if found is None else (inside[found[0]], *found[1:])


def normal(shape: tuple[int, ...], like: Tensor, source: torch.Generator) -> Tensor:
    """Standard normal numbers."""
    return like.new_empty(shape).normal_(generator=source)
