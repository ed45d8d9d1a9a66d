"""The topological autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from onmanifold.checks import check_number
from onmanifold.priors.autoencoder.training import AutoencoderTraining
from onmanifold.priors.baselines.spanning_tree import tree_loss


@dataclass(frozen=True)
class TopoAEOptions:
    """Numbers of the loss.

    Attributes:
        weight: of the topological loss beside the mean squared error.
    """

    weight: float = 0.1

    def __post_init__(self) -> None:
        check_number(self.weight, "loss: weight")


class TopoAE(AutoencoderTraining):
    """Mean squared error, and the difference of the topology of a batch and of its codes.

    In dimension 0 of the Vietoris-Rips complex components merge at the edges of a minimum spanning tree; at
    the edges of both trees, of the batch and of its codes, the distances should agree. Distances of the batch
    are relative to its largest, those of the codes to a length that is learned.

    Reference: M. Moor, M. Horn, B. Rieck, K. Borgwardt, *Topological autoencoders*, ICML 2020.

    Example:
        >>> from onmanifold.priors.recipe import Recipe
        >>> method = Recipe("t", {}, {"name": "sphere"}, {"dim": 2}, {}, {"weight": 1.0}, "topo-ae").prepare()
        >>> method.loss(method.draw(0)).shape
        torch.Size([])
    """

    Options: ClassVar[type] = TopoAEOptions

    def set_up(self) -> None:
        if self.schedule.batch_size < 2:
            raise ValueError("schedule: batch_size has to be at least 2 for a tree, got 1")
        self.log_length = nn.Parameter(torch.zeros(()))

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        x = batch["x"]
        z = self.model.encoder(x)
        error = (self.model.decoder(z) - x).square().mean()
        latent = torch.cdist(z, z) / self.log_length.exp()
        loss: Tensor = error + self.options.weight * tree_loss(self.filtration(x), latent)
        return loss

    def filtration(self, x: Tensor) -> Tensor:
        """When the edges between the examples of a batch appear, relative to the last: ``(B, B)``."""
        flat = x.flatten(1)
        return relative(torch.cdist(flat, flat))


def relative(distances: Tensor) -> Tensor:
    """Distances ``(B, B)`` as shares of the largest; a batch of equal examples keeps its zeros."""
    return distances / distances.max().clamp(min=torch.finfo(distances.dtype).tiny)
