"""The contractive autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from onmanifold.checks import check_count
from onmanifold.errors import InputTypeError
from onmanifold.priors.autoencoder.loss import AutoencoderTraining, WeightOption


@dataclass(frozen=True)
class CAEOptions(WeightOption):
    """Numbers of the loss.

    Attributes:
        probes: random directions of the norm's estimate.
        exact: the norm itself instead, by d products in place of ``probes``.
    """

    weight: float = 1e-4
    probes: int = 1
    exact: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.probes, "loss: probes")
        if not isinstance(self.exact, bool):
            raise InputTypeError(f"loss: exact has to be true or false, got {self.exact!r}")


class CAE(AutoencoderTraining):
    """Mean squared error, and the squared Frobenius norm |J|^2 of the encoder's Jacobian at x.

    The norm is exact, or its unbiased estimate |J^T u|^2 (Hutchinson) with random signs u, averaged over
    ``probes`` of them for each example.

    Reference: S. Rifai, P. Vincent, X. Muller, X. Glorot, Y. Bengio, *Contractive auto-encoders*, ICML 2011.

    Example:
        >>> from onmanifold.priors.training.recipe import Recipe
        >>> method = Recipe("c", {}, {"name": "sphere"}, {"dim": 2}, {}, {"probes": 4}, "cae").prepare()
        >>> method.loss(method.draw(0)).shape
        torch.Size([])
    """

    Options: ClassVar[type] = CAEOptions

    def extras(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        dim, probes = self.model.dim, self.options.probes
        if self.options.exact:  # the norm is the sum over the unit vectors
            directions = torch.eye(dim).expand(len(rows), dim, dim)
        else:
            signs = torch.randint(2, (len(rows), probes, dim), generator=generator)
            directions = (2.0 * signs - 1) / probes**0.5
        return {"directions": directions.to(self.examples)}

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        x = batch["x"].clone().requires_grad_()
        z = self.model.encoder(x)
        error = (self.model.decoder(z) - x.detach()).square().mean()
        loss: Tensor = error + self.options.weight * contraction(x, z, batch["directions"]).mean()
        return loss


def contraction(x: Tensor, z: Tensor, directions: Tensor) -> Tensor:
    """Sum over P directions u of |J^T u|^2, with J = dz / dx: ``(B,)``.

    Args:
        x: ``(B, *x_shape)``, of which ``z`` was computed and by which it can be differentiated.
        z: codes ``(B, d)``.
        directions: ``(B, P, d)``.

    Example:
        >>> x = torch.ones(1, 3, requires_grad=True)
        >>> contraction(x, 2 * x[:, :2], torch.eye(2)[None]).tolist()
        [8.0]
    """
    (products,) = torch.autograd.grad(
        z, x, directions.transpose(0, 1), create_graph=True, is_grads_batched=True
    )
    return products.square().transpose(0, 1).flatten(1).sum(dim=1)
