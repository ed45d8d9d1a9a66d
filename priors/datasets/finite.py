"""Finite sets of examples, of which each split sees its own part."""

from __future__ import annotations

import torch
from torch import Tensor

from onmanifold.checks import as_generator
from onmanifold.errors import InputError
from onmanifold.priors.datasets.base import SPLITS, Examples


class Part:
    """Some examples of a finite set.

    Args:
        x: the examples, ``(n, *x_shape)``.
        numbers: one coordinate of each, such as its number in a file or its label, ``(n,)``.
        replacement: whether an example can be drawn twice; if not, at most all are drawn.
    """

    def __init__(self, x: Tensor, numbers: Tensor, replacement: bool) -> None:
        self.x, self.numbers, self.replacement = x, numbers, replacement
        self.x_shape = tuple(x.shape[1:])

    def __len__(self) -> int:
        return len(self.x)

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Examples:
        """``n`` examples, and their numbers ``(n, 1)``."""
        generator = as_generator(generator)
        if self.replacement:
            rows = torch.randint(len(self.x), (n,), generator=generator)
        else:
            rows = torch.randperm(len(self.x), generator=generator)[:n]
        return Examples(self.x[rows], self.numbers[rows, None])


class FiniteDataset:
    """A data set of finitely many examples; its own :meth:`sample` draws from those to learn from.

    Args:
        parts: by split, ``train`` and others; a split that is not among them sees what ``train`` does.
    """

    def __init__(self, parts: dict[str, Part]) -> None:
        self.parts, self.x_shape = parts, parts["train"].x_shape

    def part(self, split: str) -> Part:
        """The examples that a split may see.

        Raises:
            ValueError: no such split.
        """
        if split not in SPLITS:
            raise InputError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
        return self.parts.get(split, self.parts["train"])

    def __len__(self) -> int:
        return len(self.parts["train"])

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Examples:
        """``n`` of the examples to learn from, and their coordinates ``(n, 1)``."""
        return self.parts["train"].sample(n, generator)


def copy_of(x: Tensor) -> Tensor:
    """For each example ``(n, *x_shape)`` the number of the first one that equals it, ``(n,)``.

    Example:
        >>> copy_of(torch.tensor([[1.0], [2.0], [1.0]])).tolist()
        [0, 1, 0]
    """
    first: dict[bytes, int] = {}
    rows = (x + 0.0).flatten(1).cpu().numpy()  # -0 is 0
    return torch.tensor([first.setdefault(row.tobytes(), i) for i, row in enumerate(rows)])
