"""What all data sets share: seeded examples, splits, grids of pixels."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from onmanifold.checks import check_count, check_field, check_number
from onmanifold.errors import InputError
from onmanifold.tensors import as_real

SPLITS = ("train", "seeding", "validation", "held-out")
ROUNDING = 100  # roundings of the largest value that differences have to be above
CHANNELS = 4  # of a picture at most: red, green, blue, and how opaque


class Examples(NamedTuple):
    """Examples of a data set.

    Attributes:
        x: the examples, ``(n, *x_shape)``.
        coordinates: what they are made from, such as angles, or a label: ``(n, ...)``.
    """

    x: Tensor
    coordinates: Tensor


class Dataset(Protocol):
    """A distribution of examples that lie on, or near, a manifold.

    Any class with these two members is a data set. Optional members:

    - ``part(split)``: the data set that a split may see, where examples are finite in number;
    - ``weights(x)``: what the entries of ``x`` count in the losses of ``ae`` and ``vae``;
    - ``distance(x)`` and ``noise``: distance to the manifold and standard deviation of the noise on each
      coordinate, by which the report of an atlas measures its samples.
    """

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        ...

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Examples:
        """Draw ``n`` examples, and their coordinates."""
        ...


class SquareImages:
    """Images ``(1, size, size)``.

    Attributes:
        size: number of rows, and of columns.
    """

    size: int

    def __post_init__(self) -> None:
        check_numbers(self)

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of one image."""
        return (1, self.size, self.size)


_LENGTHS = frozenset(("radius", "length", "width", "height", "inner", "outer", "major", "minor"))


def check_numbers(data: Any) -> None:
    """Raise unless a dataclass's ``size`` is an int from 1, lengths are positive, other numbers finite."""
    for field in fields(data):
        name, value = field.name, getattr(data, field.name)
        if name == "size":
            check_field(data, name, check_count)
        elif name in _LENGTHS:
            check_field(data, name, check_number, high=1e15)  # squares stay within float32
        elif name == "noise" and value != 0:
            check_field(data, name, check_number, high=1e15)
        elif isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{type(data).__name__}: {name} has to be finite, got {value}")


def stream(seed: int, split: str, index: int = 0) -> torch.Generator:
    """A random generator of its own for each seed, split and batch number.

    Training reads the streams of split ``train``; what is measured comes from ``held-out``. Streams are
    derived by hashing (numpy's ``SeedSequence``), so no two of them share their numbers.

    Example:
        >>> stream(0, "train").initial_seed() == stream(0, "held-out").initial_seed()
        False
    """
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
    key = np.random.SeedSequence([seed, SPLITS.index(split), index]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(key[0]) << 31 | int(key[1]) >> 1)


def part_of(data: Dataset, split: str) -> Dataset:
    """What a split may see of some data.

    A generator shows everything to every split, since its examples never repeat; finite data
    (:class:`~onmanifold.priors.datasets.OwnExamples`) say it by ``part(split)``.
    """
    part = getattr(data, "part", None)
    seen: Dataset = data if part is None else part(split)
    return seen


def check_channels(x_shape: tuple[int, ...], name: str) -> None:
    """Raise where images look as if their channels came last, ``(H, W, C)``.

    Example:
        >>> check_channels((28, 28, 3), "faces.npy")
        Traceback (most recent call last):
        onmanifold.errors.InputError: faces.npy: images (28, 28, 3) have their channels last, expected ...
    """
    if len(x_shape) == 3 and x_shape[2] <= CHANNELS < min(x_shape[:2]):
        raise InputError(
            f"{name}: images {tuple(x_shape)} have their channels last, expected (n, C, H, W): move them by "
            "numpy.moveaxis(x, -1, 1)"
        )


def check_differences(low: float, high: float, name: str) -> None:
    """Raise where values from ``low`` to ``high`` differ by hardly more than float32 rounds them."""
    finest = ROUNDING * torch.finfo(torch.float32).eps * max(abs(low), abs(high))
    if 0 < high - low < finest:
        raise InputError(
            f"{name}: values range from {low:.9g} to {high:.9g}, so that differences are lost in the "
            "rounding of float32: subtract a background first, in float64"
        )


def draw_examples(data: Dataset, split: str, n: int, generator: torch.Generator) -> Tensor:
    """``n`` examples for a split in float32, ``(n, *x_shape)``: numpy's arrays and integers, too.

    Raises:
        TypeError: complex or boolean examples, or no numbers at all.
    """
    x = part_of(data, split).sample(n, generator)[0]
    return as_real(x, "data").float()


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
