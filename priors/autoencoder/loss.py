"""Training an autoencoder: examples, batches, and one loss a method.

A method is a subclass with a loss, in a file of its own; what it needs beside the examples it computes once
(:meth:`AutoencoderTraining.set_up`) or draws with each batch (:meth:`AutoencoderTraining.extras`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from onmanifold.errors import InputError
from onmanifold.priors.autoencoder.autoencoder import BATCH, Autoencoder, AutoencoderConfig
from onmanifold.priors.datasets import Dataset, draw_examples, part_of, stream
from onmanifold.priors.networks import default_network
from onmanifold.priors.training.method import (
    Numbers,
    Schedule,
    Table,
    TrainingMethod,
    check_examples,
    cosine_rate,
)
from onmanifold.priors.training.values import some_examples, with_values


@dataclass(frozen=True)
class AutoencoderSchedule(Schedule):
    """Length and sizes of a training run.

    Attributes:
        length: steps.
        examples: how many examples there are to learn from; of a finite set at most all.
        fitted: how many of them the latent density is fitted to, at most.
        inverse: further steps in which the encoder alone learns to invert the decoder at samples of the
            latent density, beside the examples; between their codes it would be less of an inverse.
    """

    or_zero: ClassVar[tuple[str, ...]] = ("patience", "inverse")

    length: int = 5000
    examples: int = 10_000
    fitted: int = 10_000
    inverse: int = 0

    @property
    def steps(self) -> int:
        return self.length


@dataclass(frozen=True)
class LossOptions(Numbers):
    """The numbers in a loss; of the plain one there are none."""

    table = "loss"


class AutoencoderTraining(TrainingMethod):
    """An autoencoder, a set of examples, and a loss: by default the mean squared error.

    A subclass writes another :meth:`loss`, and may set

    - ``Options``: makes the loss's numbers of the recipe's table ``[loss]``;
    - ``Schedule``: a dataclass of its lengths and sizes, the table ``[schedule]``;
    - ``model_defaults``: arguments of the configuration where the recipe names none;
    - ``smallest_batch``: examples a step that the loss needs.

    Args:
        model: the autoencoder to train, in place.
        data: where examples come from.
        schedule: length and sizes.
        options: the loss's numbers, of the class's ``Options``.
        seed: seed of examples and noise.
    """

    Options: ClassVar[Callable[..., LossOptions]] = LossOptions
    Schedule: ClassVar[type[AutoencoderSchedule]] = AutoencoderSchedule
    model_defaults: ClassVar[dict[str, Any]] = {}
    smallest_batch: ClassVar[int] = 1
    schedule: AutoencoderSchedule
    examples: Tensor

    def __init__(
        self,
        model: Autoencoder,
        data: Dataset,
        schedule: AutoencoderSchedule,
        options: Any,
        seed: int,
    ) -> None:
        super().__init__(data, schedule, seed)
        if schedule.batch_size < self.smallest_batch:
            raise InputError(
                f"schedule: batch_size has to be at least {self.smallest_batch} for this method, got "
                f"{schedule.batch_size}"
            )
        self.model, self.options = model, options
        x = examples_of(data, schedule.examples, seed)
        check_examples(x, model.x_shape, *self._needed(model, schedule))
        # as the networks see them: numbers of order one, whatever the unit of the data
        self.register_buffer("examples", model.normalized(x), persistent=False)
        self.set_up()

    @classmethod
    def prepare(cls, data: Dataset, model: Table, schedule: Table, loss: Table, seed: int) -> Self:
        if "amplitude" not in model:
            model = with_values(model, some_examples(data, seed))
        autoencoder = Autoencoder(
            AutoencoderConfig(data.x_shape, **{**cls.model_defaults, **model})
        )
        return cls(autoencoder, data, cls.Schedule(**schedule), cls.Options(**loss), seed)

    @classmethod
    def defaults(cls, x: Tensor, dim: int) -> dict[str, Table]:
        network = default_network(x[0].shape)
        # of normalized networks on one grid; on two, 0.004 left colour images at the error of their mean
        fast = len(network["options"].get("channels", ())) == 1
        rate = 4e-3 if fast else 1e-3
        schedule = {"length": 4000, "learning_rate": rate, "patience": 1000}
        return {"model": {"dim": dim, **network}, "schedule": schedule}

    @staticmethod
    def _needed(model: Autoencoder, schedule: AutoencoderSchedule) -> tuple[int, str]:
        """How many different examples it takes, and what takes them."""
        config = model.settings
        if schedule.fitted < config.components:
            raise InputError(
                f"schedule: fitted = {schedule.fitted} examples, but the latent density has "
                f"{config.components} components; take more, or fewer components"
            )
        needed = max(2, config.components, config.dim + 1 if config.whiten else 0)
        return needed, f"{needed} are needed, for components = {config.components} (lower them)"

    @property
    def prior(self) -> Autoencoder:
        return self.model

    def set_up(self) -> None:  # noqa: B027
        """Compute once what the loss needs of all examples, such as their graph of neighbours.

        Raises:
            ValueError: options that do not fit the examples.
        """

    def extras(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """What the loss needs beside the examples numbered ``rows`` ``(B,)``; values are ``(B, ...)``."""
        return {}

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """The loss of a batch: ``x`` ``(B, *x_shape)``, ``rows`` ``(B,)``, ``step`` and the extras."""
        return self.error(batch["x"], self.reconstruction(batch["x"]))

    def reconstruction(self, x: Tensor) -> Tensor:
        """``D(E(x))``."""
        reconstructed: Tensor = self.model.decoder(self.model.encoder(x))
        return reconstructed

    def error(self, x: Tensor, found: Tensor) -> Tensor:
        """Mean squared error, each entry weighted by ``weights(x)`` of the data where they have that.

        Args:
            x: examples as the networks see them; the data's weights are those of the original ones.
            found: their reconstructions.
        """
        off = (found - x).square()
        weigh = getattr(self.data, "weights", None)
        if weigh is None:
            return off.mean()
        weights: Tensor = weigh(self.model.in_unit(x))
        return (weights * off).sum() / weights.sum()

    def draw(self, step: int) -> dict[str, Tensor]:
        generator = stream(self.seed, "train", step)
        rows = torch.randint(
            len(self.examples), (self.schedule.batch_size,), generator=generator
        ).to(self.examples.device)
        return {"x": self.examples[rows], "rows": rows} | self.extras(rows, generator)

    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        return self.loss(batch)

    def distances(self, x: Tensor) -> Tensor:
        model = self.model
        found = [self.reconstruction(part) for part in model.normalized(x).split(BATCH)]
        off: Tensor = (model.in_unit(torch.cat(found)) - x).flatten(1).norm(dim=1)
        return off

    def finish(self) -> None:
        self.model.eval()
        x = self.model.in_unit(self.examples[: self.schedule.fitted])
        self.model.fit_latents(x, self.seed)
        if self.schedule.inverse:
            self._learn_inverse()
            self.model.fit_latents(x, self.seed)

    def _learn_inverse(self) -> None:
        """Both errors count as a share of what they are of, codes or images."""
        encoder, decoder, schedule = self.model.encoder, self.model.decoder, self.schedule
        optimizer = torch.optim.Adam(encoder.parameters(), lr=schedule.learning_rate, fused=True)
        for step in range(schedule.inverse):
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate * cosine_rate(step, schedule.inverse)
            generator = stream(self.seed, "train", schedule.length + step)
            rows = torch.randint(len(self.examples), (schedule.batch_size,), generator=generator)
            x, z = self.examples[rows], self.model.density.sample(schedule.batch_size, generator)
            with torch.no_grad():
                drawn = decoder(z + self.model.centre)
            off = (encoder(drawn) - self.model.centre - z).square().mean() / z.square().mean()
            loss = off + self.error(x, decoder(encoder(x))) / x.square().mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(encoder.parameters(), schedule.clip)
            optimizer.step()


def examples_of(data: Dataset, n: int, seed: int) -> Tensor:
    """``n`` examples ``(n, *x_shape)`` to learn from; of a finite set ``n`` different ones, at most all."""
    part = part_of(data, "train")
    generator = stream(seed, "seeding")
    finite: Tensor | None = getattr(part, "x", None)
    if finite is None:
        return draw_examples(data, "train", n, generator)
    return finite[torch.randperm(len(finite), generator=generator)[:n]]
