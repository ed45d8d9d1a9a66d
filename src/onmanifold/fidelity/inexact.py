"""Normal noise, together with an error of the model of known covariance and uncertain scale."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from onmanifold.fidelity.correlated import CorrelatedGaussian
from onmanifold.fidelity.independent import Gaussian, bind_entries, present
from onmanifold.fidelity.joint import Joint
from onmanifold.fidelity.protocol import Fidelity
from onmanifold.fidelity.whitening import DiagonalPlusLowRank
from onmanifold.printing import Brief

_NOTICED = 0.1  # standard deviations of the misfit that the model's error has to add to count


@dataclass(frozen=True, eq=False, repr=False)
class InexactModel(Brief):
    """A correlated Gaussian whose covariance is that of the noise and of the model's error.

    The error's scale varies, so that misfits of genuine unknowns scatter more than noise alone lets them.

    Attributes:
        whole: of both errors, bound to B measurements.
        noise: of the noise alone.
        model: the misfit that the model's error adds on average, ``(B,)``.
        scale_variance: variance of its scale, of mean 1, ``()``.
    """

    whole: CorrelatedGaussian
    noise: Fidelity
    model: Tensor
    scale_variance: Tensor

    @property
    def mask(self) -> Tensor | None:
        return self.whole.mask

    def bind(self, measurement: Tensor) -> InexactModel:
        return replace(self, whole=self.whole.bind(measurement), noise=self.noise.bind(measurement))

    def select(self, rows: Tensor) -> InexactModel:
        return replace(
            self,
            whole=self.whole.select(rows),
            noise=self.noise.select(rows),
            model=self.model[rows],
        )

    def value(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        return self.whole.value(prediction, measurement)

    def gradient(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        return self.whole.gradient(prediction, measurement)

    def curvature(self, prediction: Tensor, measurement: Tensor, tangents: Tensor) -> Tensor:
        return self.whole.curvature(prediction, measurement, tangents)

    def expected(self, measurement: Tensor) -> Tensor:
        """Half the number of entries present, shape ``(B,)``."""
        return self.whole.expected(measurement)

    def deviation(self, measurement: Tensor) -> Tensor:
        """Of half a chi-square variable, and of the scale of what the model's error adds to it, ``(B,)``.

        NaN where the noise's is: its size was estimated.
        """
        within = self.whole.deviation(measurement).square()
        estimated = self.noise.deviation(measurement).isnan()
        within = torch.where(estimated, torch.nan, within)
        return (within + self.scale_variance * (self.model.square() + self.model)).sqrt()


def takes_model_error(fidelity: Fidelity, measurement: Tensor) -> bool:
    """Whether the fidelity, bound to measurements, is of noise that an error of the model adds to."""
    return _normal(fidelity, measurement)[0] is not None


def with_model_error(
    fidelity: Fidelity,
    measurement: Tensor,
    factor: Tensor,
    std: Tensor,
    scale_variance: Tensor,
) -> Fidelity:
    """The fidelity for noise and an error of the model together.

    They add up for normal noise that is independent or of low rank (:meth:`CorrelatedGaussian.low_rank`).
    Any other fidelity, or an error that the noise hides, is returned as it was.

    Args:
        fidelity: of the noise, bound to the measurements.
        measurement: ``(B, *y_shape)``.
        factor: the error's covariance is ``s (factor factor^T + diag(std^2))``; ``(m, k)``.
        std: ``y_shape``.
        scale_variance: of s, whose mean is 1, ``()``.
    """
    noise, common = _normal(fidelity, measurement)
    if noise is None:
        return fidelity
    both = factor if common is None else torch.cat([common, factor], dim=-1)
    std = std.unsqueeze(0)
    whole = CorrelatedGaussian.low_rank((noise.square() + std.square()).sqrt(), both, fidelity.mask)  # type: ignore[attr-defined]
    bound = whole.bind(measurement)
    added = _added(bound, measurement, factor, std, noise)
    model = InexactModel(bound, fidelity, added, scale_variance)
    noticed = added > _NOTICED * bound.deviation(measurement)
    return model if bool(noticed.any()) else fidelity


def _normal(fidelity: Fidelity, measurement: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Standard deviations ``(1 or B, *y_shape)`` and the common factor of normal noise, if it is such."""
    if isinstance(fidelity, Gaussian):
        return bind_entries(fidelity.std, measurement, "Gaussian: std"), None
    if isinstance(fidelity, Joint):
        return _normal_parts(fidelity, measurement), None
    parts = getattr(fidelity, "covariance", None)
    if isinstance(fidelity, CorrelatedGaussian) and isinstance(parts, DiagonalPlusLowRank):
        if parts.factor.ndim == 2:
            return bind_entries(parts.std, measurement, "std"), parts.factor.to(measurement)
    return None, None


def _normal_parts(fidelity: Joint, measurement: Tensor) -> Tensor | None:
    """Standard deviations ``(1 or B, m)`` of several measurements, if all have independent normal noise."""
    each = zip(fidelity.parts, fidelity.split(measurement), strict=True)
    found = [bind_entries(f.std, y, "std").flatten(1) for f, y in each if isinstance(f, Gaussian)]
    if len(found) < len(fidelity.parts):
        return None
    batch = max(map(len, found))
    return torch.cat([std.expand(batch, -1) for std in found], dim=1)


def _added(
    whole: CorrelatedGaussian, measurement: Tensor, factor: Tensor, std: Tensor, noise: Tensor
) -> Tensor:
    """Half the trace of C^-1 M for the error's covariance M in the whole C, ``(B,)``."""
    columns = factor.mT.reshape(1, -1, *measurement.shape[1:]).expand(
        len(measurement), *[-1] * measurement.ndim
    )
    weighted = whole.curvature(measurement, measurement, columns)
    common = (columns * weighted).flatten(1).sum(1)
    # The inverse's diagonal is at most that without the common part, which has few axes.
    share = (std.square() / (noise.square() + std.square())).expand_as(measurement)
    own = present(whole.mask, share).flatten(1).sum(1)
    return 0.5 * (common + own)
