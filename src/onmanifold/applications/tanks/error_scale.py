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
    ErrorScale,
)
from onmanifold.posterior import Laplace
from onmanifold.posterior.target import warn_inconsistent
from onmanifold.solution import UNLIKELY

_ROUNDS = 3  # searches at most
_ENOUGH = log(1.2)  # a smaller change of the size of shared errors changes no scene
Search = Callable[[Fidelity, Point | None], Laplace]


def scaled_posterior(errors: ApproximationError, search: Search) -> tuple[Laplace, ErrorScale]:
    """The posterior over scenes where the size of the model's errors is unknown, and that size.

    It alternates: a search for scenes with errors of a size, then the size that explains what the best scene
    leaves, until that of shared errors changes by less than a fifth. The posterior takes the size as if it
    were known: hundreds of combinations of voltages tell it. Sizes below the expected one are not used: what
    shapes off the manifold leave of the data is no such error, and scenes would get objects that are not
    there.

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
        used, found = ErrorScale(), search(errors.fidelity(), None)
        scale = errors.likeliest_scale(_left(found))
        for _ in range(_ROUNDS - 1):
            wanted = scale._replace(shared=max(1.0, scale.shared))
            if abs(log(wanted.shared / used.shared)) < _ENOUGH:
                break
            used, found = wanted, search(errors.fidelity(wanted), _modes(found))
            scale = errors.likeliest_scale(_left(found))
    warn_inconsistent(torch.tensor([probability_of_scale(scale) >= UNLIKELY]))
    return found, scale


def probability_of_scale(scale: ErrorScale) -> float:
    """How probable errors are that are at least so large: the more improbable of both kinds, counted twice.

    Example:
        >>> probability_of_scale(ErrorScale(1.0, 0.5)), round(probability_of_scale(ErrorScale(3.0, 0.5)), 3)
        (1.0, 0.028)
    """
    return min(1.0, erfc(log(max(scale)) / LOG_SCALE_STD / sqrt(2)))


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
