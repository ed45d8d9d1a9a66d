"""Normal noise of unknown size, which is estimated together with the solution."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from onmanifold.errors import InputError
from onmanifold.fidelity.independent import Gaussian, bind_mask, present, select_rows, total

_GUESS = 0.1  # standard deviation of the noise at first, relative to that of the measurement
_FLOOR = 1e-5  # the least one that is looked for


@dataclass(frozen=True, eq=False, repr=False)
class EstimatedGaussian(Gaussian):
    """Independent normal errors whose standard deviation is unknown, one number for each measurement.

    :func:`onmanifold.solve` alternates: a solution for the noise level so far, then the level from what that
    solution leaves, until it changes by less than 1 %. The level maximizes the likelihood of the residual
    beside the manifold's tangent space (restricted maximum likelihood): without a decoder error, ``std^2 =
    |residual|^2 / (m - g)`` with m entries present, of which the solution fits g, at most the manifold's
    dimension d. The solution has the estimates as ``noise_std`` and ``noise_gain``. Standard deviations and
    posteriors take them as if they were known.

    A misfit says nothing about its own scale, so the p-value is NaN and consistency unknown: a solution off
    the manifold shows as a large estimate only.

    Args:
        std: a first guess, as for :class:`Gaussian`; by default a tenth of each measurement's scatter.
        mask: True where an entry was measured, as for :class:`Gaussian`.

    Raises:
        ValueError: (on use) a measurement has no more entries than the manifold has dimensions.

    References:
        H. D. Patterson, R. Thompson, Recovery of inter-block information when block sizes are unequal,
        Biometrika 58 (1971); D. J. C. MacKay, Bayesian interpolation, Neural Computation 4 (1992).

    Example:
        >>> import torch
        >>> from onmanifold import load_prior, solve
        >>> noise = 0.2 * torch.randn(1, 400, generator=torch.Generator().manual_seed(0))
        >>> y = torch.cat([torch.ones(1, 200), torch.zeros(1, 200)], dim=1) + noise
        >>> solution = solve(lambda x: x.repeat_interleave(200, 1), y, load_prior("ring"),
        ...                  fidelity=EstimatedGaussian())
        >>> print(f"{solution.noise_std.item():.2f}")
        0.20
    """

    std: float | Tensor | None = None  # type: ignore[assignment]
    mask: Tensor | None = None
    level: Tensor | None = None

    def __post_init__(self) -> None:
        if self.std is None:
            object.__setattr__(self, "std", torch.nan)  # no guess; bind makes one
            self._check_mask()
        elif self.level is None:
            super().__post_init__()

    def _check_mask(self) -> None:
        Gaussian(1.0, self.mask)

    def bind(self, measurement: Tensor) -> EstimatedGaussian:
        if self.level is not None:
            return self
        mask = bind_mask(self.mask, measurement, f"{type(self).__name__}: mask")
        scatter = _scatter(mask, measurement)
        guess = torch.as_tensor(self.std).to(measurement)
        if bool(guess.isnan().any()):
            std = (_GUESS * scatter).view(-1, *[1] * (measurement.ndim - 1)).expand_as(measurement)
        else:
            std = Gaussian(guess, mask).bind(measurement).std.expand_as(measurement)  # type: ignore[union-attr]
        level = self._first(std.square().flatten(1).mean(1), measurement, mask)
        return replace(self, std=std, mask=mask, level=level)

    def select(self, rows: Tensor) -> EstimatedGaussian:
        assert self.level is not None and isinstance(self.std, Tensor)
        return replace(
            self, std=self.std[rows], mask=select_rows(self.mask, rows), level=self.level[rows]
        )

    @property
    def entries(self) -> Tensor:
        """The standard deviation of each entry, of bound noise: ``(B, *y_shape)``."""
        assert isinstance(self.std, Tensor)
        return self.std

    def deviation(self, measurement: Tensor) -> Tensor:
        """NaN: the misfit's scale was fitted to it."""
        return measurement.new_full((len(measurement),), torch.nan)

    def parts(self, prediction: Tensor) -> Tensor:
        """What the variance of each entry is made of, for a level of 1 each: ``(B, J, *y_shape)``."""
        return torch.ones_like(prediction).unsqueeze(1)

    def at(self, level: Tensor, prediction: Tensor) -> EstimatedGaussian:
        """The same with variances ``level`` ``(B, J)`` of the parts, at the predictions of a solution."""
        weights = level.view(*level.shape, *[1] * (prediction.ndim - 1))
        variance = (weights * self.parts(prediction)).sum(1)
        return replace(
            self, std=variance.clamp(min=torch.finfo(variance.dtype).tiny).sqrt(), level=level
        )

    def least(self, measurement: Tensor) -> Tensor:
        """The smallest variance that is looked for, ``(B,)``."""
        return (_FLOOR * _scatter(self.mask, measurement)).square()

    def check_dimensions(self, measurement: Tensor, dim: int) -> None:
        """Raise where nothing is left to estimate the noise from."""
        entries = int(total(present(self.mask, torch.ones_like(measurement))).min())
        unknown = dim + self._first(measurement.new_ones(1), measurement[:1], None).shape[1]
        if entries < unknown:
            raise InputError(
                f"{type(self).__name__}: a measurement has {entries} entries, the manifold {dim} "
                f"dimensions: nothing is left to tell the noise from. At least {unknown} entries are "
                "needed, or a known level: Gaussian(std)"
            )

    def _first(self, variance: Tensor, measurement: Tensor, mask: Tensor | None) -> Tensor:
        """The first guess of the parts, ``(B, J)``, which make about that variance."""
        return variance.unsqueeze(1)


