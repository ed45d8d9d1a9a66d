"""Three ways to convolve a batch of images with one kernel, each with its exact adjoint.

All take and return ``(N, H, W)``, compute in the dtype of what they are given, and know the
boundary.
Positions on one axis: output ``i`` takes tap ``m`` of the kernel times input ``i - m + c``, with
``c = len(kernel) // 2``; an input position beyond the border is mapped to one inside by the boundary.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from scipy.fft import next_fast_len
from torch import Tensor, nn
from torch.nn import functional as F


def sources(n: int, taps: int, boundary: str) -> Tensor:
    """Where the extended axis, ``n + taps - 1`` long, takes its entries from; -1 is a zero."""
    c = taps // 2
    p = torch.arange(-(taps - 1 - c), n + c)
    if boundary == "circular":
        return p % n
    if boundary == "symmetric":
        q = p % (2 * n)
        return torch.where(q < n, q, 2 * n - 1 - q)
    if boundary == "reflect":
        period = max(2 * n - 2, 1)
        q = p % period
        return torch.where(q < n, q, period - q)
    return torch.where((p >= 0) & (p < n), p, -1)


def crop(kernel: Tensor, shape: tuple[int, int]) -> Tensor:
    """Take away the taps that never meet an image of this shape with zeros around it."""
    for axis, n in enumerate(shape):
        taps = kernel.shape[axis]
        c = taps // 2
        half = n - 1  # taps further than this from the centre see only zeros
        if c <= half:
            continue
        # an odd number of taps, 2 n - 1, keeps the centre at their middle
        stop = min(taps, c + half + 1)
        kernel = kernel.narrow(axis, c - half, stop - (c - half))
        kernel = _pad_to(kernel, axis, 2 * half + 1)
    return kernel


def _pad_to(kernel: Tensor, axis: int, taps: int) -> Tensor:
    lack = taps - kernel.shape[axis]
    return F.pad(kernel, (0, lack) if axis == 1 else (0, 0, 0, lack))


def rank_one(kernel: Tensor) -> tuple[Tensor, Tensor] | None:
    """Column and row whose outer product the kernel is, up to rounding; ``None`` if it is not."""
    u, s, vh = torch.linalg.svd(kernel.double(), full_matrices=False)
    if s[0] == 0 or (s[1:] > 4 * torch.finfo(kernel.dtype).eps * s[0]).any():
        return None
    root = s[0].sqrt()
    return u[:, 0] * root, vh[0] * root


class Convolution(nn.Module, ABC):
    """What the three have in common."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(N, H, W)``."""

    @abstractmethod
    def adjoint(self, u: Tensor) -> Tensor:
        """The adjoint of ``forward``."""

    nanoseconds: float  # what a unit of work takes on one core; benchmarks/blur.py

    @staticmethod
    @abstractmethod
    def work(kernel: tuple[int, int], shape: tuple[int, int], boundary: str) -> float:
        """What an image takes, in units of this way's own."""

    @classmethod
    def cost(cls, kernel: tuple[int, int], shape: tuple[int, int], boundary: str) -> float:
        """What an image takes, comparable between the ways."""
        return cls.nanoseconds * cls.work(kernel, shape, boundary)


