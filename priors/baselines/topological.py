"""The topological autoencoder and the witness autoencoder: topology in dimension 0, by spanning trees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from scipy.sparse.csgraph import minimum_spanning_tree
from torch import Tensor, nn

from onmanifold.errors import InputError
from onmanifold.priors.baselines.losses import WeightOption, WithTerm
from onmanifold.priors.datasets import stream


class TopoAE(WithTerm):
    """The topological autoencoder: the difference of the topology of a batch and of its codes.

    In dimension 0 of the Vietoris-Rips complex components merge at the edges of a minimum spanning tree; at
    the edges of both trees, of the batch and of its codes, the distances should agree. Distances of the batch
    are relative to its largest, those of the codes to a length that is learned.

    Reference: M. Moor, M. Horn, B. Rieck, K. Borgwardt, *Topological autoencoders*, ICML 2020.
    """

    Options: ClassVar[Callable[..., WeightOption]] = partial(WeightOption, weight=0.1)
    smallest_batch = 2

    def set_up(self) -> None:
        self.log_length = nn.Parameter(torch.zeros(()))

    def term(self, x: Tensor, z: Tensor, batch: dict[str, Tensor]) -> Tensor:
        appear = self.filtration(x.flatten(1))
        # as shares of the largest; a batch of equal examples keeps its zeros
        appear = appear / appear.max().clamp(min=torch.finfo(appear.dtype).tiny)
        return tree_loss(appear, torch.cdist(z, z) / self.log_length.exp())

    def filtration(self, x: Tensor) -> Tensor:
        """When the edges between the examples ``(B, n)`` of a batch appear: ``(B, B)``."""
        return torch.cdist(x, x)


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
    of_data, of_codes = (differences[tree_edges(d)].mean() for d in (data, latent))
    found: Tensor = 0.5 * (of_data + of_codes)
    return found


@dataclass(frozen=True)
class WitnessAEOptions(WeightOption):
    """Numbers of the loss.

    Attributes:
        witnesses: how many of the examples are witnesses.
    """

    weight: float = 0.1
    witnesses: int = 1000


class WitnessAE(TopoAE):
    """The topological autoencoder, with the batch's edges filtered by a witness complex.

    The batch is a set of landmarks, and an edge appears when a ball around one example of the training set, a
    witness, reaches both of its ends: the complex of a batch knows what lies between its examples, and its
    filtration follows the manifold where a chord would leave it.

    What is known of the method is its published abstract (witness complexes on batches, distances along the
    manifold, topology of the whole set of examples) and the authors' code. As there, the codes have no
    witnesses: their complex is Vietoris-Rips. Unlike there, edges are those at which components merge, as in
    :class:`TopoAE`, in place of each landmark's nearest; batches are not fixed before training, and the
    witnesses are a random part of the examples.

    Reference: S. Schoenberger, A. Varava, V. Polianskii, J. J. Chung, D. Kragic, R. Siegwart, *Witness
    autoencoder: shaping the latent space with witness complexes*, NeurIPS 2020 workshop on topological data
    analysis.
    """

    Options = WitnessAEOptions
    witnesses: Tensor

    def set_up(self) -> None:
        super().set_up()
        wanted, there = self.options.witnesses, len(self.examples)
        if wanted > there:
            raise InputError(
                f"loss: witnesses {wanted}, but there are {there} examples; take at most as many"
            )
        rows = torch.randperm(there, generator=stream(self.seed, "seeding", 1))[:wanted]
        witnesses = self.examples.flatten(1)[rows.to(self.examples.device)]
        self.register_buffer("witnesses", witnesses, persistent=False)

    def filtration(self, x: Tensor) -> Tensor:
        return witness_filtration(x, self.witnesses)


def witness_filtration(landmarks: Tensor, witnesses: Tensor) -> Tensor:
    """When the edges of a witness complex appear: ``min_w max(|w - l_i|, |w - l_j|)``, ``(B, B)``.

    The lazy witness complex with nu = 0 of V. de Silva, G. Carlsson, *Topological estimation using witness
    complexes*, SPBG 2004. Its diagonal is set to 0.

    Args:
        landmarks: ``(B, n)``.
        witnesses: ``(N, n)``.

    Example:
        >>> witness_filtration(torch.tensor([[0.0], [4.0]]), torch.tensor([[0.0], [1.0], [2.0]]))
        tensor([[0., 2.],
                [2., 0.]])
    """
    distances = torch.cdist(landmarks, witnesses)
    edges = torch.stack([torch.maximum(row, distances).amin(dim=1) for row in distances])
    return edges.fill_diagonal_(0.0)
