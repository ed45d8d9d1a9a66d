"""What all training methods share: a run is a sequence of numbered steps.

What a step does, and which examples and noise it sees, follows from its number alone, so that a run that was
interrupted and resumed takes the same steps as one that was not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from math import cos, pi
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from onmanifold.checks import check_batch, check_count, check_number
from onmanifold.errors import InputError
from onmanifold.prior import ManifoldPrior
from onmanifold.priors.atlas.diagnostics import chart_distances
from onmanifold.priors.datasets import Dataset, check_channels
from onmanifold.priors.datasets.finite import copy_of

Table = dict[str, Any]
"""A table of a recipe."""


@dataclass(frozen=True)
class Numbers:
    """Numbers that a table of a recipe chooses: an ``int`` is at least 1, a ``float`` positive.

    A subclass names the table, and the numbers that may be 0 as well.
    """

    table: ClassVar[str]
    or_zero: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            value, name = getattr(self, field.name), f"{self.table}: {field.name}"
            zero = field.name in self.or_zero
            if field.type == "int":
                value = check_count(value, name, at_least=0 if zero else 1)
            elif zero and value == 0:
                value = 0.0
            elif not value is field.default is None:
                value = check_number(value, name)
            object.__setattr__(self, field.name, value)  # numpy's scalars become Python's


@dataclass(frozen=True)
class Schedule(Numbers):
    """Sizes and rates that the schedules of all methods share.

    Attributes:
        batch_size: examples a step.
        learning_rate: largest learning rate; it rises over the first steps and ends at 0.01 of itself.
        clip: largest norm of the gradient.
        patience: steps after which a run stops if the error on examples of the split ``validation`` has not
            fallen; the weights with the smallest error are kept. 0: it never stops early, and keeps the last.
    """

    table = "schedule"
    or_zero: ClassVar[tuple[str, ...]] = ("patience",)

    batch_size: int = 64
    learning_rate: float = 1e-3
    clip: float = 1.0
    patience: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.steps, "schedule: steps in all")

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        raise NotImplementedError

    def rate(self, step: int) -> float:
        """Learning rate at a step, as a share of the largest: a short rise, then half a cosine."""
        return cosine_rate(step, self.steps)


def cosine_rate(step: int, steps: int) -> float:
    """1 after a rise over the first twentieth (200 steps at most), 0.01 at the end.

    Example:
        >>> [round(cosine_rate(step, 1000), 2) for step in (0, 50, 500, 1000)]
        [0.02, 0.99, 0.51, 0.01]
    """
    warmup = max(1, min(200, steps // 20))
    progress = min(1.0, step / steps)
    return min(1.0, (step + 1) / warmup) * (0.01 + 0.99 * (1 + cos(pi * progress)) / 2)


class TrainingMethod(nn.Module, ABC):
    """A training method at work on one prior; an entry point of the group ``onmanifold.methods``.

    Attributes:
        watched_from: step from which on the error of the prior says something.
        optimizer: that of the run, while one is under way.

    Args:
        data: what is learned.
        schedule: lengths and rates.
        seed: seed of examples and noise.
    """

    schedule: Schedule
    watched_from: int = 0
    optimizer: torch.optim.Optimizer | None = None

    def __init__(self, data: Dataset, schedule: Schedule, seed: int) -> None:
        super().__init__()
        self.data, self.schedule, self.seed = data, schedule, seed

    @classmethod
    @abstractmethod
    def prepare(cls, data: Dataset, model: Table, schedule: Table, loss: Table, seed: int) -> Self:
        """A training before its first step; bad arguments and data are found here.

        Args:
            data: what is learned.
            model: a recipe's table ``[model]``.
            schedule: its table ``[schedule]``.
            loss: its table ``[loss]``.
            seed: seed of examples and noise.

        Raises:
            TypeError: an argument that the model or the schedule does not take.
            ValueError: sizes that do not fit each other, or data that cannot be learned.
        """

    @classmethod
    @abstractmethod
    def defaults(cls, x: Tensor, dim: int) -> dict[str, Table]:
        """The tables ``model`` and ``schedule`` of a recipe, where nobody chose any.

        Args:
            x: some examples ``(n, *x_shape)``.
            dim: an estimate of the dimension of their manifold.
        """

    @property
    @abstractmethod
    def prior(self) -> ManifoldPrior:
        """What is trained."""

    @abstractmethod
    def draw(self, step: int) -> dict[str, Tensor]:
        """The batch of a step; the first axis of each value counts its members."""

    @abstractmethod
    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        """The loss of a batch, which also holds the number of its ``step``."""

    def distances(self, x: Tensor) -> Tensor:
        """Distances ``(B,)`` of examples ``(B, *x_shape)`` to the prior as it is now."""
        return chart_distances(self.prior, x).amin(dim=1)

    def finish(self) -> None:  # noqa: B027
        """What is left to do after the last step, such as fitting the latent density."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def make_optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of a run; the run sets its learning rate before each step."""
        trained = [p for p in self.parameters() if p.requires_grad]
        return torch.optim.Adam(trained, lr=self.schedule.learning_rate, fused=True)


def check_examples(x: Tensor, x_shape: tuple[int, ...], needed: int, what: str) -> None:
    """Raise unless something can be learned from examples like ``x``.

    Args:
        x: the examples.
        x_shape: shape that one should have.
        needed: number of different examples that it takes.
        what: what takes them, for the message.

    Raises:
        ValueError: another shape than ``(n, *x_shape)``, NaN, all the same, or too few different ones.
    """
    check_channels(x_shape, "data")
    check_batch(x, x_shape, "data")
    bad = int((~torch.isfinite(x)).flatten(1).any(dim=1).sum())
    if bad:
        raise InputError(f"data: {bad} of {len(x)} examples hold NaN or infinite values")
    different = len(copy_of(x).unique())
    if different == 1:
        raise InputError(f"data: all of {len(x)} examples are the same; there is nothing to learn")
    if different < needed:
        raise InputError(f"data: {what}, but only {different} different examples")
