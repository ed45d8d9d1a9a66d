"""Rules that choose the weight of the latent density from the measurement: ``solve(prior_weight=...)``."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from onmanifold.checks import check_count, check_field, check_number
from onmanifold.errors import InputError
from onmanifold.solution import Solution

Attempt = Callable[[Tensor], Solution]


class WeightRule(ABC):
    """Chooses a weight for each measurement from solutions with other weights."""

    first: float = 1.0

    @abstractmethod
    def choose(self, solution: Solution, attempt: Attempt) -> Tensor:
        """The weights ``(B,)``.

        Args:
            solution: the one at the weight ``first``.
            attempt: takes weights ``(B,)`` and returns the solution, started at the last one's result.
        """


@dataclass(frozen=True)
class ByDiscrepancy(WeightRule):
    """The largest weight at which the misfit is at most the one expected of noise alone (Morozov).

    For a Gaussian fidelity: ``|A(x) - y|^2 / std^2 <= tau^2 m`` with m entries present. A measurement with
    no such weight gets the smallest; one for which all weights satisfy it gets the largest.

    Args:
        tau: factor by which the residual may exceed the one expected of noise.
        low: smallest weight.
        high: largest weight.
        rounds: solutions; each halves the interval, on a logarithmic scale.

    References:
        H. W. Engl, M. Hanke, A. Neubauer, Regularization of Inverse Problems (1996), section 4.3.

    Example:
        >>> ByDiscrepancy(tau=1.1)
        ByDiscrepancy(tau=1.1, low=0.0001, high=10000.0, rounds=10)
    """

    tau: float = 1.0
    low: float = 1e-4
    high: float = 1e4
    rounds: int = 10

    def __post_init__(self) -> None:
        check_field(self, "tau", check_number)
        check_field(self, "low", check_number, high=self.high)
        check_field(self, "rounds", check_count)

    def choose(self, solution: Solution, attempt: Attempt) -> Tensor:
        if bool(solution.expected_misfit.isnan().any()):
            raise InputError(
                "ByDiscrepancy: the fidelity does not know the misfit that noise causes; take one that "
                "does, such as Gaussian(std), or ByLCurve()"
            )
        weight = torch.full_like(solution.misfit, self.first)
        low, high = torch.full_like(weight, self.low), torch.full_like(weight, self.high)
        for _ in range(self.rounds):
            fits = solution.misfit <= self.tau**2 * solution.expected_misfit
            low, high = torch.where(fits, weight, low), torch.where(fits, high, weight)
            weight = (low * high).sqrt()
            solution = attempt(weight)
        return low


@dataclass(frozen=True)
class ByLCurve(WeightRule):
    """The weight at the corner of the L-curve: a smaller one hardly improves the fit, a larger one spoils it.

    The curve consists of the logarithms of the misfit and of the penalty ``-log q``, both scaled to [0, 1].
    The penalty is counted from d / 2 below its least value (the mean of a normal density). The corner is the
    point farthest from the line between the first and the last point. No noise level is needed beyond a
    scale of the fidelity.

    Args:
        low: smallest weight.
        high: largest weight.
        count: solutions, at weights spread evenly on a logarithmic scale.

    References:
        P. C. Hansen, Analysis of discrete ill-posed problems by means of the L-curve, SIAM Review 34 (1992);
        J. L. Castellanos, S. Gomez, V. Guerra, The triangle method for finding the corner of the L-curve,
        Appl. Numer. Math. 43 (2002).

    Example:
        >>> ByLCurve(count=9)
        ByLCurve(low=0.001, high=1000.0, count=9)
    """

    low: float = 1e-3
    high: float = 1e3
    count: int = 13

    def __post_init__(self) -> None:
        check_field(self, "low", check_number, high=self.high)
        check_field(self, "count", check_count, at_least=3)

    def choose(self, solution: Solution, attempt: Attempt) -> Tensor:
        low, high = math.log10(self.low), math.log10(self.high)
        weights = torch.logspace(high, low, self.count)
        fit, cost = [], []
        for weight in weights.to(solution.misfit):
            solution = attempt(torch.full_like(solution.misfit, float(weight)))
            fit.append(solution.misfit.clamp(min=torch.finfo(weight.dtype).tiny).log())
            cost.append((solution.objective - solution.misfit) / weight)
        costs = torch.stack(cost)
        assert solution.problem is not None
        dims = solution.problem.prior.active(solution.chart).sum(1)
        above = costs - costs.amin(dim=0) + dims.clamp(min=1) / 2
        at = _corner(_scaled(torch.stack(fit)), _scaled(above.log()))
        return weights.to(solution.misfit).index_select(0, at)


def _scaled(values: Tensor) -> Tensor:
    """Columns of ``(count, B)`` moved to [0, 1]."""
    low, high = values.aminmax(dim=0)
    scaled: Tensor = (values - low) / (high - low).clamp(min=torch.finfo(values.dtype).tiny)
    return scaled


def _corner(fit: Tensor, cost: Tensor) -> Tensor:
    """The row of ``(count, B)`` farthest below the line between first and last."""
    across, up = fit[-1] - fit[0], cost[-1] - cost[0]
    side = across * (cost - cost[0]) - up * (fit - fit[0])
    # From first to last the fit falls and the cost rises; the corner is on the side of the origin.
    farthest: Tensor = (side * torch.sign(across)).argmin(dim=0)
    return farthest
