"""The draws of a sampler, and whether its chains have mixed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onmanifold.checks import check_count
from onmanifold.errors import InputError, MissingPackage
from onmanifold.posterior.base import Posterior
from onmanifold.prior import Point

MIXED = 1.01  # largest R-hat at which chains pass for having mixed


class NotMixed(UserWarning):
    """The chains of some measurements do not agree yet: their R-hat exceeds 1.01."""


@dataclass(frozen=True, repr=False)
class PosteriorSamples(Posterior):
    """Draws from the posteriors of B measurements: C chains of N draws each.

    Attributes:
        chart: ``(B, C, N)``, integer.
        z: latent coordinates there, ``(B, C, N, d)``.
        log_density: logarithm of the posterior's density over (chart, z), up to a constant, ``(B, C, N)``.
        projections: x along some random directions, the same in all charts, ``(B, C, N, P)``.
        mean: of all draws of x, ``(B, *x_shape)``.
        std: their standard deviation, ``(B, *x_shape)``.
        step: length of the local moves, in standard deviations, ``(B,)``.
        local_acceptance: share of the local moves that were accepted, ``(B,)``.
        global_acceptance: share of the global ones, ``(B,)``.
        operator_calls: linearizations of the operator, warm-up included, ``(B,)``, integer.
        seconds: wall time.
    """

    chart: Tensor
    z: Tensor
    log_density: Tensor
    projections: Tensor
    mean: Tensor
    std: Tensor
    step: Tensor
    local_acceptance: Tensor
    global_acceptance: Tensor
    operator_calls: Tensor
    seconds: float

    @cached_property
    def rhat(self) -> Tensor:
        """R-hat by ranks (Vehtari and others, Bayesian Analysis 16, 2021), ``(B, 1 + P)``.

        Of ``log_density`` and each of ``projections``, which mean the same in all charts; infinite for
        chains that do not move.
        """
        return self._diagnose("rhat").nan_to_num(nan=torch.inf)

    @cached_property
    def ess(self) -> Tensor:
        """Effective number of draws of all chains together, of the same quantities, ``(B, 1 + P)``."""
        return self._diagnose("ess")

    @property
    def mixed(self) -> Tensor:
        """Whether no R-hat of a measurement exceeds 1.01, ``(B,)``, boolean."""
        return (self.rhat <= MIXED).all(dim=1)

    @property
    def chart_probabilities(self) -> Tensor:
        """Share of the draws in each chart, ``(B, K)``."""
        charts = torch.arange(self.problem.prior.num_charts, device=self.chart.device)
        return (self.chart.flatten(1).unsqueeze(2) == charts).to(self.z.dtype).mean(dim=1)

    def x(self, n: int) -> Tensor:
        """``n`` draws of each x, evenly spread over all chains, ``(B, n, *x_shape)``."""
        return self._decode(self.points(n))

    def points(self, n: int) -> Point:
        """``n`` draws for each measurement in turn, B * n, evenly spread over all chains."""
        check_count(n, "n")
        chart, z = self.chart.flatten(1), self.z.flatten(1, 2)
        if n > chart.shape[1]:
            raise InputError(f"n is {n}, there are {chart.shape[1]} draws of each measurement")
        some = torch.linspace(0, chart.shape[1] - 1, n, device=z.device).round().long()
        return Point(chart[:, some].flatten(), z[:, some].flatten(0, 1))

    def interval(self, level: float = 0.9, draws: int = 1000) -> tuple[Tensor, Tensor]:
        """Central intervals of each entry of x, two ``(B, *x_shape)``.

        Args:
            level: share of the posterior inside.
            draws: how many to decode, all if there are fewer.
        """
        check_count(draws, "draws")
        return self._interval(self.points(min(draws, self.chart[0].numel())), level)

    def latent_interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Central intervals of the coordinates in each chart, given that the point lies in it.

        Two ``(B, K, d)``, NaN for charts without a draw and for coordinates that a chart does not have.
        """
        point = Point(self.chart.flatten(), self.z.flatten(0, 2))
        return self._latent_interval(point, torch.ones_like(self.z[..., 0]).flatten(1), level)

    def summary(self) -> str:
        """A line for each measurement."""
        count = f"{int(self.mixed.sum())} of {len(self)} mixed"
        return f"{self._table().text()}\n{count}"

    def _columns(self) -> dict[str, list[str]]:
        each = {
            "R-hat": (self.rhat.amax(dim=1), ".3f"),
            "least ESS": (self.ess.amin(dim=1), ".0f"),
            "step": (self.step, ".2f"),
            "local acc.": (self.local_acceptance, ".2f"),
            "global": (self.global_acceptance, ".2f"),
            "calls": (self.operator_calls, "d"),
        }
        return {
            name: [format(v, form) for v in values.tolist()]
            for name, (values, form) in each.items()
        }

    def _diagnose(self, name: str) -> Tensor:
        values = torch.cat([self.log_density.unsqueeze(3), self.projections], dim=3)
        ordered = values.double().permute(0, 3, 1, 2).cpu().numpy()
        with np.errstate(invalid="ignore", divide="ignore"):  # chains that do not move
            result = getattr(diagnostics(), name)(ordered, chain_axis=-2, draw_axis=-1)
        return torch.as_tensor(result)


def diagnostics() -> Any:
    """ArviZ's statistics of arrays.

    Raises:
        ImportError: it is not installed.
    """
    try:
        from arviz_stats.base.array import array_stats
    except ImportError as error:
        raise MissingPackage(
            "R-hat and effective sample sizes need arviz-stats: install onmanifold[posterior]"
        ) from error
    return array_stats
