"""The topological autoencoder: topology in dimension 0 by minimum spanning trees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from scipy.sparse.csgraph import minimum_spanning_tree
from torch import Tensor, nn

from onmanifold.priors.autoencoder.loss import AutoencoderTraining, WeightOption


@dataclass(frozen=True)
class TopoAEOptions(WeightOption):
    """Numbers of the loss."""

    weight: float = 0.1


class TopoAE(AutoencoderTraining):
    """Mean squared error, and the difference of the topology of a batch and of its codes.

    In dimension 0 of the Vietoris-Rips complex components merge at the edges of a minimum spanning tree; at
    the edges of both trees, of the batch and of its codes, the distances should agree. Distances of the batch
    are relative to its largest, those of the codes to a length that is learned.

    Reference: M. Moor, M. Horn, B. Rieck, K. Borgwardt, *Topological autoencoders*, ICML 2020.

    Example:
        >>> from onmanifold.priors.training.recipe import Recipe
        >>> method = Recipe("t", {}, {"name": "sphere"}, {"dim": 2}, {}, {"weight": 1.0}, "topo-ae").prepare()
        >>> method.loss(method.draw(0)).shape
        torch.Size([])
    """

    Options: ClassVar[type] = TopoAEOptions
    smallest_batch = 2

    def set_up(self) -> None:
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


def tree_edges(distances: Tensor) -> tuple[Tensor, Tensor]:
    """The edges at which components of a filtered complex merge, as rows and columns ``(B - 1,)``.

    A complex grows with a threshold, edge (i, j) entering at ``distances[i, j]``; the edges that join two
    components are those of a minimum spanning tree.

    Args:
        distances: symmetric ``(B, B)``.

    Example:
        >>> points = torch.tensor([0.0, 1.0, 3.0])
        >>> [edge.tolist() for edge in tree_edges((points[:, None] - points).abs())]
        [[0, 1], [1, 2]]
    """
    # to scipy a zero says that there is no edge; the same shift of all edges keeps the tree
    shifted = distances.detach().double().cpu().numpy() + 1.0
    rows, columns = minimum_spanning_tree(shifted).nonzero()
    return (
        torch.as_tensor(rows, dtype=torch.long, device=distances.device),
        torch.as_tensor(columns, dtype=torch.long, device=distances.device),
    )


def tree_loss(data: Tensor, latent: Tensor) -> Tensor:
    """Half the mean squared difference of two distances at the tree of each, added up.

    Args:
        data: distances of the examples ``(B, B)``.
        latent: distances of their codes ``(B, B)``.

    Example:
        >>> distances = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        >>> float(tree_loss(distances, 3 * distances))
        4.0
    """
    differences = (data - latent).square()
    found: Tensor = 0.5 * sum(
        (differences[tree_edges(distances)].mean() for distances in (data, latent)),
        start=data.new_zeros(()),
    )
    return found
