"""The Gaussian posterior of a linearized operator, with a prior whose scale the data determine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor

from onmanifold.checks import check_batch
from onmanifold.fidelity import Fidelity
from onmanifold.operator import ForwardOperator, Linearization, linearize
from onmanifold.printing import Brief

_STD = (1e-3, 10.0)  # range in which the prior's standard deviation is looked for


@dataclass(frozen=True, repr=False)
class LinearPosterior(Brief):
    """Normal distributions of B images.

    Attributes:
        mean: ``(B, *x_shape)``, float64.
        std: standard deviation of each entry, ``(B, *x_shape)``, float64.
        variance: the prior's variance s, ``(B,)``, float64.
    """

    mean: Tensor
    std: Tensor
    variance: Tensor


@torch.no_grad()
def linear_posterior(
    operator: ForwardOperator,
    measurement: Tensor,
    fidelity: Fidelity,
    modes: Tensor,
    background: Tensor | None = None,
) -> LinearPosterior:
    """One linear step from a background image, with a Gaussian prior.

    The prior says ``x = background + sum_k c_k modes_k`` with independent normal coefficients ``c_k`` of
    mean 0 and variance s. With the operator linearized at the background the posterior is normal, of
    precision ``H + 1 / s`` in the coefficients, H the curvature of the data term. s maximizes the marginal
    likelihood of the measurement (empirical Bayes).

    Args:
        operator: A.
        measurement: y, ``(B, *y_shape)``.
        fidelity: what a residual costs.
        modes: ``(K, *x_shape)``, such as the scaled eigenvectors of a covariance.
        background: where the operator is linearized, ``(*x_shape,)``, by default 0.

    Example:
        >>> from onmanifold import Gaussian, as_operator
        >>> identity = as_operator(lambda x: x, (2,), dtype=torch.float64)
        >>> y = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
        >>> found = linear_posterior(identity, y, Gaussian(1.0), torch.eye(2).double())
        >>> print(f"{found.variance.item():.2f}")  # the mean of y^2 less the noise's variance
        11.50
    """
    check_batch(measurement, tuple(operator.y_shape), "measurement", finite=True)
    check_batch(modes, tuple(operator.x_shape), "modes", finite=True)
    modes = modes.to(measurement)
    if background is None:
        background = torch.zeros_like(modes[0])
    at = linearize(operator, background[None])
    columns = at.jvp(modes[None])
    fidelity = fidelity.bind(measurement)
    parts = []
    for b in range(len(measurement)):
        row = torch.tensor([b], device=measurement.device)
        parts.append(_posterior(fidelity.select(row), at.y, measurement[row], columns, modes))
    mean, std, variance = (torch.stack(part) for part in zip(*parts, strict=True))
    return LinearPosterior(background + mean, std, variance)


def ray_reductions(
    at: Linearization, fidelity: Fidelity, measurement: Tensor, directions: Tensor
) -> Tensor:
    """How far a linear model lets the misfit fall at most along rays from a point, ``(N,)``.

    One linearization says of many changes, such as an object more in one of many places, which promise
    something: ``max_t`` of the reduction at ``x + t d``, t >= 0, each with the amplitude that suits it.

    Args:
        at: the operator linearized at x, one member.
        fidelity: what a residual costs, bound to the measurement.
        measurement: y, ``(1, *y_shape)``.
        directions: ``(N, *x_shape)``.
    """
    tangents = at.jvp(directions[None])
    pull = -(tangents * fidelity.gradient(at.y, measurement)[:, None]).flatten(2).sum(2)[0]
    bent = (tangents * fidelity.curvature(at.y, measurement, tangents)).flatten(2).sum(2)[0]
    reduction = pull.clamp(min=0).square() / (2 * bent)
    return torch.where(bent > 0, reduction, 0.0)


def _posterior(
    fidelity: Fidelity, predicted: Tensor, y: Tensor, columns: Tensor, modes: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, standard deviation and prior variance of one measurement's image."""
    bent = fidelity.curvature(predicted, y, columns)[0].flatten(1).double()
    rows = columns[0].flatten(1).double()
    curvature = rows @ bent.T
    pull = -rows @ fidelity.gradient(predicted, y).flatten().double()
    values, vectors = torch.linalg.eigh((curvature + curvature.T) / 2)
    values, pull = values.clamp(min=0), vectors.T @ pull
    s = most_likely_variance(values.cpu().numpy(), pull.cpu().numpy())
    shrunk = s / (1 + s * values)
    shown = torch.einsum("k...,km->m...", modes.double(), vectors)
    mean = torch.einsum("m,m...->...", shrunk * pull, shown)
    std = torch.einsum("m,m...->...", shrunk, shown.square()).sqrt()
    return mean, std, shrunk.new_tensor(s)


def most_likely_variance(curvature: NDArray[np.float64], pull: NDArray[np.float64]) -> float:
    """The prior's variance s that maximizes the marginal likelihood.

    Args:
        curvature: eigenvalues h of the data term's.
        pull: its negative gradient b along their vectors. The logarithm of the data's density is, up to a
            constant, ``sum (s b^2 / (1 + s h) - log(1 + s h)) / 2``.
    """

    def cost(log_s: float) -> float:
        growth = 1 + np.exp(log_s) * curvature
        return float((np.log(growth) - np.exp(log_s) * pull**2 / growth).sum())

    found = minimize_scalar(cost, bounds=tuple(2 * np.log(_STD)), method="bounded")
    return float(np.exp(found.x))
