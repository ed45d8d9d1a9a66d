"""The witness autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from onmanifold.checks import check_count
from onmanifold.errors import InputError
from onmanifold.priors.baselines.topo_ae import TopoAE, TopoAEOptions, relative
from onmanifold.priors.datasets import stream


@dataclass(frozen=True)
class WitnessAEOptions(TopoAEOptions):
    """Numbers of the loss.

    Attributes:
        witnesses: how many of the examples are witnesses.
    """

    witnesses: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.witnesses, "loss: witnesses")


class WitnessAE(TopoAE):
    """The topological autoencoder, with the batch's edges filtered by a witness complex.

    The batch is a set of landmarks, and an edge appears when a ball around one example of the training set, a
    witness, reaches both of its ends: the complex of a batch knows what lies between its examples, and its
    filtration follows the manifold where a chord would leave it.

    What is known of the method is its published abstract (witness complexes on batches, distances along the
    manifold, topology of the whole set of examples) and the authors' code. As there, the codes have no
    witnesses: their complex is Vietoris-Rips. Unlike there, edges are those at which components merge, as in
    :class:`~onmanifold.priors.baselines.topo_ae.TopoAE`, in place of each landmark's nearest; batches are not
    fixed before training, and the witnesses are a random part of the examples.

    Reference: S. Schoenberger, A. Varava, V. Polianskii, J. J. Chung, D. Kragic, R. Siegwart, *Witness
    autoencoder: shaping the latent space with witness complexes*, NeurIPS 2020 workshop on topological data
    analysis.

    Example:
        >>> from onmanifold.priors.training.recipe import Recipe
        >>> loss = {"weight": 1.0, "witnesses": 100}
        >>> method = Recipe("w", {}, {"name": "sphere"}, {"dim": 2}, {}, loss, "witness-ae").prepare()
        >>> method.loss(method.draw(0)).shape
        torch.Size([])
    """

    Options: ClassVar[type] = WitnessAEOptions
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
        return relative(witness_filtration(x.flatten(1), self.witnesses))


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