class Separable(Convolution):
    """Of a kernel of rank one: a matrix for each axis, ``R x C^T``; H W (H + W) products."""

    nanoseconds = 0.018
    rows: Tensor
    columns: Tensor

    def __init__(
        self, column: Tensor, row: Tensor, shape: tuple[int, int], boundary: str, dtype: torch.dtype
    ) -> None:
        super().__init__()
        for name, taps, n in (("rows", column, shape[0]), ("columns", row, shape[1])):
            matrix = _axis_matrix(taps, n, boundary).to(dtype)
            self.register_buffer(name, matrix, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.rows.to(x.dtype) @ (x @ self.columns.to(x.dtype).mT)

    def adjoint(self, u: Tensor) -> Tensor:
        return self.rows.to(u.dtype).mT @ (u @ self.columns.to(u.dtype))

    @staticmethod
    def work(kernel: tuple[int, int], shape: tuple[int, int], boundary: str) -> float:
        return math.prod(shape) * sum(shape)


def _axis_matrix(taps: Tensor, n: int, boundary: str) -> Tensor:
    """The n x n matrix of a one-dimensional convolution."""
    source = sources(n, len(taps), boundary)
    i, m = torch.meshgrid(torch.arange(n), torch.arange(len(taps)), indexing="ij")
    entry = source[i - m + len(taps) - 1]
    inside = entry >= 0
    matrix = torch.zeros(n, n, dtype=torch.float64)
    values = taps.double().expand(n, -1)[inside]
    return matrix.index_put((i[inside], entry[inside]), values, accumulate=True)


class _Extended(nn.Module):
    """An image continued beyond its border, and the adjoint of that: folding it back."""

    source0: Tensor
    source1: Tensor

    def __init__(self, taps: tuple[int, int], shape: tuple[int, int], boundary: str) -> None:
        super().__init__()
        self.taps, self.shape, self.zero = taps, shape, boundary == "zero"
        c = (taps[0] // 2, taps[1] // 2)
        self.padding = (taps[1] - 1 - c[1], c[1], taps[0] - 1 - c[0], c[0])
        for axis in (0, 1):
            source = sources(shape[axis], taps[axis], "circular" if self.zero else boundary)
            self.register_buffer(f"source{axis}", source, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.zero:
            return F.pad(x, self.padding)
        for axis, source in ((1, self.source0), (2, self.source1)):
            x = x.index_select(axis, source)
        return x

    def adjoint(self, u: Tensor) -> Tensor:
        if self.zero:
            left, _, top, _ = self.padding
            return u[:, top : top + self.shape[0], left : left + self.shape[1]]
        for axis, source in ((1, self.source0), (2, self.source1)):
            shape = list(u.shape)
            shape[axis] = self.shape[axis - 1]
            u = u.new_zeros(shape).index_add(axis, source, u)
        return u


class Spatial(Convolution):
    """Sums over the kernel's taps, for small kernels; H W h w products."""

    nanoseconds = 0.6
    kernel: Tensor

    def __init__(self, kernel: Tensor, shape: tuple[int, int], boundary: str) -> None:
        super().__init__()
        self.extended = _Extended((kernel.shape[0], kernel.shape[1]), shape, boundary)
        self.full = (kernel.shape[0] - 1, kernel.shape[1] - 1)
        self.register_buffer("kernel", kernel[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        padded = self.extended(x).unsqueeze(1)
        return F.conv2d(padded, self.kernel.to(x.dtype).flip(2, 3)).squeeze(1)

    def adjoint(self, u: Tensor) -> Tensor:
        # the same as conv_transpose2d, and several times faster on a CPU
        padded = F.conv2d(u.unsqueeze(1), self.kernel.to(u.dtype), padding=self.full)
        return self.extended.adjoint(padded.squeeze(1))

    @staticmethod
    def work(kernel: tuple[int, int], shape: tuple[int, int], boundary: str) -> float:
        pixels = math.prod(shape)
        spill = 1 + pixels / 2**16  # larger images leave the cache between taps
        return pixels * math.prod(kernel) * spill


class Fourier(Convolution):
    """A product in the Fourier domain, for kernels of any size.

    Circular images need no continuation. With zeros around them the transform is just so long that
    what wraps around misses the outputs: ``n + max(c, taps - 1 - c)``. Reflected ones are continued
    first.
    """

    nanoseconds = 0.51
    transfer: Tensor

    def __init__(self, kernel: Tensor, shape: tuple[int, int], boundary: str) -> None:
        super().__init__()
        taps = (kernel.shape[0], kernel.shape[1])
        self.shape = shape
        self.size = transform_shape(taps, shape, boundary)
        self.extended = None
        if boundary in ("reflect", "symmetric"):
            self.extended = _Extended(taps, shape, boundary)
            shift = (taps[0] - 1, taps[1] - 1)  # output 0 is where all taps meet the image
        else:
            shift = (taps[0] // 2, taps[1] // 2)
        wrapped = _wrap(kernel.double(), self.size).roll((-shift[0], -shift[1]), (0, 1))
        # kept as pairs of reals: Module.to(dtype) would drop a complex buffer's imaginary part
        transfer = torch.view_as_real(torch.fft.rfft2(wrapped)).to(kernel.dtype)
        self.register_buffer("transfer", transfer, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.extended is not None:
            x = self.extended(x)
        return self._filter(x, self._transfer(x))[:, : self.shape[0], : self.shape[1]]

    def adjoint(self, u: Tensor) -> Tensor:
        full = self._filter(u, self._transfer(u).conj())
        if self.extended is None:
            return full[:, : self.shape[0], : self.shape[1]]
        long = [n + t - 1 for n, t in zip(self.shape, self.extended.taps, strict=True)]
        return self.extended.adjoint(full[:, : long[0], : long[1]])

    def _transfer(self, x: Tensor) -> Tensor:
        return torch.view_as_complex(self.transfer.to(x.dtype))

    def _filter(self, x: Tensor, transfer: Tensor) -> Tensor:
        filtered: Tensor = torch.fft.irfft2(torch.fft.rfft2(x, s=self.size) * transfer, s=self.size)
        return filtered

    @staticmethod
    def work(kernel: tuple[int, int], shape: tuple[int, int], boundary: str) -> float:
        n = math.prod(transform_shape(kernel, shape, boundary))
        return n * math.log2(n + 1)


def transform_shape(
    kernel: tuple[int, int], shape: tuple[int, int], boundary: str
) -> tuple[int, int]:
    """Lengths of the Fourier transform that serves a kernel, an image and a boundary."""
    if boundary == "circular":
        return shape
    lengths = []
    for taps, n in zip(kernel, shape, strict=True):
        c = taps // 2
        need = n + max(c, taps - 1 - c) if boundary == "zero" else n + taps - 1
        lengths.append(next_fast_len(need, real=True))
    return lengths[0], lengths[1]


def _wrap(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """Add the kernel's taps onto a torus of the given size."""
    for axis, n in enumerate(size):
        shape = list(kernel.shape)
        shape[axis] = n
        index = torch.arange(kernel.shape[axis], device=kernel.device) % n
        kernel = kernel.new_zeros(shape).index_add(axis, index, kernel)
    return kernel
