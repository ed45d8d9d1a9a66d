"""Handwritten digits and images of clothes, from their files."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from onmanifold.checks import check_count
from onmanifold.errors import InputError
from onmanifold.priors.datasets.finite import FiniteDataset, Part

DATA = "ONMANIFOLD_DATA"  # environment variable: the folder in which the data sets' folders lie
VALIDATION = 5000  # of the training images, the last ones


class Mnist(FiniteDataset):
    """Images of handwritten digits, 28 x 28, values from 0 (background) to 1; coordinates are labels.

    The 10 000 test images are held out; the last 5000 training images are for choosing numbers
    (``validation``), and the others, or ``size`` of them, to learn from.

    Args:
        size: number of images to learn from; default: all.
        folder: where the four ``.gz`` files in idx format lie; default: ``$ONMANIFOLD_DATA/mnist``.
        labels: only images of these labels.

    Raises:
        FileNotFoundError: the files are not there.
        ValueError: not idx files of images, or more asked for than there are.

    Reference: Y. LeCun, C. Cortes, C. J. C. Burges, http://yann.lecun.com/exdb/mnist/.
    """

    name = "mnist"

    def __init__(
        self,
        size: int | None = None,
        folder: str | Path | None = None,
        labels: list[int] | None = None,
    ) -> None:
        self.folder = Path(folder) if folder else Path(os.environ.get(DATA, "data")) / self.name
        training, held_out = self._read("train", labels), self._read("t10k", labels)
        kept = min(VALIDATION, len(training[0]) // 10)
        learned = len(training[0]) - kept
        if size is not None:
            check_count(size, f"{self.name}: size")
            if size > learned:
                raise InputError(f"{self.name}: size {size}, but there are {learned} to learn from")
        rows = slice(0, size or learned)
        super().__init__(
            {
                "train": Part(training[0][rows], training[1][rows], replacement=True),
                "validation": Part(training[0][learned:], training[1][learned:], replacement=False),
                "held-out": Part(*held_out, replacement=False),
            }
        )

    def _read(self, prefix: str, labels: list[int] | None) -> tuple[Tensor, Tensor]:
        x = read_idx(self.folder / f"{prefix}-images-idx3-ubyte.gz")
        label = read_idx(self.folder / f"{prefix}-labels-idx1-ubyte.gz").long()
        if x.ndim != 3 or label.shape != (len(x),):
            raise InputError(
                f"{self.folder}: expected images (n, H, W) and labels (n,), got "
                f"{tuple(x.shape)} and {tuple(label.shape)}"
            )
        if labels is not None:
            rows = torch.isin(label, torch.tensor(labels))
            x, label = x[rows], label[rows]
        return x.unsqueeze(1).float() / 255, label


class FashionMnist(Mnist):
    """Images of clothes, 28 x 28, in the files and with the arguments of :class:`Mnist`.

    Reference: H. Xiao, K. Rasul, R. Vollgraf, arXiv:1708.07747 (2017).
    """

    name = "fashion-mnist"


def read_idx(file: Path) -> Tensor:
    """An array of bytes in a gzipped idx file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not in idx format, or not of bytes, or not as long as it says.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"there is no file {file}: get the data set's four .gz files, and give their folder (folder=...) "
            f"or set {DATA} to the folder above it"
        )
    try:
        content = gzip.decompress(file.read_bytes())
    except (OSError, EOFError) as error:
        raise InputError(f"{file}: not a gzip file ({error})") from error
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise InputError(f"{file}: not an idx file of bytes")
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, 4).tolist() if len(content) >= 4 + 4 * axes else []
    values = np.frombuffer(content, np.uint8, offset=min(len(content), 4 + 4 * axes))
    if not shape or values.size != int(np.prod(shape)):
        raise InputError(f"{file}: holds {values.size} bytes, expected {shape}")
    return torch.from_numpy(values.reshape(shape).copy())
