"""The structure-preserving autoencoder."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn.functional import pdist

from onmanifold.priors.autoencoder.loss import AutoencoderTraining, WeightOption


class SPAE(AutoencoderTraining):
    """Mean squared error, and how far latent distances are from proportional to distances of the examples.

    Reference: A. Singh, K. Nag, *Structure-preserving deep autoencoder-based dimensionality reduction for
    data visualization*, IEEE SNPD 2021.

    Example:
        >>> from onmanifold.priors.training.recipe import Recipe
        >>> method = Recipe("s", {}, {"name": "sphere"}, {"dim": 2}, {}, {"weight": 0.1}, "spae").prepare()
        >>> method.loss(method.draw(0)).shape
        torch.Size([])
    """

    Options: ClassVar[type] = WeightOption
    smallest_batch = 3  # two distances to compare

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        x = batch["x"]
        z = self.model.encoder(x)
        error = (self.model.decoder(z) - x).square().mean()
        loss: Tensor = error + self.options.weight * log_ratio_spread(x, z)
        return loss


def log_ratio_spread(x: Tensor, z: Tensor) -> Tensor:
    """Standard deviation of log(|x_i - x_j| / |z_i - z_j|) over the pairs of a batch; 0 if all scale alike.

    Pairs of equal points say nothing about scale and are left out.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
        >>> float(log_ratio_spread(x, 3 * x).round(decimals=5))
        0.0
    """
    ambient, latent = pdist(x.flatten(1)), pdist(z)
    apart = (ambient > 0) & (latent > 0)
    ratios = ambient[apart].log() - latent[apart].log()
    # not std(): its derivative at 0 is not a number
    return (ratios.var(correction=0) + 1e-12).sqrt()
