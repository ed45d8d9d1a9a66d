"""Laplace's approximation: a normal component at each mode, weighted by its evidence."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from onmanifold import geometry
from onmanifold.checks import as_generator, check_count
from onmanifold.descent.problem import Problem
from onmanifold.errors import InputError
from onmanifold.evaluation_mode import computing
from onmanifold.fidelity import p_value
from onmanifold.in_kind import in_kind
from onmanifold.posterior.base import Posterior, off_manifold
from onmanifold.posterior.component import TwoPieceNormal, component_at
from onmanifold.posterior.modes import find_modes
from onmanifold.posterior.target import (
    LocalModel,
    box_of,
    converged_problem,
    in_box,
    warn_inconsistent,
)
from onmanifold.prior import Point
from onmanifold.solution import Solution

_REDRAWS = 20  # of samples that fell out of the latent box
_SEEN = 1e-8  # weight below which a mode is not decoded


@dataclass(frozen=True, repr=False)
class Laplace(Posterior):
    """The posterior over (chart, z) of B measurements as a mixture of normal components, one at each mode.

    Around a mode ``z*`` of chart k the objective ``f = Phi(A(D_k(z)), y) - log q_k(z)`` is replaced by
    ``f(z*) + v.H v / 2`` with ``H`` the Gauss-Newton curvature of Phi plus the positive part of the Hessian
    of ``-log q``, so that the mode has the covariance ``H^-1`` and the log-evidence
    ``-f(z*) + d_k/2 log(2 pi) - 1/2 log det H``, all over the chart's own d_k coordinates. In directions
    that data and prior leave open, the curvature is that of a uniform density on the latent box.
    (:func:`~onmanifold.posterior.explore` measures the widths along the axes of ``H^-1`` instead: its
    components are two-piece normal.)

    Charts that overlap both carry mass, as they do in the prior: the same ``x`` is then two modes, one in
    each chart. Weights and evidences compare charts rightly where each ``q_k`` is a density times its
    mixture weight, as in an atlas; the likelihood's constants (``(2 pi std^2)^(-m/2)``), which are not in
    Phi, are the same for all charts and missing in the evidence.

    A coordinate whose mode lies on the border of the box has a truncated normal component, with the slope
    that the objective has, independent of other such coordinates; the free ones follow it as H says.
    Mass beyond other borders is not taken off the evidence.

    Attributes:
        chart: chart of each of M modes, the best first, ``(B, M)``; where a measurement has fewer its
            first is repeated, without mass.
        mode: where the density is highest, ``(B, M, d)``, float64.
        covariance: of each mode's component, ``(B, M, d, d)``, float64; 0 for coordinates that its chart
            does not have.
        mean: its mean, the mode itself unless that lies on the border or its component has two widths,
            ``(B, M, d)``, float64.
        log_mass: each mode's evidence, ``(B, M)``, -inf without mass.

    Example:
        >>> import torch
        >>> from onmanifold import Gaussian, solve
        >>> from onmanifold import load_prior
        >>> from onmanifold.posterior import laplace
        >>> prior = load_prior("two-circles")
        >>> y = torch.tensor([[1.5]])  # the first coordinate: a point below, or one above
        >>> solution = solve(lambda x: x[:, :1], y, prior, fidelity=Gaussian(0.05))
        >>> laplace(solution).std().shape
        torch.Size([1, 2])
    """

    chart: Tensor
    mode: Tensor
    mean: Tensor
    covariance: Tensor
    log_mass: Tensor
    _components: TwoPieceNormal = field(repr=False)

    def _columns(self) -> dict[str, list[str]]:
        modes = (self.weights > _SEEN).sum(1)
        chart, share = self.chart[:, 0].tolist(), self.weights[:, 0].tolist()
        return {
            "modes": [str(n) for n in modes.tolist()],
            "best in chart": [str(k) for k in chart],
            "its share": [f"{s:.2f}" for s in share],
            "std, median": [f"{float(s.median()):.3g}" for s in self.std()],
        }

    @property
    def weights(self) -> Tensor:
        """Each mode's share of the mass, ``(B, M)``, float64; rows sum to one."""
        return self.log_mass.softmax(dim=1)

    @property
    def log_evidence(self) -> Tensor:
        """Logarithm of the integral of ``q_k exp(-Phi)`` over each chart, -inf without a mode: ``(B, K)``."""
        charts = range(self.problem.prior.num_charts)
        each = [torch.where(self.chart == k, self.log_mass, -torch.inf) for k in charts]
        return torch.stack(each, dim=1).logsumexp(dim=2)

    @property
    def total_log_evidence(self) -> Tensor:
        """The same over all charts, ``(B,)``."""
        return self.log_mass.logsumexp(dim=1)

    @property
    def chart_probabilities(self) -> Tensor:
        """Probability of each chart, ``(B, K)``, float64."""
        share = self.weights.new_zeros(len(self), self.problem.prior.num_charts)
        return share.scatter_add_(1, self.chart, self.weights)

    @torch.no_grad()
    def std(self) -> Tensor:
        """Standard deviation of each entry of x, ``(B, *x_shape)``.

        By the law of total variance: ``J C J^T`` within each mode, with the decoder's Jacobian, plus the
        scatter of the modes, plus the variance of the prior's decoder error where that is known.
        """
        prior = self.problem.prior
        weights = self.weights.to(prior.dtype)
        chosen = weights > _SEEN
        point = Point(self.chart[chosen], self.mean[chosen].to(prior.dtype))
        with computing(prior):
            x, columns = geometry.decode_with_jacobian(prior, point)
        root = self._components.root()[chosen].to(prior.dtype)
        within = torch.einsum("nd...,nde->ne...", columns, root).square().sum(1)
        owner = chosen.nonzero()[:, 0]
        weight = weights[chosen].view(-1, *[1] * len(prior.x_shape))
        none = x.new_zeros(len(self), *prior.x_shape)
        mean = none.index_add(0, owner, weight * x)
        between = (x - mean[owner]).square()
        total = none.index_add(0, owner, weight * (within + between))
        return (total + off_manifold(prior)).sqrt()

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Point:
        """``n`` points for each measurement in turn, B * n in all, inside the latent box."""
        check_count(n, "n")
        source = as_generator(generator, self.mode.device)
        modes = torch.multinomial(self.weights, n, replacement=True, generator=source)
        return self._draw(modes, source)

    def x(self, n: int, generator: torch.Generator | int | None = None) -> Tensor:
        """``n`` samples of each x, ``(B, n, *x_shape)``."""
        return self._decode(self.sample(n, generator))

    @torch.no_grad()
    def interval(
        self, level: float = 0.9, draws: int = 1000, generator: torch.Generator | int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Central intervals of each entry of x, two ``(B, *x_shape)``, by decoded samples."""
        return self._interval(self.sample(draws, generator), level)

    @torch.no_grad()
    def latent_interval(
        self, level: float = 0.9, draws: int = 1000, generator: torch.Generator | int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Central intervals of the coordinates in each chart, given that the point lies in it.

        By ``draws`` samples of each mode: two ``(B, K, d)``, NaN for charts without a mode and for
        coordinates that a chart does not have.
        """
        check_count(draws, "draws")
        source = as_generator(generator, self.mode.device)
        every = torch.arange(self.mode.shape[1], device=source.device).repeat_interleave(draws)
        point = self._draw(every.expand(len(self), -1), source)
        share = (self.log_mass - self.log_evidence.gather(1, self.chart)).exp()
        return self._latent_interval(point, share[:, every].to(point.z), level)

    def _draw(self, modes: Tensor, source: torch.Generator) -> Point:
        """A sample of each of the modes ``(B, n)``, drawn again where it falls out of the box."""
        prior = self.problem.prior
        rows = torch.arange(len(modes), device=modes.device).unsqueeze(1)
        chart, components = self.chart[rows, modes], self._components.select((rows, modes))
        z = components.sample(source)
        for _ in range(_REDRAWS):
            inside = in_box(self.problem, chart, z)
            z = torch.where(inside.unsqueeze(-1), z, components.sample(source))
        return prior.clamp(Point(chart.flatten(), z.flatten(0, 1).to(prior.dtype)))


@in_kind
def laplace(solution: Solution) -> Laplace:
    """Approximate the posterior of ``solution`` by a normal component at each mode; see :class:`Laplace`.

    The modes are those that the starts ended in, each descended on and looked at from every other chart;
    two of a chart that are nearer than two standard deviations are one.

    Warns:
        InconsistentWarning: the best mode of some measurement is inconsistent with the noise.

    Raises:
        TypeError: ``solution`` is not what :func:`~onmanifold.solve` returns.
        ValueError: it carries no problem (it was stored and loaded), was solved without a noise level or
            with a ``prior_weight`` other than 1, a measurement's starts all failed, or neither data nor
            prior nor box confine the posterior.
    """
    found = approximate(solution)
    warn_inconsistent(found.consistent)
    return found


def approximate(solution: Solution) -> Laplace:
    """The same, without a word on what is inconsistent: the caller shows it."""
    problem = converged_problem(solution)
    with computing(problem.prior):
        modes, table = find_modes(problem, solution)
    _check_confined(problem, modes)
    return mixture(problem, modes, component_at(problem, modes), table)


def _check_confined(problem: Problem, modes: LocalModel) -> None:
    if bool(torch.isfinite(box_of(problem, modes.point.chart)).all()):
        return
    active = problem.prior.active(modes.point.chart)
    values = torch.linalg.eigvalsh(geometry.filled(modes.hessian, active))
    if bool((values[:, 0] <= 1e-12 * values[:, -1]).any()):
        raise InputError(
            "the posterior has a direction that neither the data nor the prior confines: give the prior "
            "a finite box, or a density that falls"
        )


def mixture(
    problem: Problem, modes: LocalModel, components: TwoPieceNormal, table: Tensor
) -> Laplace:
    """The components at modes, those of each measurement in a row of ``table``, filled up by -1."""
    log_mass = components.log_mass() - modes.objective
    order = torch.where(table < 0, table[:, :1], table)
    log_mass = torch.where(table < 0, -torch.inf, log_mass[order])
    best = order.gather(1, log_mass.argmax(dim=1, keepdim=True)).squeeze(1)
    each = components.select(order)
    return Laplace(
        problem=problem,
        p_value=p_value(problem.fidelity, modes.misfit[best], problem.measurement),
        chart=modes.point.chart[order],
        mode=each.mode,
        mean=each.mean(),
        covariance=each.root() @ each.root().mT,
        log_mass=log_mass,
        _components=each,
    )
