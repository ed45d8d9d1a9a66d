"""A score test: does the residual of a solution show an image off the manifold?"""

from __future__ import annotations

import torch
from torch import Tensor

from onmanifold.checks import as_generator, check_count
from onmanifold.descent.problem import Problem
from onmanifold.errors import InputError
from onmanifold.evaluation_mode import computing
from onmanifold.fidelity import CorrelatedGaussian, Gaussian, Poisson
from onmanifold.fidelity.inexact import InexactModel
from onmanifold.geometry import decode_with_jacobian, solve_spd
from onmanifold.in_kind import in_kind
from onmanifold.operator import Linearization, linearize
from onmanifold.prior import Point
from onmanifold.solution import Solution

_BUDGET = 2**23  # numbers in the tangents that the operator sees at once


@in_kind
@torch.no_grad()
def score_test(solution: Solution, probes: int = 16) -> Tensor:
    """p-value of the score test of ``w = 0`` in ``x = D_k(z) + w``, with white w off the manifold.

    ``solution.p_value`` weighs all entries of a measurement alike. A smoothing operator makes only few
    combinations of entries depend on x. A model error is visible in these alone, and ``p_value`` hides it in
    the noise of all others. This test maps the residual to the image space, ``s = A'^T grad Phi``, and sums
    the squares of its part normal to the manifold. For small w no test is more powerful. Under the noise
    alone the sum is close to a gamma variable. Its moments follow from traces of ``A'^T F A'`` (F is the
    Fisher information), estimated with random probes. The operator is linearized at the solution.

    Source: X. Lin, Variance component testing in generalised linear models with random effects, Biometrika
    84 (1997); for the traces R. Meyer and others, Hutch++: optimal stochastic trace estimation, SOSA (2021).

    Args:
        solution: of :func:`onmanifold.solve`, with :class:`Gaussian`, :class:`CorrelatedGaussian` or
            :class:`Poisson` fidelity.
        probes: number of random directions in the image space. The operator's derivative and adjoint are
            applied to three times as many. With 16 the p-values are accurate to a few percent.

    Returns:
        p-values, ``(B,)``; NaN where the operator sees no direction normal to the manifold.

    Raises:
        ValueError: the solution carries no problem, or one with another fidelity or none; ``probes`` below 1.

    Example:
        >>> import torch
        >>> from onmanifold import Gaussian, load_prior, solve
        >>> circles = load_prior("two-circles")
        >>> y = torch.tensor([[1.5, 1.0], [1.5, 2.0]])  # close to a circle, and between both
        >>> solution = solve(lambda x: x, y, circles, fidelity=Gaussian(0.1))
        >>> (score_test(solution) > 0.01).tolist()
        [True, False]
    """
    problem = _checked(solution)
    check_count(probes, "score_test: probes")
    n = solution.x[0].numel()
    source = as_generator(0, solution.x.device)
    random = solution.x.new_empty(2, probes, n).normal_(generator=source)
    each = max(_BUDGET // (probes * max(n, solution.measurement[0].numel())), 1)
    rows = torch.arange(len(solution), device=solution.x.device).split(each)
    with computing(problem.prior):
        return torch.cat([_Score(problem.select(r), solution, r).p_value(random) for r in rows])


def _checked(solution: Solution) -> Problem:
    problem = solution.problem
    if problem is None:
        raise InputError(
            "score_test: the solution carries no problem (a stored one does not): call solve() again"
        )
    known = isinstance(problem.fidelity, Gaussian | CorrelatedGaussian | InexactModel | Poisson)
    if not problem.noise_known or not known:
        got = type(problem.fidelity).__name__ if problem.noise_known else "none"
        raise InputError(
            "score_test: needs the noise's Fisher information, that is a Gaussian, CorrelatedGaussian or "
            f"Poisson fidelity; the solution has {got}"
        )
    return problem


class _Score:
    """The score of some measurements; images and their tangents are flat, of length n."""

    def __init__(self, problem: Problem, solution: Solution, rows: Tensor) -> None:
        self.problem = problem
        x, columns = decode_with_jacobian(
            problem.prior, Point(solution.chart[rows], solution.z[rows])
        )
        self.line: Linearization = linearize(problem.operator, x)
        self.shape = x.shape[1:]
        self.columns = columns.flatten(2)
        self.moved = self.information(self.columns)

    def information(self, v: Tensor) -> Tensor:
        """``A'^T F A' v``, ``(B, T, n)``."""
        tangents = self.line.jvp(v.reshape(*v.shape[:2], *self.shape))
        weighted = self.problem.fidelity.curvature(self.line.y, self.problem.measurement, tangents)
        return self.line.vjp(weighted).flatten(2)

    def off(self, w: Tensor) -> Tensor:
        """Scores ``w`` ``(B, T, n)``, projected off the tangent space."""
        metric = self.columns @ self.moved.mT
        return w - solve_spd(metric, self.columns @ w.mT).mT @ self.moved

    def p_value(self, random: Tensor) -> Tensor:
        """``(B,)``, by normal random numbers ``(2, probes, n)``."""
        gradient = self.problem.fidelity.gradient(self.line.y, self.problem.measurement)
        square = _total(self.off(self.line.vjp(gradient.unsqueeze(1)).flatten(2)).square())
        first, second = (r.expand(len(square), *r.shape) for r in random)
        seen = self.information(first)
        # Hutch++: the trace of the largest part is computed, that of the rest is estimated.
        basis = torch.linalg.qr(self.off(seen).mT).Q.mT
        rest = second - (second @ basis.mT) @ basis
        computed, estimated = (self.off(self.information(v)) for v in (basis, rest))
        probes = random.shape[1]
        mean = _total(basis * computed) + _total(rest * estimated) / probes
        half_variance = _total(computed.square()) + _total(estimated.square()) / probes
        rate = mean / (2 * half_variance)
        p = torch.special.gammaincc(rate * mean, rate * square)
        whole = _total(first * seen) / probes
        nothing = mean <= 100 * torch.finfo(seen.dtype).eps * whole
        return torch.where(nothing, torch.nan, p).to(seen.dtype)


def _total(values: Tensor) -> Tensor:
    return values.double().sum((1, 2))
