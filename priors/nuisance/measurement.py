"""Images together with unknown parameters of the measurement, each in a channel of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from onmanifold.errors import InputError
from onmanifold.prior import ManifoldPrior
from onmanifold.priors.nuisance.base import NuisanceParameters


class MeasurementParameters(NuisanceParameters):
    r"""A prior's images, each with q unknown parameters as further, constant channels.

    For operators that take such channels, as ``EIT`` does with ``Labels(free=...)``: what the parameters
    stand for is estimated along with the image. They are independent and normal with mean 0; the last q
    latent coordinates hold them in units of their standard deviations.

    Args:
        prior: the manifold of images, of ``(C, H, W)`` (or ``(C, D, H, W)``).
        std: standard deviation of each parameter.

    Raises:
        ValueError: images without channels, or a standard deviation that is not positive.

    Example:
        >>> from onmanifold import load_prior
        >>> prior = MeasurementParameters(load_prior("two-balls"), std=(0.3, 0.3))
        >>> prior.x_shape
        (3, 128, 128)
    """

    def __init__(self, prior: ManifoldPrior, std: Sequence[float]) -> None:
        if len(prior.x_shape) < 2:
            raise InputError(
                f"MeasurementParameters: expected a prior of images (C, H, W), got x_shape {prior.x_shape}"
            )
        std = tuple(float(s) for s in std)
        bad = [s for s in std if not (math.isfinite(s) and s > 0)]
        if bad or not std:
            raise InputError(
                "MeasurementParameters: std has to hold a positive number for each parameter, got "
                f"{bad[0] if bad else 'none'}"
            )
        super().__init__(prior, std, (prior.x_shape[0] + len(std), *prior.x_shape[1:]))
        self.std = std

    def join(self, image: Tensor, parameters: Tensor) -> Tensor:
        constant = parameters.reshape(*parameters.shape, *[1] * (image.ndim - 2))
        return torch.cat([image, constant.expand(-1, -1, *image.shape[2:])], dim=1)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        c = self.prior.x_shape[0]
        return x[:, :c], x[:, c:].flatten(2).mean(dim=2)

    def config(self) -> dict[str, Any]:
        return super().config() | {"std": list(self.std)}
