"""Early dropping of starts that will not win."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from onmanifold.checks import check_count
from onmanifold.descent.state import State
from onmanifold.status import Status


@dataclass(frozen=True)
class Halving:
    """Of each measurement's starts drop the worse half after so many steps, and again after twice as many.

    The best start stays, and so does one whose model of the objective promises to pass it.

    Args:
        starts: S, members of each measurement, which lie in a row.
        after: steps to the first round.

    References:
        K. Jamieson, A. Talwalkar, Non-stochastic best arm identification and hyperparameter optimization,
        AISTATS 2016.

    Example:
        >>> Halving(starts=8, after=5)
        Halving(starts=8, after=5)
    """

    starts: int
    after: int

    def __post_init__(self) -> None:
        check_count(self.starts, "Halving: starts")
        check_count(self.after, "Halving: after")

    def dropped(self, state: State, status: Tensor, round_number: int) -> Tensor:
        """Which of the running members end here, after ``round_number`` steps: ``(N,)``, boolean."""
        rounds, rest = divmod(round_number, self.after)
        if rest or rounds & (rounds - 1):  # 1, 2, 4, 8 times ``after``
            return torch.zeros_like(state.stalled)
        keep = max(self.starts >> rounds.bit_length(), 1)
        worth = state.objective.nan_to_num(nan=torch.inf).view(-1, self.starts)
        rank = worth.argsort(dim=1, stable=True).argsort(dim=1)
        # A slope alone promises no end: what it may gain is then unknown, and rank decides.
        promise = torch.where(state.promise.isfinite(), state.promise, 0.0).view_as(worth)
        hopeful = worth - promise <= worth.amin(dim=1, keepdim=True)
        hopeless = ((rank >= keep) & ~hopeful).flatten()
        return hopeless & (status == Status.RUNNING)
