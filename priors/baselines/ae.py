"""The plain autoencoder."""

from __future__ import annotations

from torch import Tensor

from onmanifold.priors.autoencoder.loss import AutoencoderTraining


class AE(AutoencoderTraining):
    """Mean squared error of the reconstruction."""

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        x = batch["x"]
        return self.error(x, self.reconstruction(x))
