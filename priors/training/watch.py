"""The error on examples that are not learned from, while a training runs."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from onmanifold.priors.atlas.diagnostics import relative_to_norm
from onmanifold.priors.datasets import Dataset, draw_examples, stream
from onmanifold.priors.training.method import TrainingMethod

WATCHED = 400  # examples


class Watch:
    """Measures the error of a training now and then, and keeps the weights that had the smallest.

    The examples come from the split ``validation``: neither learned, nor those that the card's metrics are
    measured on. Of finite data without such a split there are none, and nothing is measured.

    Args:
        method: the training.

    Attributes:
        curve: steps, and the median distance of the examples to the prior as a share of their norm.
    """

    def __init__(self, method: TrainingMethod) -> None:
        self.method = method
        self.patience = method.schedule.patience
        self.x = watched_examples(method.data, method.seed)
        self.curve: list[tuple[int, float]] = []
        self.weights: dict[str, Tensor] = {}

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and error of the smallest error."""
        return min(self.curve, key=lambda pair: pair[1]) if self.curve else None

    def look(self, step: int) -> None:
        """Measure the error after a step."""
        if self.x is None or step < self.method.watched_from:
            return
        before = self.best
        error = self._error(self.x)
        self.curve.append((step, error))
        if self.patience and (before is None or error < before[1]):
            self.weights = copy.deepcopy(self.method.state_dict())

    def _error(self, x: Tensor) -> float:
        method = self.method
        method.eval()
        x = x.to(method.device)
        with torch.no_grad():
            error = float(relative_to_norm(method.distances(x), x).median())
        method.train()
        return error

    @property
    def exhausted(self) -> bool:
        """Whether the error has not fallen for as many steps as the schedule's patience."""
        best = self.best
        if not self.patience or best is None:
            return False
        return self.curve[-1][0] - best[0] >= self.patience

    def restore(self) -> None:
        """Give the prior the weights that had the smallest error, if they were kept."""
        if self.weights:
            self.method.load_state_dict(self.weights)

    def state(self) -> dict[str, Any]:
        """What a checkpoint has to hold."""
        return {"curve": [list(pair) for pair in self.curve], "weights": self.weights}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from the state in a checkpoint."""
        self.curve = [(int(step), float(error)) for step, error in state["curve"]]
        self.weights = state["weights"]
        if self.weights.keys() - self.method.state_dict().keys():
            raise ValueError("weights of another prior")


def watched_examples(data: Dataset, seed: int) -> Tensor | None:
    """Examples of the split ``validation``; None where data have none of their own."""
    parts = getattr(data, "parts", None)
    if parts is not None and "validation" not in parts:
        return None
    return draw_examples(data, "validation", WATCHED, stream(seed, "validation"))
