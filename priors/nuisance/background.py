"""Images on an unknown background: a learned manifold, thickened by one direction."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from onmanifold.errors import InputError
from onmanifold.prior import ManifoldPrior
from onmanifold.priors.atlas.chart import corners
from onmanifold.priors.nuisance.base import NuisanceParameters


class BackgroundOffset(NuisanceParameters):
    r"""A prior's images, each plus an unknown constant: :math:`D'(z, c) = D(z) + c\,\sigma`.

    For measurements whose background is not known exactly, as the conductivity of the water in a
    tank. The last latent coordinate ``c`` is standard normal and is estimated along with the image.

    Args:
        prior: the manifold of images on a known background.
        std: standard deviation :math:`\sigma` of the constant, in units of the image.
        known: pixels whose mean is the same in every image of the prior, boolean, ``x_shape``; the
            encoder reads the constant there. Default: the corners around the disk that fills the image.

    Raises:
        ValueError: if ``std`` is not positive and finite, or ``known`` has another shape or is empty.

    Example:
        >>> from onmanifold import load_prior
        >>> prior = BackgroundOffset(load_prior("tank"), std=0.05)
        >>> prior.dim - load_prior("tank").dim
        1
    """

    known: Tensor

    def __init__(self, prior: ManifoldPrior, std: float, known: Tensor | None = None) -> None:
        if not (math.isfinite(std) and std > 0):
            raise InputError(f"BackgroundOffset: std has to be positive and finite, got {std}")
        known = corners(prior.x_shape) if known is None else known
        if known.shape != prior.x_shape or known.dtype != torch.bool or not known.any():
            raise InputError(
                f"BackgroundOffset: known has to be a boolean {prior.x_shape} with a true entry, got "
                f"{known.dtype} {tuple(known.shape)}"
            )
        super().__init__(prior, (float(std),), prior.x_shape)
        self.std = float(std)
        self.register_buffer("known", known)

    def join(self, image: Tensor, parameters: Tensor) -> Tensor:
        return image + parameters.reshape(-1, *[1] * len(self.x_shape))

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # the constant is what the known pixels show above what the prior itself shows there
        origin = self.prior.decode_chart(x.new_zeros(1, self.prior.chart_dims[0]), 0)
        constant = (x[:, self.known] - origin[:, self.known]).mean(dim=1)
        return x - constant.reshape(-1, *[1] * len(self.x_shape)), constant[:, None]

    def config(self) -> dict[str, Any]:
        return super().config() | {"std": self.std}
