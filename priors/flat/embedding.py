"""Training of flat autoencoders: the encoder alone, isometric and with little bending; then the decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from onmanifold.checks import check_count, check_number
from onmanifold.errors import InputError
from onmanifold.priors.autoencoder.loss import AutoencoderSchedule, AutoencoderTraining, LossOptions
from onmanifold.priors.datasets import GeodesicDataset, stream
from onmanifold.priors.flat.graph import GraphPairs
from onmanifold.priors.flat.pairs import GeodesicPairs, Pairs
from onmanifold.priors.flat.scaling import Scaling
from onmanifold.priors.neighbours import nearest_neighbours
from onmanifold.priors.networks import default_network
from onmanifold.priors.training.dimension import intrinsic_dimension
from onmanifold.priors.training.method import Table, cosine_rate

_ONE_SIDED = 0.5  # neighbours are if their mean is so many mean distances away


@dataclass(frozen=True)
class FlatSchedule(AutoencoderSchedule):
    """Lengths and sizes of a training run.

    Attributes:
        encoder: steps in which the encoder learns; the decoder learns in the rest of ``length``.
        start: share of the encoder's steps in which it learns the codes of classical scaling.
    """

    or_zero = ("start", "patience", "inverse")

    encoder: int = 2500
    start: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.start < 1:
            raise InputError(f"schedule: start = {self.start} has to be at least 0 and below 1")
        if self.encoder >= self.length:
            raise InputError(
                f"schedule: encoder = {self.encoder} of length = {self.length} steps leave none to the "
                "decoder; take fewer"
            )

    def rate(self, step: int) -> float:
        """The learning rate rises and falls once for each network."""
        if step < self.encoder:
            return cosine_rate(step, self.encoder)
        return cosine_rate(step - self.encoder, self.length - self.encoder)


@dataclass(frozen=True)
class FlatOptions(LossOptions):
    """What a flat autoencoder learns from.

    Attributes:
        eps: largest distance of a pair. Where the data know their distances, by default a sixth of the
            injectivity radius; elsewhere in units of the examples' spread, and by default without a limit.
        bending: lambda, weight of the bending.
        noise: how far from the codes the decoder still has to be right: standard deviation, in each
            direction normal to them or out over their border, of the noise on codes.
        k: neighbours of each example; of their graph, where the data do not know their distances.
        straight: see :class:`~onmanifold.priors.flat.graph.GraphPairs`.
    """

    or_zero = ("bending", "noise")

    eps: float | None = None
    bending: float = 0.1
    noise: float = 0.2
    k: int = 16
    straight: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self.straight, "loss: straight", high=1.0)
        check_count(self.k, "loss: k", at_least=4)


class FlatTraining(AutoencoderTraining):
    """An encoder that keeps distances and hardly bends, and a decoder that inverts it.

    The encoder starts by learning codes of classical scaling
    (:class:`~onmanifold.priors.flat.scaling.Scaling`): from random weights, as in the paper, it often ends
    crumpled or wrapped twice around. Then phi learns from pairs (x, y) at distance d with a point m between
    them, by the first and the second difference quotient (:func:`quotients`): the loss is the mean of
    ``p^2 + p^-2 - 2`` and of ``bending`` times ``|b|^2``. The decoder then learns from codes with noise in
    the directions normal to them, and out over the border if there is one, and with the example itself as
    the aim: so it maps a tube around the codes to the manifold.

    Distances are the data's own where they are a
    :class:`~onmanifold.priors.datasets.GeodesicDataset`, and those of the examples' graph of neighbours
    elsewhere, which the paper does not treat.

    Reference: J. Braunsmann, M. Rajkovic, M. Rumpf, B. Wirth, Convergent autoencoder approximation of low
    bending and low distortion manifold embeddings, ESAIM: M2AN 58 (2024).
    """

    Options = FlatOptions
    Schedule = FlatSchedule
    model_defaults: ClassVar[dict[str, Any]] = {"tube": True}
    schedule: FlatSchedule
    pairs: GeodesicPairs | GraphPairs
    scaling: Scaling
    codes: Tensor | None = None
    tangents: Tensor
    outward: Tensor

    @classmethod
    def defaults(cls, x: Tensor, dim: int) -> dict[str, Table]:
        dim = min(2 * dim, x[0].numel())
        schedule = {"length": 5000, "encoder": 2500}
        return {"model": {"dim": dim, **default_network(x[0].shape)}, "schedule": schedule}

    def set_up(self) -> None:
        """Choose where pairs come from.

        Raises:
            ValueError: options that do not fit the data.
        """
        options = self.options
        if not isinstance(self.data, GeodesicDataset):
            self.pairs = GraphPairs(self.examples, options.k, options.eps, options.straight)
        else:
            self.pairs = GeodesicPairs(self.data, options.eps or self.data.injectivity_radius / 6)
        self.scaling = Scaling(self.pairs.landmarks, self.model.dim)
        if options.k >= len(self.examples):
            raise InputError(
                f"loss: k = {options.k} neighbours, but only {len(self.examples)} examples"
            )

    @property
    def watched_from(self) -> int:  # type: ignore[override]
        """Not before the decoder has begun to learn."""
        return self.schedule.encoder

    def draw(self, step: int) -> dict[str, Tensor]:
        if step >= self.schedule.encoder:
            return super().draw(step)
        generator = stream(self.seed, "train", step)
        if step < self.schedule.start * self.schedule.encoder:
            x, distance = self.pairs.draw_far(self.schedule.batch_size, generator)
            return {"x": self._seen(x), "aim": self.scaling.place(distance)}
        pairs = self.pairs.draw(self.schedule.batch_size, generator)
        images = {name: self._seen(getattr(pairs, name)) for name in ("start", "end", "between")}
        return pairs._replace(**images)._asdict()

    def _seen(self, x: Tensor) -> Tensor:
        """Examples of the pairs as the networks see them, as those of a graph already are."""
        return x if isinstance(self.pairs, GraphPairs) else self.model.normalized(x)

    def extras(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        length = self.options.noise * torch.rand((len(rows), 1), generator=generator)
        noise = length * torch.randn((len(rows), self.model.dim), generator=generator)
        return {"noise": noise.to(self.examples)}

    @torch.no_grad()
    def beside(self, rows: Tensor, noise: Tensor) -> Tensor:
        """Codes of examples, with noise ``(B, d)`` normal to them, or out over the border of the manifold."""
        if self.codes is None:  # not before the encoder's last step: batches are drawn ahead
            self._look_around()
        assert self.codes is not None
        code, tangent = self.codes[rows], self.tangents[rows]
        along: Tensor = (tangent.mT @ (tangent @ noise[:, :, None])).squeeze(2)
        outward = self.outward[rows]
        beyond = (noise * outward).sum(dim=1, keepdim=True).abs() * outward
        return code + noise - along + beyond

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        if "noise" in batch:
            decoded: Tensor = self.model.decoder(self.beside(batch["rows"], batch["noise"]))
            return (decoded - batch["x"]).square().mean()
        if "aim" in batch:
            off: Tensor = self.model.encoder(batch["x"]) - batch["aim"]
            return off.square().sum(dim=1).mean()
        p, b = quotients(self.model.encoder, Pairs(*(batch[name] for name in Pairs._fields)))
        distortion = p.square() + p.square().reciprocal() - 2
        loss: Tensor = (distortion + self.options.bending * b.square().sum(dim=1)).mean()
        return loss

    @torch.no_grad()
    def _look_around(self) -> None:
        """Codes of the examples; what is tangent, and at the border what points outwards, at each.

        Tangent spaces are those of the nearest codes around each. At the border of the manifold these lie
        all on one side: half of a disk, whose mean is 0.64 mean distances from its middle.
        """
        codes = self.model.codes(self.model.in_unit(self.examples))
        near = nearest_neighbours(codes, self.options.k, name="loss: k")[1]
        dim = max(1, round(intrinsic_dimension(codes, self.options.k)))
        edges = codes[near] - codes[:, None]
        tangents = torch.linalg.svd(edges, full_matrices=False).Vh[:, :dim]
        inward = (tangents.mT @ (tangents @ edges.mean(dim=1)[:, :, None])).squeeze(2)
        length = inward.norm(dim=1, keepdim=True)
        border = length > _ONE_SIDED * edges.norm(dim=2).mean(dim=1, keepdim=True)
        self.codes, self.tangents = codes, tangents
        self.outward = torch.where(border, -inward / length, 0.0)


def quotients(encoder: torch.nn.Module, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """First and second difference quotients of an encoder phi.

    With d the distance and t the share of the point m between x and y,

        p = |phi(y) - phi(x)| / d,    b = 2 ((1 - t) phi(x) + t phi(y) - phi(m)) / (t (1 - t) d^2).

    At the midpoint the factor is 8, as in the paper. p is 1 where phi is an isometry; b is the second
    derivative along the way, 0 where phi maps it to a straight line at constant speed.

    Returns:
        p, ``(N,)``, and b, ``(N, d)``.
    """
    x, y, m = encoder(torch.cat([pairs.start, pairs.end, pairs.between])).chunk(3)
    d, t = pairs.distance[:, None], pairs.share[:, None]
    p = (y - x).norm(dim=1) / pairs.distance
    return p, 2 * ((1 - t) * x + t * y - m) / (t * (1 - t) * d.square())
