"""The Wasserstein autoencoder with the maximum mean discrepancy."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from onmanifold.priors.autoencoder.loss import AutoencoderTraining, WeightOption

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of the kernels that are added


class WAE(AutoencoderTraining):
    """Mean squared error, and the discrepancy of a batch of codes from a standard normal density.

    Reference: I. Tolstikhin, O. Bousquet, S. Gelly, B. Schoelkopf, *Wasserstein auto-encoders*, ICLR 2018
    (WAE-MMD).

    Example:
        >>> from onmanifold.priors.training.recipe import Recipe
        >>> method = Recipe("w", {}, {"name": "sphere"}, {"dim": 2}, {}, {"weight": 0.1}, "wae").prepare()
        >>> method.loss(method.draw(0)).shape
        torch.Size([])
    """

    Options: ClassVar[type] = WeightOption
    smallest_batch = 2

    def extras(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        prior = torch.randn(len(rows), self.model.dim, generator=generator)
        return {"prior": prior.to(self.examples)}

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        x = batch["x"]
        z = self.model.encoder(x)
        error = (self.model.decoder(z) - x).square().mean()
        loss: Tensor = error + self.options.weight * discrepancy(z, batch["prior"])
        return loss


def discrepancy(z: Tensor, w: Tensor) -> Tensor:
    """Unbiased squared maximum mean discrepancy of codes ``(B, d)`` and ``(B, d)``.

    With the inverse multiquadratic kernels C / (C + |z - w|^2), C = 2 d s for several scales s: 2 d is the
    expected squared distance of two standard normal codes. For two samples of the same density it is 0 in
    the mean, so that single values may be negative.

    Example:
        >>> source = torch.Generator().manual_seed(0)
        >>> z, w = torch.randn(2, 500, 3, generator=source)
        >>> bool(abs(discrepancy(z, w)) < 0.01 < discrepancy(z, w + 1))
        True
    """
    n, dim = z.shape
    between = torch.cdist(z, w).square()
    within = torch.stack([torch.cdist(z, z), torch.cdist(w, w)]).square()
    total = z.new_zeros(())
    for scale in SCALES:
        constant = 2 * dim * scale
        # each of the 2 n points has kernel 1 with itself, which the unbiased estimate leaves out
        same = ((constant / (constant + within)).sum() - 2 * n) / (n * (n - 1))
        total = total + same - 2 * (constant / (constant + between)).mean()
    return total
