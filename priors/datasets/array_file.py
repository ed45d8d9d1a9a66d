"""One's own examples, from a file."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onmanifold.checks import check_number
from onmanifold.errors import InputError
from onmanifold.priors.datasets.base import CHANNELS, check_channels, check_differences
from onmanifold.priors.datasets.finite import FiniteDataset, Part
from onmanifold.tensors import real_array

PARTS_SEED = 0  # which examples are held out depends on the file alone, not on a recipe's seed


class RepeatedExamples(UserWarning):
    """Examples of a file occur more than once."""


class ArrayFile(FiniteDataset):
    """Examples in a file, with a part of them held out that training never sees.

    Which are held out depends on the file alone. Copies of an example are in the same part: held-out
    metrics would mean nothing if training had seen them. Their values may be in any unit.

    Args:
        file: a ``.npy`` or ``.npz`` file with an array ``(n, *x_shape)``: vectors ``(n, m)``, or images
            ``(n, H, W)`` or ``(n, C, H, W)``.
        key: name of the array in a ``.npz`` file that holds several.
        held_out: share of the examples that is held out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no array of numbers of that shape, channels that come last, NaN, or too few examples to
            hold some out.

    Warns:
        RepeatedExamples: some examples occur more than once.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/points.npy", np.random.default_rng(0).normal(size=(50, 3)))
        ...     data = ArrayFile(f"{folder}/points.npy")
        >>> data.x_shape, len(data), len(data.part("held-out"))
        ((3,), 45, 5)
    """

    def __init__(self, file: str | Path, key: str | None = None, held_out: float = 0.1) -> None:
        held_out = check_number(held_out, "ArrayFile: held_out", high=1.0)
        x = _read(Path(file), key)
        learned, kept = _split(x, held_out, str(file))
        super().__init__(
            {
                "train": Part(x[learned], learned, replacement=True),
                "held-out": Part(x[kept], kept, replacement=False),
            }
        )


def _split(x: Tensor, held_out: float, name: str) -> tuple[Tensor, Tensor]:
    """The numbers of the examples to learn from and of those held out, all copies of one in one part."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(PARTS_SEED))
    wanted = max(1, round(held_out * len(x)))
    same = _first_copies(x)
    different = _in_order(same[order])
    if len(different) < len(x):
        warnings.warn(
            f"{name}: {len(x) - len(different)} of {len(x)} examples repeat others; copies are held out, or "
            "learned, together",
            RepeatedExamples,
            stacklevel=4,
        )
    sizes = torch.bincount(same, minlength=len(x))[different].cumsum(0)
    number = int((sizes < wanted).sum()) + 1
    if number >= len(different):
        raise InputError(
            f"{name}: {len(x)} examples are too few to hold some out ({len(different)} different ones)"
        )
    kept = torch.isin(same[order], different[:number])
    return order[~kept], order[kept]


def _in_order(numbers: Tensor) -> Tensor:
    """The different ones among ``numbers``, in the order in which they come first."""
    return torch.tensor(list(dict.fromkeys(numbers.tolist())))


def _first_copies(x: Tensor) -> Tensor:
    """For each example ``(n, *x_shape)`` the number of the first one that equals it, ``(n,)``."""
    first: dict[bytes, int] = {}
    rows = (x + 0.0).flatten(1).numpy()  # -0 is 0
    return torch.tensor([first.setdefault(row.tobytes(), i) for i, row in enumerate(rows)])


def _read(file: Path, key: str | None) -> Tensor:
    array = _load(file, key)
    if array.dtype.kind not in "fiub" or array.ndim not in (2, 3, 4) or array.size == 0:
        raise InputError(
            f"{file}: expected numbers (n, m), (n, H, W) or (n, C, H, W), got {array.dtype} "
            f"{array.shape}"
        )
    if array.ndim == 3 and 2 < array.shape[2] <= CHANNELS < min(array.shape[:2]):
        raise InputError(
            f"{file}: {array.shape} looks like one picture with its channels last, expected (n, H, W) or "
            "(n, C, H, W): images that are that narrow have to say their channels, x[:, None]"
        )
    check_channels(array.shape[1:], str(file))
    small = array.dtype.kind in "iub" and array.dtype.itemsize <= 2  # float32 holds them all
    exact = array if small else real_array(array, str(file))
    bad = int((~np.isfinite(exact)).reshape(len(exact), -1).any(axis=1).sum())
    if bad:
        raise InputError(f"{file}: {bad} of {len(exact)} examples hold NaN or infinite values")
    check_differences(float(exact.min()), float(exact.max()), str(file))
    with np.errstate(over="ignore"):
        x = torch.from_numpy(exact.astype(np.float32))
    if not bool(torch.isfinite(x).all()):
        raise InputError(f"{file}: values beyond the range of float32: take another unit")
    return x.unsqueeze(1) if x.ndim == 3 else x


def _load(file: Path, key: str | None) -> NDArray[Any]:
    """The array in a file; the one of that name where it holds several."""
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            names = loaded.files
            if key is None and len(names) == 1:
                key = names[0]
            if key in names:
                array: NDArray[Any] = loaded[key]
                return array
    except FileNotFoundError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zipfile.error) as error:
        message = str(error).splitlines() or [type(error).__name__]
        raise InputError(f"{file}: not a .npy or .npz file of numbers ({message[0]})") from error
    raise InputError(f"{file} holds {', '.join(names)}; say which one by key, got {key!r}")
