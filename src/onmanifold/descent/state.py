"""What a descent carries from step to step: a batch of members, each with its own numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from onmanifold.prior import Point


@dataclass(frozen=True)
class Rows:
    """A dataclass whose fields hold one row a member: tensors, points, other such objects."""

    def select(self, rows: Tensor) -> Self:
        """The members ``rows`` (a mask or an index)."""
        return self._map(lambda value: _select(value, rows))

    def merge(self, rows: Tensor, part: Self) -> Self:
        """These members, with ``part`` in the place of the members ``rows`` (an index)."""
        if len(rows) == 0:
            return self
        names = [field.name for field in fields(self)]
        merged = {n: _merge(getattr(self, n), rows, getattr(part, n)) for n in names}
        return replace(self, **merged)

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """All members of ``parts`` (of tensors), in order."""
        names = [field.name for field in fields(cls)]
        return cls(**{n: torch.cat([getattr(part, n) for part in parts]) for n in names})

    def _map(self, function: Any) -> Self:
        return replace(self, **{f.name: function(getattr(self, f.name)) for f in fields(self)})


def _select(value: Any, rows: Tensor) -> Any:
    return value[rows] if isinstance(value, Tensor) else value.select(rows)


def _merge(value: Any, rows: Tensor, part: Any) -> Any:
    if isinstance(value, Tensor):
        return value.index_copy(0, rows, part)
    if isinstance(value, Point):
        return Point(_merge(value.chart, rows, part.chart), _merge(value.z, rows, part.z))
    return value.merge(rows, part)


@dataclass(frozen=True)
class State(Rows):
    """Where B members stand. Methods extend it by what they need themselves.

    Attributes:
        point: where they are.
        objective: misfit plus weighted penalty, ``(B,)``.
        misfit: the fidelity's value alone, ``(B,)``.
        resolution: changes of the objective below it are rounding, ``(B,)``.
        gradient_norm: length of the Riemannian gradient, ``(B,)``; directions that leave the latent
            box do not count.
        promise: how far the method's model of the objective lies below it, ``(B,)``.
        steps: steps attempted, ``(B,)``, integer.
        step_length: length in the unknown's space of the last step, 0 if it was rejected, ``(B,)``.
        decrease: what the last step gained, or, rejected, by how much the objective and its model
            moved, ``(B,)``; infinite if that says nothing (no step yet, a change of chart).
        stalled: whether no step lowers the objective any more, ``(B,)``, boolean.
        wait: how many steps to go before the next change of chart is tried, ``(B,)``, integer.
        refusals: changes of chart refused since the last one that stood, ``(B,)``, integer.
    """

    point: Point
    objective: Tensor
    misfit: Tensor
    resolution: Tensor
    gradient_norm: Tensor
    promise: Tensor
    steps: Tensor
    step_length: Tensor
    decrease: Tensor
    stalled: Tensor
    wait: Tensor
    refusals: Tensor

    def __len__(self) -> int:
        return len(self.objective)
