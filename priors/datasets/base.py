"""Data manifolds: explicit sets of examples, drawn from a seed."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

SPLITS = ("train", "seeding", "validation", "held-out")


class DataManifold(Protocol):
    """A distribution of examples that lie on, or near, a manifold.

    Attributes:
        x_shape: shape of one example.
    """

    x_shape: tuple[int, ...]

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw ``n`` examples: ``(n, *x_shape)`` and their intrinsic coordinates ``(n, ...)``."""
        ...


def stream(seed: int, split: str, index: int = 0) -> torch.Generator:
    """A random generator of its own for each seed, split and batch number.

    Training reads the streams of split ``train``; what is measured comes from ``held-out``. Streams are
    derived by hashing (numpy's ``SeedSequence``), so no two of them share their numbers.

    Example:
        >>> stream(0, "train").initial_seed() == stream(0, "held-out").initial_seed()
        False
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
    key = np.random.SeedSequence([seed, SPLITS.index(split), index]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(key[0]) << 31 | int(key[1]) >> 1)


def part_of(data: DataManifold, split: str) -> DataManifold:
    """What a split may see of some data.

    Of a generated manifold everything, since its examples never repeat; finite data
    (:class:`~onmanifold.priors.datasets.Examples`) say it by ``part(split)``.
    """
    part = getattr(data, "part", None)
    seen: DataManifold = data if part is None else part(split)
    return seen


def pixel_grid(size: int, half_width: float) -> tuple[Tensor, Tensor]:
    """Coordinates of pixel centres on ``[-half_width, half_width]^2``, each ``(size, size)``.

    Row 0 is on top (largest y), column 0 on the left (smallest x).
    """
    centres = (torch.arange(size) + 0.5) * (2 * half_width / size) - half_width
    y, x = torch.meshgrid(-centres, centres, indexing="ij")
    return x, y


def uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Uniform numbers in ``[low, high)``."""
    return low + (high - low) * torch.rand(shape, generator=generator)
