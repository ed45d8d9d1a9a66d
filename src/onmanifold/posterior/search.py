"""From a measurement to its posterior in one call."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from onmanifold.descent import StoppingRule
from onmanifold.fidelity import Fidelity
from onmanifold.initial_points import InitialPoints
from onmanifold.operator import OperatorLike
from onmanifold.posterior.exploration import explore
from onmanifold.posterior.laplace import Laplace, laplace
from onmanifold.prior import ManifoldPrior, Point, ReachedByJumps
from onmanifold.solution import InconsistentWarning
from onmanifold.solve import solve


def find_posterior(
    operator: OperatorLike,
    measurement: Tensor,
    prior: ManifoldPrior,
    *,
    fidelity: Fidelity,
    starts: InitialPoints | int | Point | None = None,
    stop: StoppingRule | None = None,
    seed: int | torch.Generator = 0,
    patience: int = 3,
    slack: float = 6.0,
) -> Laplace:
    """Solve, look for more modes, and weigh them: the posterior of measurements.

    The same as :func:`onmanifold.solve` and then :func:`explore`, or :func:`laplace` where the prior has no
    jumps. The first descents may well end in charts that are inconsistent with the data, since jumps lead
    out of them: only the result is tested for consistency.

    Args:
        operator: as for :func:`onmanifold.solve`.
        measurement: y, ``(B, *y_shape)``.
        prior: the learned manifold.
        fidelity: what a residual costs, with the noise level.
        starts: initial points, as for :func:`onmanifold.solve`.
        stop: when the first descents end.
        seed: of the initial points.
        patience: as for :func:`explore`.
        slack: as for :func:`explore`.

    Warns:
        InconsistentWarning: the highest-evidence mode of some measurement is inconsistent with the noise.

    Example:
        >>> import torch
        >>> from onmanifold import Gaussian, load_prior
        >>> y = torch.tensor([[1.5]])  # the first coordinate: a point below, or one above
        >>> prior = load_prior("two-circles")
        >>> posterior = find_posterior(lambda x: x[:, :1], y, prior, fidelity=Gaussian(0.05))
        >>> posterior.x(3, 0).shape, posterior.consistent
        (torch.Size([1, 3, 2]), tensor([True]))
    """
    options: dict[str, Any] = {"fidelity": fidelity, "starts": starts, "stop": stop, "seed": seed}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentWarning)
        solution = solve(operator, measurement, prior, **options)
    if isinstance(prior, ReachedByJumps):
        return explore(solution, patience=patience, slack=slack)
    return laplace(solution)
