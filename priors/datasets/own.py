"""One's own examples, with parts of them held out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from onmanifold.checks import check_number
from onmanifold.errors import InputError
from onmanifold.priors.datasets.finite import FiniteDataset, Part, copy_of
from onmanifold.priors.datasets.sources import Source, read_source

PARTS_SEED = 0  # which examples are held out depends on the examples alone, not on a recipe's seed


class RepeatedExamples(UserWarning):
    """Examples occur more than once."""


class OwnExamples(FiniteDataset):
    """Examples in a file or a folder, with parts of them held out that training never learns.

    Which are held out depends on the examples alone. Copies of an example are in the same part: held-out
    metrics would mean nothing if training had seen them. Their values may be in any unit.

    Args:
        file: a ``.npy`` or ``.npz`` file, or a zarr store, with an array ``(n, *x_shape)``: vectors
            ``(n, m)``, or images ``(n, H, W)`` or ``(n, C, H, W)``; or a folder of PNG, JPEG or TIFF images.
        key: name of the array in a file that holds several.
        held_out: share of the examples by which the trained prior is judged.
        validation: share of the examples by which training decides when to stop; 0: none.
        resize: height and width that images are cut and brought to.
        gray: make coloured images gray.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no examples that can be learned from, see :mod:`onmanifold.priors.datasets.sources`, or
            too few to hold some out.

    Warns:
        RepeatedExamples: some examples occur more than once.

    Example:
        >>> import tempfile, numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/points.npy", np.random.default_rng(0).normal(size=(50, 3)))
        ...     data = OwnExamples(f"{folder}/points.npy")
        >>> data.x_shape, len(data), len(data.part("held-out"))
        ((3,), 45, 5)
    """

    def __init__(
        self,
        file: str | Path,
        key: str | None = None,
        held_out: float = 0.1,
        validation: float = 0.0,
        resize: Sequence[int] | None = None,
        gray: bool = False,
    ) -> None:
        self._divide(read_source(file, key, resize, gray), str(file), held_out, validation)

    @classmethod
    def of(
        cls,
        data: Any,
        *,
        key: str | None = None,
        held_out: float = 0.1,
        validation: float = 0.0,
        resize: Sequence[int] | None = None,
        gray: bool = False,
    ) -> Self:
        """The same of what is in memory: an array, a tensor, a data set of torch.

        Example:
            >>> len(OwnExamples.of(torch.rand(50, 3)))
            45
        """
        self = cls.__new__(cls)
        self._divide(read_source(data, key, resize, gray), "data", held_out, validation)
        return self

    def _divide(self, source: Source, name: str, held_out: float, validation: float) -> None:
        check_number(held_out, "held_out", high=1.0)
        if validation:
            check_number(validation, "validation", high=1.0 - held_out)
        self.kind, x = source.kind, source.x
        learned, kept, watched = _split(x, (held_out, validation), name)
        parts = {
            "train": Part(x[learned], learned, replacement=True),
            "held-out": Part(x[kept], kept, replacement=False),
        }
        if len(watched):
            parts["validation"] = Part(x[watched], watched, replacement=False)
        super().__init__(parts)


def _split(x: Tensor, shares: tuple[float, ...], name: str) -> tuple[Tensor, ...]:
    """The numbers of the examples to learn from, and of those of each share; copies are together."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(PARTS_SEED))
    same = copy_of(x)
    different = _in_order(same[order])
    if len(different) == 1 < len(x):
        raise InputError(
            f"{name}: all of {len(x)} examples are the same; there is nothing to learn"
        )
    if len(different) < len(x):
        warnings.warn(
            f"{name}: {len(x) - len(different)} of {len(x)} examples repeat others; copies are held out, or "
            "learned, together",
            RepeatedExamples,
            stacklevel=5,
        )
    sizes = torch.bincount(same, minlength=len(x))[different].cumsum(0)
    parts, first, total = [], 0, 0.0
    for share in shares:
        total += share
        wanted = max(1, round(total * len(x)))
        number = max(int((sizes < wanted).sum()), first) + 1 if share else first
        if number >= len(different):
            raise InputError(
                f"{name}: {len(x)} examples are too few to hold some out ({len(different)} different ones)"
            )
        parts.append(order[torch.isin(same[order], different[first:number])])
        first = number
    return order[torch.isin(same[order], different[first:])], *parts


def _in_order(numbers: Tensor) -> Tensor:
    """The different ones among ``numbers``, in the order in which they come first."""
    return torch.tensor(list(dict.fromkeys(numbers.tolist())))
