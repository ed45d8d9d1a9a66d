"""The geometry-regularized autoencoder."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from onmanifold.checks import check_count
from onmanifold.errors import InputError
from onmanifold.priors.autoencoder.loss import AutoencoderTraining, WeightOption


@dataclass(frozen=True)
class GRAEOptions(WeightOption):
    """Numbers of the loss.

    Attributes:
        neighbours: of each example in the graph that UMAP embeds.
    """

    neighbours: int = 15

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.neighbours, "loss: neighbours", at_least=2)


class GRAE(AutoencoderTraining):
    """Mean squared error, and the mean squared difference of the codes from an embedding of the examples.

    The embedding is UMAP's into R^d, moved and scaled to mean 0 and variance 1.

    Reference: A. F. Duque, S. Morin, G. Wolf, K. Moon, *Extendable and invertible manifold learning with
    geometry regularized autoencoders*, IEEE Big Data 2020 (there with PHATE in place of UMAP).
    """

    Options: ClassVar[type] = GRAEOptions
    targets: Tensor

    def set_up(self) -> None:
        neighbours, there = self.options.neighbours, len(self.examples)
        if neighbours >= there:
            raise InputError(
                f"loss: neighbours {neighbours}, but each of {there} examples has {there - 1} others"
            )
        if self.model.dim >= there - 1:  # as many eigenvectors of the graph as dimensions, and one
            raise InputError(f"dim {self.model.dim} is too large to embed {there} examples")
        targets = embedding(self.examples.flatten(1), self.model.dim, neighbours, self.seed)
        self.register_buffer("targets", targets.to(self.examples), persistent=False)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        x = batch["x"]
        z = self.model.encoder(x)
        error = (self.model.decoder(z) - x).square().mean()
        off = (z - self.targets[batch["rows"]]).square().mean()
        loss: Tensor = error + self.options.weight * off
        return loss


def embedding(x: Tensor, dim: int, neighbours: int, seed: int) -> Tensor:
    """Examples ``(n, m)`` embedded by UMAP: ``(n, dim)``, of mean 0 and variance 1."""
    with warnings.catch_warnings():  # umap says so at its import where tensorflow is missing
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
        from umap import UMAP
    # umap repeats itself on one thread only
    found = UMAP(n_neighbors=neighbours, n_components=dim, random_state=seed, n_jobs=1)
    z = torch.from_numpy(found.fit_transform(x.cpu().numpy()))
    z = z - z.mean(dim=0)  # first: what it is off by is no spread
    return z / z.std()
