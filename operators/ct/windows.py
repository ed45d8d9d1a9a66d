"""Images that are 0 outside of a window, projected along the rays through its pixels alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

_STEP = 8  # corners of windows lie on a lattice of so many pixels, so that images share them

type Box = tuple[int, int, int, int]
"""First row, end, first column, end."""


@dataclass(frozen=True, eq=False)
class WindowedProjection:
    """Line integrals of images that mostly are 0 outside of a window, such as those that move an object.

    The cost of an image is that of its window. Images of one window go together.

    Attributes:
        by_pixel: lengths of the rays in pixels, a row a pixel, ``(H W, rays)``.
        plane: ``(H, W)``.

    Example:
        >>> both = csr_array(np.array([[1.0], [2.0]]))  # one ray through two pixels
        >>> WindowedProjection(both, (1, 2))(torch.tensor([[[3.0, 0.0]], [[0.0, 3.0]]]).double())
        tensor([[3.],
                [6.]], dtype=torch.float64)
    """

    by_pixel: csr_array
    plane: tuple[int, int]

    def __call__(self, images: Tensor) -> Tensor:
        """Images ``(T, H, W)`` on the CPU, in the matrix's dtype, to ``(T, rays)``."""
        values = images.numpy()
        found = np.zeros((len(values), self.by_pixel.shape[1]), values.dtype)
        groups: dict[Box, list[int]] = {}
        for t, image in enumerate(values):
            if (box := _box(image)) is not None:
                groups.setdefault(box, []).append(t)
        for (top, bottom, left, right), members in groups.items():
            pixels = np.arange(top, bottom)[:, None] * self.plane[1] + np.arange(left, right)
            window = values[members, top:bottom, left:right].reshape(len(members), -1)
            lengths = self.by_pixel[pixels.ravel()].T
            found[members] = (lengths @ np.ascontiguousarray(window.T)).T
        return torch.from_numpy(found)


def _box(image: NDArray[np.floating]) -> Box | None:
    """The window outside of which an image is 0; ``None`` where all of it is."""
    used = image != 0
    rows = np.flatnonzero(used.any(1))
    if len(rows) == 0:
        return None
    columns = np.flatnonzero(used[rows[0] : rows[-1] + 1].any(0))
    return (*_ends(rows, len(image)), *_ends(columns, image.shape[1]))


def _ends(places: NDArray[np.intp], size: int) -> tuple[int, int]:
    """First and end on the lattice."""
    first, end = int(places[0]) // _STEP * _STEP, -(-int(places[-1] + 1) // _STEP) * _STEP
    return first, min(end, size)
