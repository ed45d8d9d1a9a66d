"""The size of the model's errors, found together with the scene."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from math import erfc, log, sqrt

import torch
from torch import Tensor

from onmanifold import Fidelity, InconsistentWarning, Point
from onmanifold.operator import ForwardOperator, linearize
from onmanifold.operators.eit.measurements.approximation_error import (
    LOG_SCALE_STD,
    ApproximationError,
    ErrorScale,
)
from onmanifold.posterior import Laplace
from onmanifold.posterior.target import warn_inconsistent
from onmanifold.priors.nuisance import without_nuisance
from onmanifold.priors.scene import Scene, displaced_masks
from onmanifold.solution import UNLIKELY

_SEARCHES = 3  # at most
_ENOUGH = log(1.2)  # a smaller change of the size of shared errors changes no scene
_LEAST = 0.35  # times the expected size: errors are not taken to be smaller
# of what outlines are off the manifold, radii: that of outlines which it learned is 0.03, of others 0.09
_OFF, _LENGTH = 0.08, 0.2
Search = Callable[[Fidelity, Point | None], Laplace]
"""A search with a data term, from scenes or from initial points of its own."""


def scaled_posterior(
    errors: ApproximationError, search: Search, operator: ForwardOperator | None = None
) -> tuple[Laplace, ErrorScale]:
    """The posterior over scenes where the size of the model's errors is unknown, and that size.

    It alternates: a search for scenes with errors of a size, then the size that explains what the best scene
    leaves, until that of shared errors changes by less than a fifth. The posterior takes the size as if it
    were known: hundreds of combinations of voltages tell it.

    From the second search on, outlines off the manifold count as errors of known size: displacements of the
    best scene's edges (:func:`onmanifold.priors.scene.displaced_masks`). Without them, what a shape leaves of
    the data would be explained by objects that are not there, once errors of the model count as small. So
    shared errors count as smaller than expected only where the prior is of scenes.

    Args:
        errors: of the expected size.
        search: the posterior for a data term: :func:`tank_search`.
        operator: that the outlines' errors are computed with; by default the posterior's own.

    Returns:
        The posterior, and how many times as large as expected errors are.

    Warns:
        InconsistentWarning: errors of that size are improbable.
    """
    used, chart = ErrorScale(), None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentWarning)  # of a size that is not the last word
        found = search(errors.fidelity(), None)
        for searches in range(1, _SEARCHES + 1):
            best = modes_of(found).select(torch.tensor([0]))
            outlines = _outline_errors(found, best, operator)
            around = errors if outlines is None else errors.with_known(outlines)
            scale = around.likeliest_scale(_left(found, best))
            wanted = scale._replace(shared=max(scale.shared, 1.0))
            if outlines is not None:
                wanted = ErrorScale(*(max(size, _LEAST) for size in scale))
            new = outlines is not None and chart != int(best.chart)
            change = abs(log(wanted.shared / used.shared))
            if searches == _SEARCHES or not (new or change > _ENOUGH):
                break
            used, chart, before = wanted, int(best.chart), found
            found = search(around.fidelity(wanted), modes_of(before))
            found.problem.counts.add(before.problem.counts)
    warn_inconsistent(torch.tensor([probability_of_scale(scale) >= UNLIKELY]))
    return found, scale


def probability_of_scale(scale: ErrorScale) -> float:
    """How probable errors are that are at least so large: the more improbable of both kinds, counted twice.

    Example:
        >>> probability_of_scale(ErrorScale(1.0, 0.5)), round(probability_of_scale(ErrorScale(3.0, 0.5)), 3)
        (1.0, 0.028)
    """
    return min(1.0, erfc(log(max(scale)) / LOG_SCALE_STD / sqrt(2)))


def modes_of(posterior: Laplace) -> Point:
    """The modes of one measurement, the best first."""
    rows = torch.isfinite(posterior.log_mass[0])
    prior = posterior.problem.prior
    return Point(posterior.chart[0, rows], posterior.mode[0, rows].to(prior.dtype))


@torch.no_grad()
def _left(posterior: Laplace, point: Point) -> Tensor:
    """What a scene leaves of the data, ``(m,)``."""
    problem = posterior.problem
    return (problem.measurement - problem.operator.A(problem.prior.decode(point))).flatten()


@torch.no_grad()
def _outline_errors(
    posterior: Laplace, point: Point, operator: ForwardOperator | None
) -> Tensor | None:
    """What outlines off the manifold change in the voltages of a scene: a factor ``(m, K)``.

    None where the prior is not of scenes.
    """
    prior = posterior.problem.prior
    scene = without_nuisance(prior)
    if not isinstance(scene, Scene):
        return None
    x = prior.decode(point)
    masks = displaced_masks(scene, point, _OFF, _LENGTH)
    if len(masks) == 0:
        return x.new_zeros(posterior.problem.measurement.numel(), 0)
    changes = x.new_zeros(1, len(masks), *x.shape[1:])
    changes[0, :, : masks.shape[1]] = masks
    at = linearize(posterior.problem.operator if operator is None else operator, x)
    return at.jvp(changes)[0].flatten(1).mT
