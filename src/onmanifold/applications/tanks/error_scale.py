"""The size of the model's errors, found together with the scene."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from math import erfc, log, sqrt

import torch
from torch import Tensor

from onmanifold import Fidelity, InconsistentWarning, Point
from onmanifold.operators.eit.measurements.approximation_error import (
    LOG_SCALE_STD,
    ApproximationError,
)
from onmanifold.posterior import Laplace
from onmanifold.posterior.target import warn_inconsistent
from onmanifold.solution import UNLIKELY

_ROUNDS = 3  # searches at most
_ENOUGH = log(1.2)  # a smaller change of the scale changes no scene
Search = Callable[[Fidelity, Point | None], Laplace]


def scaled_posterior(errors: ApproximationError, search: Search) -> tuple[Laplace, float]:
    """The posterior over scenes where the size of the model's errors is unknown, and that size.

    It alternates: a search for scenes with errors of a size, then the size that explains what the best scene
    leaves, until that changes by less than a fifth. The posterior takes the size as if it were known.
    Sizes below the expected one are not used: where the model's errors are few but concentrated, the
    covariance would promise more than it holds, and scenes would get objects that are not there.

    Args:
        errors: of the expected size.
        search: the posterior for a data term, from initial points or from its own.

    Returns:
        The posterior, and how many times as large as expected errors are.

    Warns:
        InconsistentWarning: errors of that size are improbable.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentWarning)  # of a size that is not the last word
        used, found = 1.0, search(errors.fidelity(), None)
        scale = errors.matching_scale(_left(found))
        for _ in range(_ROUNDS - 1):
            wanted = max(1.0, scale)
            if abs(log(wanted / used)) < _ENOUGH:
                break
            used, found = wanted, search(errors.fidelity(wanted), _modes(found))
            scale = errors.matching_scale(_left(found))
    warn_inconsistent(torch.tensor([probability_of_scale(scale) >= UNLIKELY]))
    return found, scale


def probability_of_scale(scale: float) -> float:
    """How probable errors are that are at least so many times as large as expected.

    Example:
        >>> probability_of_scale(1.0), round(probability_of_scale(3.0), 3)
        (0.5, 0.014)
    """
    return erfc(log(scale) / LOG_SCALE_STD / sqrt(2)) / 2


def _modes(posterior: Laplace) -> Point:
    rows = torch.isfinite(posterior.log_mass[0])
    prior = posterior.problem.prior
    return Point(posterior.chart[0, rows], posterior.mode[0, rows].to(prior.dtype))


@torch.no_grad()
def _left(posterior: Laplace) -> Tensor:
    """What the best mode leaves of the data, ``(m,)``."""
    problem = posterior.problem
    best = _modes(posterior).select(torch.tensor([0]))
    return (problem.measurement - problem.operator.A(problem.prior.decode(best))).flatten()
