"""Neighbourhood reconstructing autoencoders, with a linear or a quadratic image of the decoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.func import vmap

from onmanifold.autodiff import jvp, jvps
from onmanifold.errors import InputError
from onmanifold.priors.autoencoder.loss import AutoencoderTraining, LossOptions
from onmanifold.priors.datasets.finite import copy_of
from onmanifold.priors.neighbours import check_different, nearest_neighbours
from onmanifold.priors.training.method import Table


@dataclass(frozen=True)
class NRAEOptions(LossOptions):
    """The numbers in the loss.

    Attributes:
        neighbours: k, how many nearest examples make up a neighbourhood, besides its centre.
        kernel: weight lambda of a neighbour; the centre's is 1.
        drawn: how many of the k neighbours a step draws for each centre of its batch; 0: it takes all. A step
            takes time in proportion, and the loss stays the same in the mean.
        centres: share of the examples of a batch around which neighbours count; of the others only their own
            reconstruction does. The loss stays the same in the mean, and a step takes less time.
    """

    or_zero = ("drawn",)

    neighbours: int = 5
    kernel: float = 0.5
    drawn: int = 0
    centres: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.centres > 1:
            raise InputError(f"loss: centres has to be a share, at most 1; got {self.centres}")
        if self.drawn > self.neighbours:
            raise InputError(
                f"loss: drawn has to be at most neighbours, {self.neighbours}; got {self.drawn}"
            )


def taylor(
    f: Callable[[Tensor], Tensor], z: Tensor, moves: Tensor, order: int
) -> tuple[Tensor, Tensor]:
    """A map and its Taylor polynomials, to first or second order, at several points around each of a batch.

    The value is computed once for all moves; each move costs a forward derivative, or for second order a
    forward derivative of one.

    Args:
        f: a smooth map of batches ``(B, d)`` to ``(B, *x_shape)``, member by member.
        z: centres ``(B, d)``.
        moves: m displacements of each, ``(B, m, d)``.
        order: 1 or 2.

    Returns:
        ``f(z)``, ``(B, *x_shape)``, and the polynomials at ``z + moves``, ``(B, m, *x_shape)``.

    Example:
        >>> value, near = taylor(torch.square, torch.ones(1, 1), torch.full((1, 1, 1), 0.5), order=2)
        >>> value.item(), near.item()
        (1.0, 2.25)
    """
    if order == 1:
        value, along = jvps(f, z, moves.transpose(0, 1))
        return value, (value + along).transpose(0, 1)

    def quadratic(move: Tensor) -> tuple[Tensor, Tensor]:
        both, change = jvp(lambda at: torch.stack(jvp(f, at, move)), z, move)
        value, first = both
        return value, value + first + change[1] / 2

    values, polynomials = vmap(quadratic, in_dims=1, out_dims=1)(moves)
    return values[:, 0], polynomials  # the value is the same for all moves, an expanded view


class NeighborhoodReconstruction(AutoencoderTraining):
    r"""The decoder's Taylor polynomial at a code reconstructs the neighbours of the example, too.

    .. math:: \frac{1}{n (k + 1)} \sum_x \sum_{x' \in N(x)} K(x, x') |x' - F(g(x'); g(x))|^2

    per entry of an example, with the encoder g, the k nearest neighbours of x and x itself in N(x), and the
    Taylor polynomial ``F(.; z)`` of the decoder at z. Noise of the examples is averaged over neighbourhoods,
    and examples that are near each other get codes that are.

    Reference:
        Y. Lee, H. Kwon, F. Park, *Neighborhood reconstructing autoencoders*, NeurIPS 2021.
    """

    Options = NRAEOptions
    order: ClassVar[int]
    graph: Tensor

    @classmethod
    def defaults(cls, x: Tensor, dim: int) -> dict[str, Table]:
        loss = {"neighbours": 5, "kernel": 0.1, "drawn": 1, "centres": 0.25}
        return super().defaults(x, dim) | {"loss": loss}

    def set_up(self) -> None:
        k = self.options.neighbours
        different = copy_of(self.examples).unique()
        if len(different) < len(self.examples):  # a copy is no neighbour
            self.register_buffer("examples", self.examples[different], persistent=False)
        distances, found = nearest_neighbours(self.examples, k, self.seed, "loss: neighbours")
        check_different(distances, found)
        self.register_buffer("graph", found, persistent=False)

    def extras(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        neighbours = self.graph[rows]
        if self.options.drawn:
            lots = torch.rand(neighbours.shape, generator=generator).to(rows.device)
            neighbours = neighbours.gather(1, lots.topk(self.options.drawn, dim=1).indices)
        return {"neighbours": neighbours}

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        x, decoder = batch["x"], self.model.decoder
        few = max(1, round(self.options.centres * len(x)))
        numbers = batch["neighbours"][:few]
        near = self.examples[numbers]
        codes = self.model.encoder(torch.cat([x, near.flatten(0, 1)]))
        z, around = codes[: len(x)], codes[len(x) :].unflatten(0, numbers.shape)
        value, polynomials = taylor(decoder, z[:few], around - z[:few, None], self.order)
        if few < len(x):
            value = torch.cat([value, decoder(z[few:])])
        own = (x - value).square().mean()
        others = (near - polynomials).square().mean()
        k = self.options.neighbours
        loss: Tensor = (own + self.options.kernel * k * others) / (k + 1)
        return loss


class NRAEL(NeighborhoodReconstruction):
    """NRAE-L: the decoder's tangent at each code reconstructs the neighbours.

    Example:
        >>> from onmanifold.priors.autoencoder import Autoencoder, AutoencoderConfig
        >>> from onmanifold.priors.autoencoder.loss import AutoencoderSchedule
        >>> from onmanifold.priors.datasets import Sine
        >>> model = Autoencoder(AutoencoderConfig((2,), dim=1, options={"hidden": 8}))
        >>> method = NRAEL(model, Sine(), AutoencoderSchedule(), NRAEOptions(), seed=0)
        >>> method.loss(method.draw(0)).shape
        torch.Size([])
    """

    order = 1


class NRAEQ(NeighborhoodReconstruction):
    """NRAE-Q: the decoder's Taylor polynomial of second order at each code reconstructs the neighbours.

    It bends with the manifold, so its neighbourhoods may be larger; a step takes two to three times as long
    as one of :class:`NRAEL`.
    """

    order = 2
