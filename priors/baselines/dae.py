"""The denoising autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from onmanifold.checks import check_number
from onmanifold.priors.autoencoder.loss import AutoencoderTraining


@dataclass(frozen=True)
class DAEOptions:
    """Numbers of the loss.

    Attributes:
        noise: standard deviation of what is added to each entry of x.
    """

    noise: float = 0.1

    def __post_init__(self) -> None:
        check_number(self.noise, "loss: noise")


class DAE(AutoencoderTraining):
    """Mean squared error of x reconstructed from x with Gaussian noise.

    Reference: P. Vincent, H. Larochelle, I. Lajoie, Y. Bengio, P.-A. Manzagol, *Stacked denoising
    autoencoders*, JMLR 11 (2010).

    Example:
        >>> from onmanifold.priors.training.recipe import Recipe
        >>> method = Recipe("d", {}, {"name": "sphere"}, {"dim": 2}, {}, {"noise": 0.2}, "dae").prepare()
        >>> method.loss(method.draw(0)).shape
        torch.Size([])
    """

    Options: ClassVar[type] = DAEOptions

    def extras(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        noise = torch.randn((len(rows), *self.model.x_shape), generator=generator)
        return {"noise": self.options.noise * noise.to(self.examples)}

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        x = batch["x"]
        return (self.reconstruction(x + batch["noise"]) - x).square().mean()
