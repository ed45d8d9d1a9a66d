"""One's own examples, from a file."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from onmanifold.errors import InputError
from onmanifold.priors.datasets.finite import FiniteDataset, Part

PARTS_SEED = 0  # which examples are held out depends on the file alone, not on a recipe's seed


class ArrayFile(FiniteDataset):
    """Examples in a file, with a part of them held out that training never sees.

    Args:
        file: a ``.npy`` or ``.npz`` file with an array ``(n, *x_shape)``: vectors ``(n, m)``, or images
            ``(n, H, W)`` or ``(n, C, H, W)``.
        key: name of the array in a ``.npz`` file that holds several.
        held_out: share of the examples that is held out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no array of numbers of that shape, NaN, or too few examples to hold some out.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/points.npy", np.random.default_rng(0).normal(size=(50, 3)))
        ...     data = ArrayFile(f"{folder}/points.npy")
        >>> data.x_shape, len(data), len(data.part("held-out"))
        ((3,), 45, 5)
    """

    def __init__(self, file: str | Path, key: str | None = None, held_out: float = 0.1) -> None:
        if not 0 < held_out < 1:
            raise InputError(f"ArrayFile: held_out has to be between 0 and 1, got {held_out}")
        x = _read(Path(file), key)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(PARTS_SEED))
        kept = max(1, round(held_out * len(x)))
        if kept >= len(x):
            raise InputError(f"{file}: {len(x)} examples are too few to hold some out")
        learned, kept_out = order[kept:], order[:kept]
        super().__init__(
            {
                "train": Part(x[learned], learned, replacement=True),
                "held-out": Part(x[kept_out], kept_out, replacement=False),
            }
        )


def _read(file: Path, key: str | None) -> Tensor:
    try:
        loaded = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{file}: not a .npy or .npz file of numbers ({error})") from error
    if not isinstance(loaded, np.ndarray):
        names = loaded.files
        if key is None and len(names) == 1:
            key = names[0]
        if key not in names:
            raise InputError(f"{file} holds {', '.join(names)}; say which one by key, got {key!r}")
        loaded = loaded[key]
    if loaded.dtype.kind not in "fiub" or loaded.ndim not in (2, 3, 4) or loaded.size == 0:
        raise InputError(
            f"{file}: expected numbers (n, m), (n, H, W) or (n, C, H, W), got {loaded.dtype} "
            f"{loaded.shape}"
        )
    x = torch.from_numpy(loaded.astype(np.float32))
    x = x.unsqueeze(1) if x.ndim == 3 else x
    bad = int((~torch.isfinite(x)).flatten(1).any(dim=1).sum())
    if bad:
        raise InputError(f"{file}: {bad} of {len(x)} examples hold NaN or infinite values")
    return x
