"""The variational autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from onmanifold.checks import check_number
from onmanifold.priors.autoencoder.loss import AutoencoderTraining
from onmanifold.priors.networks import network_pair


@dataclass(frozen=True)
class VAEOptions:
    """Numbers of the loss.

    Attributes:
        variance: of the decoder's Gaussian, for each entry of x.
        inverse: weight with which the encoder learns to invert the decoder where no examples are.
    """

    variance: float = 0.01
    inverse: float = 0.0

    def __post_init__(self) -> None:
        check_number(self.variance, "loss: variance")
        if self.inverse != 0:
            check_number(self.inverse, "loss: inverse")


class VAE(AutoencoderTraining):
    r"""Reconstruction from a noisy code, and the divergence of the codes from a standard normal density.

    With m = E(x), variances s^2 of its entries from a second network (of the encoder's kind, dropped after
    training) and z = m + s xi, the negative evidence bound of a decoder with variance v, times 2 v / n:

        |x - D(z)|^2 / n  +  (2 v / n) KL(N(m, diag s^2) | N(0, I))

    so that it is measured like the mean squared error. With ``inverse`` > 0 the encoder alone also learns
    from samples z of the normal density, by ``inverse |E(D(z)) - z|^2 / d``: between the codes of examples it
    would be no inverse.

    Reference: D. Kingma, M. Welling, *Auto-encoding variational Bayes*, ICLR 2014.

    Example:
        >>> from onmanifold.priors.training.recipe import Recipe
        >>> method = Recipe("v", {}, {"name": "sphere"}, {"dim": 2}, {}, {"variance": 0.1}, "vae").prepare()
        >>> method.loss(method.draw(0)).shape
        torch.Size([])
    """

    Options: ClassVar[type] = VAEOptions

    def set_up(self) -> None:
        model = self.model.settings
        _, self.log_variance = network_pair(model.network, model.dim, model.x_shape, model.options)

    def extras(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        names = ["noise", "sample"] if self.options.inverse else ["noise"]
        shape = (len(rows), self.model.dim)
        return {name: torch.randn(shape, generator=generator).to(self.examples) for name in names}

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        x = batch["x"]
        mean, log_variance = self.model.encoder(x), self.log_variance(x)
        z = mean + (log_variance / 2).exp() * batch["noise"]
        error = self.error(x, self.model.decoder(z))
        divergence = divergence_from_normal(mean, log_variance).mean()
        loss: Tensor = error + 2 * self.options.variance / x[0].numel() * divergence
        return loss + self.inverse_error(batch["sample"]) if self.options.inverse else loss

    def inverse_error(self, z: Tensor) -> Tensor:
        """What the encoder is wrong by at samples ``(B, d)``, weighted; the decoder learns nothing."""
        with torch.no_grad():
            x = self.model.decoder(z)
        error: Tensor = self.options.inverse * (self.model.encoder(x) - z).square().mean()
        return error


def divergence_from_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, diag exp(log_variance)) | N(0, I)) of ``(B, d)`` and ``(B, d)``: ``(B,)``.

    Example:
        >>> divergence_from_normal(torch.ones(1, 2), torch.zeros(1, 2))
        tensor([1.])
    """
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(dim=1)