@dataclass(frozen=True, eq=False, repr=False)
class EstimatedPoisson(EstimatedGaussian):
    """Counts in unknown units: the variance is ``std^2 + gain * p``, both estimated with the solution.

    A detector that answers each count by ``gain`` units, and adds noise of its own of standard deviation
    ``std`` units, has this variance at the mean p. Counts are taken as normal, which they are nearly from
    about ten on; for few counts whose gain is known, take :class:`Poisson`. The variance is that of the
    last solution's predictions, so that the fidelity is a :class:`Gaussian`'s. Both are found only where
    predictions differ: at one brightness nothing tells gain from noise.

    Args:
        std: a first guess of the whole standard deviation, as for :class:`EstimatedGaussian`.
        mask: True where an entry was measured, as for :class:`Gaussian`.

    References:
        A. Foi, M. Trimeche, V. Katkovnik, K. Egiazarian, Practical Poissonian-Gaussian noise modeling and
        fitting for single-image raw-data, IEEE Transactions on Image Processing 17 (2008).

    Example:
        >>> EstimatedPoisson().parts(torch.tensor([[2.0, -1.0]]))
        tensor([[[1., 1.],
                 [2., 0.]]])
    """

    def parts(self, prediction: Tensor) -> Tensor:
        return torch.stack([torch.ones_like(prediction), prediction.clamp(min=0.0)], dim=1)

    def _first(self, variance: Tensor, measurement: Tensor, mask: Tensor | None) -> Tensor:
        bright = present(mask, measurement.clamp(min=0.0))
        entries = total(present(mask, torch.ones_like(measurement)))
        mean = (total(bright) / entries).clamp(min=torch.finfo(variance.dtype).tiny)
        return torch.stack([variance / 2, variance / 2 / mean], dim=1)


def noise_of(fidelity: object) -> EstimatedGaussian | None:
    """The estimated noise in a bound fidelity, with or without an error of the model; ``None`` without."""
    noise = getattr(fidelity, "noise", fidelity)
    return noise if isinstance(noise, EstimatedGaussian) else None


def _scatter(mask: Tensor | None, measurement: Tensor) -> Tensor:
    """Standard deviation of each measurement's entries, or their size where they are all equal: ``(B,)``."""
    there = present(mask, torch.ones_like(measurement))
    entries = total(there)
    shape = (-1, *[1] * (measurement.ndim - 1))
    mean = (total(present(mask, measurement)) / entries).view(shape)
    scatter = (total(there * present(mask, measurement - mean).square()) / entries).sqrt()
    size = (total(present(mask, measurement).square()) / entries).sqrt()
    scatter = torch.where(scatter > _FLOOR * size, scatter, size)
    return torch.where(scatter > 0, scatter, 1.0)
