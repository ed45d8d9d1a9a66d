"""Problems from what a user passes: everything is checked here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onmanifold.checks import check_batch, check_callable, check_number
from onmanifold.descent.problem import Counts, Problem, unit_of
from onmanifold.errors import InputError, InputTypeError
from onmanifold.evaluation_mode import computing
from onmanifold.examination import examine
from onmanifold.fidelity import Fidelity, as_fidelity
from onmanifold.fidelity.estimated import EstimatedGaussian
from onmanifold.fidelity.inexact import takes_model_error
from onmanifold.operator import OperatorLike, as_operator
from onmanifold.prior import ManifoldPrior, require_prior
from onmanifold.retraction import ChartRetraction, Retraction
from onmanifold.tensors import as_real

_PLACES = (
    8  # samples of the prior at which an operator that is not linear shows the decoder's error
)


def build_problem(
    operator: OperatorLike,
    measurement: Tensor | NDArray[Any],
    prior: ManifoldPrior,
    fidelity: Fidelity | Callable[[Tensor, Tensor], Tensor] | None = None,
    prior_weight: float | Tensor | None = None,
    retraction: Retraction | None = None,
    decoder_error: bool = True,
) -> Problem:
    """Check everything and build the problem; arguments as in :func:`onmanifold.solve`."""
    require_prior(prior)
    if prior.dtype not in (torch.float32, torch.float64):
        raise InputTypeError(
            f"the prior is {prior.dtype}: descent needs float32 or float64, prior.float()"
        )
    operator = as_operator(operator, prior.x_shape, dtype=prior.dtype, device=prior.device)
    if tuple(operator.x_shape) != tuple(prior.x_shape):
        raise InputError(_other_size(tuple(operator.x_shape), tuple(prior.x_shape)))
    recorded = getattr(operator, "as_measurement", None)  # complex numbers, several arrays
    measurement = measurement if recorded is None else recorded(measurement)
    measurement = as_real(measurement, "measurement", dtype=prior.dtype, device=prior.device)
    measurement = _as_batch(measurement, tuple(operator.y_shape))
    _check_measurement(measurement, tuple(operator.y_shape), prior)
    with computing(prior):
        examine(operator, prior.decode(prior.clamp(prior.sample(2, 0))))
    if prior_weight is None:
        prior_weight = 0.0 if fidelity is None else 1.0
    weight = _weights(prior_weight, measurement)
    check_callable(retraction, "retraction", "ChartRetraction()")
    members = torch.arange(len(measurement), device=measurement.device)
    bound = as_fidelity(fidelity).bind(measurement)
    if isinstance(bound, EstimatedGaussian):
        bound.check_dimensions(measurement, prior.dim)
    problem = Problem(
        operator,
        measurement,
        prior,
        bound,
        weight,
        ChartRetraction() if retraction is None else retraction,
        members,
        Counts.none_yet(members),
        unit_of(bound, measurement),
        noise_known=fidelity is not None,
    )
    known = prior.decoder_error if decoder_error and fidelity is not None else None
    if known is None or not takes_model_error(bound, measurement):
        return problem
    with computing(prior):
        places = prior.sample(1 if operator.linear else _PLACES, 0)
        seen = known.measured(operator, prior.decode(prior.clamp(places)))
    if seen is None:
        return problem
    return replace(problem, model_error=(*seen, known.scale_variance)).with_noise(bound)


def _other_size(operator: tuple[int, ...], prior: tuple[int, ...]) -> str:
    """What to do where the operator takes other unknowns than the prior makes."""
    told = f"the operator takes x of shape {operator}, the prior makes {prior}: "
    if _without_ones(operator) == _without_ones(prior):
        return f"{told}make the operator with x_shape=prior.x_shape, only axes of length 1 differ"
    if len(operator) > 2 and (2, *prior[-2:]) == operator and prior[:-2] in ((), (1,)):
        return f"{told}its images are complex, real and imaginary part; this prior's are real"
    if len(operator) == len(prior) and operator[-2:] == prior[-2:]:
        return f"{told}they differ in the channels, {operator[0]} and {prior[0]}"
    return f"{told}make the operator with x_shape=prior.x_shape, or take a prior of that size"


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n > 1)


def _weights(prior_weight: float | Tensor, measurement: Tensor) -> Tensor:
    """One weight a measurement, ``(B,)``."""
    if np.ndim(prior_weight) > 0:
        weight = as_real(prior_weight, "prior_weight").to(measurement)
        if tuple(weight.shape) != (len(measurement),) or not bool((weight >= 0).all()):
            raise InputError(
                f"prior_weight has to hold {len(measurement)} numbers of at least 0, one a measurement; "
                f"got shape {tuple(weight.shape)}"
            )
        return weight
    number = 0.0 if prior_weight == 0 else check_number(prior_weight, "prior_weight")
    return measurement.new_full((len(measurement),), number)


def _as_batch(measurement: Tensor, y_shape: tuple[int, ...]) -> Tensor:
    """A single measurement as a batch of one; else raise where it is no batch."""
    if tuple(measurement.shape) == y_shape:
        return measurement.unsqueeze(0)
    if tuple(measurement.shape[1:]) != y_shape or measurement.ndim == 0:
        batch = ", ".join(["B", *map(str, y_shape)])
        raise InputError(
            f"measurement has shape {tuple(measurement.shape)}, expected ({batch}), or {y_shape} for a "
            "single one"
        )
    return measurement


def _check_measurement(measurement: Tensor, y_shape: tuple[int, ...], prior: ManifoldPrior) -> None:
    check_batch(measurement, y_shape, "measurement")
    if measurement.dtype != prior.dtype:
        raise InputTypeError(
            f"measurement is {measurement.dtype}, the prior {prior.dtype}: convert one, "
            "measurement.to(prior.dtype) or prior.to(measurement.dtype)"
        )
    if measurement.device != prior.device:
        raise InputError(
            f"measurement is on {measurement.device}, the prior on {prior.device}: move one, "
            "measurement.to(prior.device) or prior.to(measurement.device)"
        )
    check_batch(measurement, y_shape, "measurement", finite=True)
