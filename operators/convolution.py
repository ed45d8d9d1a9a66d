"""Three ways to convolve a batch of images with one kernel, each with its exact adjoint.

All take and return ``(N, H, W)`` and compute in the dtype of what they are given. On one axis, output ``i``
takes tap ``m`` of the kernel times input ``i - m + c``, where ``c = taps // 2``. The boundary maps an input
position beyond the border to one inside, or to a zero.
"""

from __future__ import annotations

import torch
from scipy.fft import next_fast_len
from torch import Tensor, nn
from torch.nn import functional as F


class Separable(nn.Module):
    """Column times row as a matrix for each axis, ``R x C^T``: ``H W (H + W)`` multiplications."""

    rows: Tensor
    columns: Tensor

    def __init__(self, column: Tensor, row: Tensor, shape: tuple[int, int], boundary: str) -> None:
        super().__init__()
        for name, taps, n in (("rows", column, shape[0]), ("columns", row, shape[1])):
            units = torch.eye(n, dtype=torch.float64).unsqueeze(2)
            matrix = Spatial(taps.unsqueeze(1), (n, 1), boundary)(units).squeeze(2).mT
            self.register_buffer(name, matrix.to(taps.dtype).contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.rows.to(x.dtype) @ (x @ self.columns.to(x.dtype).mT)

    def adjoint(self, u: Tensor) -> Tensor:
        return self.rows.to(u.dtype).mT @ (u @ self.columns.to(u.dtype))


class Spatial(nn.Module):
    """Sums over the taps of the kernel, for small ones."""

    kernel: Tensor

    def __init__(self, kernel: Tensor, shape: tuple[int, int], boundary: str) -> None:
        super().__init__()
        h, w = kernel.shape
        self.extension = _Extension((h, w), shape, boundary)
        self.full = (h - 1, w - 1)
        self.register_buffer("kernel", kernel[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # a convolution is what torch calls a correlation, with the kernel flipped
        extended = self.extension(x).unsqueeze(1)
        return F.conv2d(extended, self.kernel.to(x.dtype).flip(2, 3)).squeeze(1)

    def adjoint(self, u: Tensor) -> Tensor:
        # the same as conv_transpose2d, and several times faster on a CPU
        extended = F.conv2d(u.unsqueeze(1), self.kernel.to(u.dtype), padding=self.full)
        return self.extension.adjoint(extended.squeeze(1))


class Fourier(nn.Module):
    """A product in the Fourier domain, for kernels of any size.

    Reflected images are extended first. Circular images need no extension, and zeros around an image none
    either: the transform is so long that what wraps around misses the outputs.
    """

    transfer: Tensor

    def __init__(self, kernel: Tensor, shape: tuple[int, int], boundary: str) -> None:
        super().__init__()
        h, w = kernel.shape
        self.shape, self.size = shape, transform_shape((h, w), shape, boundary)
        if boundary in ("reflect", "symmetric"):
            self.extension = _Extension((h, w), shape, boundary)
            first = (h - 1, w - 1)  # output 0 is where all taps meet the image
        else:
            self.extension = _Extension((1, 1), shape, "zero")  # nothing is added
            first = (h // 2, w // 2)
        rows, columns = (
            (torch.arange(taps) - start) % n
            for taps, start, n in zip((h, w), first, self.size, strict=True)
        )
        wrapped = kernel.new_zeros(self.size, dtype=torch.float64)
        wrapped.index_put_((rows.unsqueeze(1), columns), kernel.double(), accumulate=True)
        # kept as pairs of reals: Module.to(dtype) would drop a complex buffer's imaginary part
        transfer = torch.view_as_real(torch.fft.rfft2(wrapped))
        transfer = transfer.to(torch.promote_types(kernel.dtype, torch.float32))
        self.register_buffer("transfer", transfer, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        filtered = self._filter(self.extension(x), self._transfer(x))
        return filtered[:, : self.shape[0], : self.shape[1]]

    def adjoint(self, u: Tensor) -> Tensor:
        return self.extension.adjoint(self._filter(u, self._transfer(u).conj()))

    def _transfer(self, x: Tensor) -> Tensor:
        return torch.view_as_complex(self.transfer.to(x.dtype))

    def _filter(self, x: Tensor, transfer: Tensor) -> Tensor:
        filtered: Tensor = torch.fft.irfft2(torch.fft.rfft2(x, s=self.size) * transfer, s=self.size)
        return filtered


def transform_shape(
    taps: tuple[int, int], shape: tuple[int, int], boundary: str
) -> tuple[int, int]:
    """Lengths of the Fourier transform that serves a kernel, an image and a boundary."""
    if boundary == "circular":
        return shape
    height, width = (
        next_fast_len(n + (t // 2 if boundary == "zero" else t - 1), real=True)
        for t, n in zip(taps, shape, strict=True)
    )
    return height, width


class _Extension(nn.Module):
    """An image continued beyond its border, and the adjoint of that: folding it back."""

    source0: Tensor
    source1: Tensor

    def __init__(self, taps: tuple[int, int], shape: tuple[int, int], boundary: str) -> None:
        super().__init__()
        self.shape, self.zero = shape, boundary == "zero"
        self.top, self.left = (taps[0] - 1) // 2, (taps[1] - 1) // 2
        self.padding = (self.left, taps[1] // 2, self.top, taps[0] // 2)
        for axis in () if self.zero else (0, 1):
            source = _sources(shape[axis], taps[axis], boundary)
            self.register_buffer(f"source{axis}", source, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.zero:
            return F.pad(x, self.padding) if any(self.padding) else x
        return x.index_select(1, self.source0).index_select(2, self.source1)

    def adjoint(self, u: Tensor) -> Tensor:
        """What lies beyond the extended image does not count."""
        height, width = self.shape
        if self.zero:
            return u[:, self.top : self.top + height, self.left : self.left + width]
        u = u[:, : len(self.source0), : len(self.source1)]
        u = u.new_zeros(len(u), height, u.shape[2]).index_add(1, self.source0, u)
        return u.new_zeros(len(u), height, width).index_add(2, self.source1, u)


def _sources(n: int, taps: int, boundary: str) -> Tensor:
    """Where the extended axis, ``n + taps - 1`` long, takes its entries from."""
    position = torch.arange(-((taps - 1) // 2), n + taps // 2)
    if boundary == "circular":
        return position % n
    twice = boundary == "symmetric"  # the outermost entry is repeated
    period = max(2 * n - (0 if twice else 2), 1)
    position = position % period
    return torch.minimum(position, period - twice - position)


def crop(kernel: Tensor, shape: tuple[int, int]) -> Tensor:
    """Take away the taps that never meet an image of this shape with zeros around it."""
    for axis, n in enumerate(shape):
        centre = kernel.shape[axis] // 2
        if centre >= n:  # 2 n - 1 taps keep the centre in their middle
            kernel = kernel.narrow(axis, centre - n + 1, 2 * n - 1)
    return kernel


def rank_one(kernel: Tensor) -> tuple[Tensor, Tensor] | None:
    """Column and row whose outer product the kernel is, up to rounding; ``None`` if it is not."""
    exact = kernel.double()
    i, j = divmod(int(exact.abs().argmax()), kernel.shape[1])
    if exact[i, j] == 0:
        return None
    column, row = exact[:, j], exact[i] / exact[i, j]
    error = (torch.outer(column, row) - exact).norm()
    if error > 4 * torch.finfo(kernel.dtype).eps * exact.norm():
        return None
    return column.to(kernel.dtype), row.to(kernel.dtype)
