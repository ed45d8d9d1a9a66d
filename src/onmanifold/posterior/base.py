"""What every description of a posterior has, and central credible intervals of many draws."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from onmanifold.checks import check_number
from onmanifold.descent.problem import Problem
from onmanifold.evaluation_mode import computing
from onmanifold.in_kind import Result
from onmanifold.printing import MOST, Table
from onmanifold.prior import ManifoldPrior, Point
from onmanifold.solution import UNLIKELY, consistency

_PIXELS = 2**12  # sorted at once


@dataclass(frozen=True, repr=False)
class Posterior(Result):
    """The posterior over (chart, z) of B measurements.

    It prints as a table of at most ten measurements, in a notebook, too.

    Attributes:
        problem: what was solved.
        p_value: probability that noise alone makes a misfit at least as large as that of the
            highest-evidence mode, ``(B,)``; NaN where the fidelity does not say.
    """

    problem: Problem = field(repr=False)
    p_value: Tensor

    def __len__(self) -> int:
        return len(self.p_value)

    @property
    def consistent(self) -> Tensor:
        """Whether the data are consistent with the posterior's best mode, ``(B,)``, boolean.

        False where ``p_value`` is below 0.01: then the posterior weighs explanations of which none fits.
        """
        return ~(self.p_value < UNLIKELY)

    def __repr__(self) -> str:
        return f"{self._title()}\n{self._table().text(MOST)}"

    def _repr_html_(self) -> str:
        return self._table().html(self._title(), MOST)

    def _title(self) -> str:
        number = f"{len(self)} measurement{'s' * (len(self) != 1)}"
        return f"{type(self).__name__} of {number}, x {tuple(self.problem.prior.x_shape)}"

    def _columns(self) -> dict[str, list[str]]:
        """What a subclass lists of each measurement, by name."""
        return {}

    def _table(self) -> Table:
        p, fits = zip(*(consistency(float(p)) for p in self.p_value), strict=True)
        numbers = [str(b) for b in range(len(self))]
        columns = {"": numbers, **self._columns(), "p-value": p, "consistent": fits}
        return Table([*columns], [*zip(*columns.values(), strict=True)])

    def _decode(self, point: Point) -> Tensor:
        """The same number n of points for each measurement in turn, decoded: ``(B, n, *x_shape)``."""
        prior = self.problem.prior
        with computing(prior):
            return prior.decode(point).view(len(self), -1, *prior.x_shape)

    def _interval(self, draws: Point, level: float) -> tuple[Tensor, Tensor]:
        """Intervals of the entries of x, from the same number of draws for each measurement in turn."""
        prior, sides = self.problem.prior, []
        for rows in torch.arange(len(draws), device=draws.z.device).view(len(self), -1):
            with computing(prior):
                x = prior.decode(draws.select(rows))
                if prior.decoder_error is not None:
                    x = x + prior.decoder_error.sample(len(rows), 0)
            x = x.flatten(1).mT
            even = x.new_ones(1, len(rows))
            parts = [torch.stack(central_interval(part, even, level)) for part in x.split(_PIXELS)]
            sides.append(torch.cat(parts, dim=1).reshape(2, *prior.x_shape))
        low, high = torch.stack(sides, dim=1)
        return low, high

    def _latent_interval(
        self, draws: Point, weights: Tensor, level: float
    ) -> tuple[Tensor, Tensor]:
        """Intervals of the coordinates in each chart, from weighted draws ``(B, N)`` in turn."""
        prior = self.problem.prior
        chart, z = draws.chart.view_as(weights), draws.z.view(*weights.shape, -1)
        values = z.mT.contiguous()
        charts = torch.arange(prior.num_charts, device=chart.device)
        sides = [
            central_interval(values, torch.where(chart == k, weights, 0.0).unsqueeze(1), level)
            for k in charts
        ]
        low, high = (torch.stack(ends, dim=1) for ends in zip(*sides, strict=True))
        active = prior.active(charts)
        return torch.where(active, low, torch.nan), torch.where(active, high, torch.nan)


def off_manifold(prior: ManifoldPrior) -> Tensor | float:
    """The variance of each entry by the prior's decoder error, ``x_shape``; 0 where it is not known."""
    return 0.0 if prior.decoder_error is None else prior.decoder_error.variance


def central_interval(values: Tensor, weights: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """Ends of the interval that leaves ``(1 - level) / 2`` of the weight on either side.

    Args:
        values: draws along the last axis, ``(..., N)``.
        weights: theirs, broadcasts to the values; no weight at all gives NaN.
        level: share of the weight inside.

    Returns:
        Lower and upper ends, ``(...)`` each.
    """
    check_number(level, "level", 0.0, 1.0)
    ordered, order = values.sort(dim=-1)
    mass = weights.expand_as(values).gather(-1, order).cumsum(-1)
    total = mass[..., -1:]
    ends = []
    for share in ((1 - level) / 2, (1 + level) / 2):
        at = torch.searchsorted(mass, share * total).clamp(max=values.shape[-1] - 1)
        ends.append(torch.where(total > 0, ordered.gather(-1, at), torch.nan).squeeze(-1))
    return ends[0], ends[1]
