"""Three ways to convolve a batch of images with kernels, each with its exact adjoint.

All take and return ``(N, K, *shape)``, image plane k of each member convolved with kernel k, in two
dimensions or three, and compute in the dtype of what they are given. On one axis, output ``i`` takes tap
``m`` of the kernel times input ``i - m + c``, where ``c = taps // 2``. The boundary maps an input position
beyond the border to one inside, or to a zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor, nn
from torch.nn import functional as F

from onmanifold.operators.axes import AxisMatrices

Shape = tuple[int, ...]


class Separable(AxisMatrices):
    """A matrix for each axis, of kernels that are products of one vector for each axis.

    Args:
        factors: the vectors, one for each axis, ``(K, taps)``.
        shape: of an image plane.
        boundary: what lies beyond its border.
    """

    def __init__(self, factors: Sequence[Tensor], shape: Shape, boundary: str) -> None:
        matrices = []
        for taps, n in zip(factors, shape, strict=True):
            units = torch.eye(n, dtype=torch.float64).reshape(n, 1, n, 1)
            units = units.expand(n, len(taps), n, 1)
            columns = Spatial(taps.double().unsqueeze(2), (n, 1), boundary)(units)
            matrices.append(columns.squeeze(3).permute(1, 2, 0).to(taps.dtype))
        super().__init__(matrices)


class Spatial(nn.Module):
    """Sums over the taps of the kernels, for small ones."""

    kernel: Tensor

    def __init__(self, kernel: Tensor, shape: Shape, boundary: str) -> None:
        super().__init__()
        taps = tuple(kernel.shape[1:])
        self.extension = _Extension(taps, shape, boundary)
        self.full = tuple(n - 1 for n in taps)
        self.axes = tuple(range(2, 2 + len(taps)))
        self.correlate = F.conv2d if len(taps) == 2 else F.conv3d
        self.register_buffer("kernel", kernel.unsqueeze(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # a convolution is what torch calls a correlation, with the kernel flipped
        kernel = self.kernel.to(x.dtype).flip(self.axes)
        return self.correlate(self.extension(x), kernel, groups=len(kernel))

    def adjoint(self, u: Tensor) -> Tensor:
        # the same as conv_transpose2d, and several times faster on a CPU
        kernel = self.kernel.to(u.dtype)
        extended = self.correlate(u, kernel, padding=self.full, groups=len(kernel))
        return self.extension.adjoint(extended)


class Spectral(nn.Module):
    """A product in the Fourier domain, for kernels of any size.

    Reflected images are extended first. Circular images need no extension, and zeros around an image none
    either: the transform is so long that what wraps around misses the outputs.
    """

    transfer: Tensor

    def __init__(self, kernel: Tensor, shape: Shape, boundary: str) -> None:
        super().__init__()
        taps = tuple(kernel.shape[1:])
        self.shape, self.size = shape, transform_shape(taps, shape, boundary)
        self.axes = tuple(range(-len(shape), 0))
        if boundary in ("reflect", "symmetric"):
            self.extension = _Extension(taps, shape, boundary)
            first = tuple(n - 1 for n in taps)  # output 0 is where all taps meet the image
        else:
            self.extension = _Extension((1,) * len(taps), shape, "zero")  # nothing is added
            first = tuple(n // 2 for n in taps)
        places = [
            (torch.arange(n) - start) % length
            for n, start, length in zip(taps, first, self.size, strict=True)
        ]
        wrapped = torch.zeros(len(kernel), *self.size, dtype=torch.float64)
        index = torch.meshgrid(torch.arange(len(kernel)), *places, indexing="ij")
        wrapped.index_put_(index, kernel.double(), accumulate=True)
        # kept as pairs of reals: Module.to(dtype) would drop a complex buffer's imaginary part
        transfer = torch.view_as_real(torch.fft.rfftn(wrapped, dim=self.axes))
        transfer = transfer.to(torch.promote_types(kernel.dtype, torch.float32))
        self.register_buffer("transfer", transfer, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        filtered = self._filter(self.extension(x), self._transfer(x))
        return _window(filtered, (0,) * len(self.shape), self.shape)

    def adjoint(self, u: Tensor) -> Tensor:
        return self.extension.adjoint(self._filter(u, self._transfer(u).conj()))

    def _transfer(self, x: Tensor) -> Tensor:
        return torch.view_as_complex(self.transfer.to(x.dtype))

    def _filter(self, x: Tensor, transfer: Tensor) -> Tensor:
        spectrum = torch.fft.rfftn(x, s=self.size, dim=self.axes) * transfer
        filtered: Tensor = torch.fft.irfftn(spectrum, s=self.size, dim=self.axes)
        return filtered


def _window(x: Tensor, first: Shape, shape: Shape) -> Tensor:
    """The part of that shape of the last axes that begins at ``first``."""
    for axis, (start, n) in enumerate(zip(first, shape, strict=True)):
        x = x.narrow(axis - len(shape), start, n)
    return x


def transform_shape(taps: Shape, shape: Shape, boundary: str) -> Shape:
    """Lengths of the Fourier transform that serves kernels, an image and a boundary."""
    if boundary == "circular":
        return shape
    return tuple(
        next_fast_len(n + (t // 2 if boundary == "zero" else t - 1), real=True)
        for t, n in zip(taps, shape, strict=True)
    )


class _Extension(nn.Module):
    """An image continued beyond its border, and the adjoint of that: folding it back."""

    def __init__(self, taps: Shape, shape: Shape, boundary: str) -> None:
        super().__init__()
        self.shape, self.zero = shape, boundary == "zero"
        self.before = tuple((n - 1) // 2 for n in taps)
        # torch pads the last axis first
        self.padding = tuple(p for n in reversed(taps) for p in ((n - 1) // 2, n // 2))
        for axis in () if self.zero else range(len(shape)):
            source = _sources(shape[axis], taps[axis], boundary)
            self.register_buffer(f"source{axis}", source, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.zero:
            return F.pad(x, self.padding) if any(self.padding) else x
        for axis, source in self._sources_by_axis():
            x = x.index_select(axis, source)
        return x

    def adjoint(self, u: Tensor) -> Tensor:
        """What lies beyond the extended image does not count."""
        if self.zero:
            return _window(u, self.before, self.shape)
        for axis, source in self._sources_by_axis():
            size = list(u.shape)
            size[axis] = self.shape[axis - 2]
            u = u.narrow(axis, 0, len(source))
            u = u.new_zeros(size).index_add(axis, source, u)
        return u

    def _sources_by_axis(self) -> list[tuple[int, Tensor]]:
        return [(axis + 2, getattr(self, f"source{axis}")) for axis in range(len(self.shape))]


def _sources(n: int, taps: int, boundary: str) -> Tensor:
    """Where the extended axis, ``n + taps - 1`` long, takes its entries from."""
    position = torch.arange(-((taps - 1) // 2), n + taps // 2)
    if boundary == "circular":
        return position % n
    twice = boundary == "symmetric"  # the outermost entry is repeated
    period = max(2 * n - (0 if twice else 2), 1)
    position = position % period
    return torch.minimum(position, period - twice - position)


def crop(kernel: Tensor, shape: Shape) -> Tensor:
    """Take away the taps that never meet an image of this shape with zeros around it."""
    for axis, n in enumerate(shape, start=1):
        centre = kernel.shape[axis] // 2
        if centre >= n:  # 2 n - 1 taps keep the centre in their middle
            kernel = kernel.narrow(axis, centre - n + 1, 2 * n - 1)
    return kernel


def rank_one(kernel: Tensor) -> list[Tensor] | None:
    """A vector for each axis, ``(K, taps)``, whose products the kernels ``(K, ...)`` are, up to rounding.

    ``None`` if one of them is not.
    """
    found = [_rank_one(one) for one in kernel]
    if any(factors is None for factors in found):
        return None
    return [torch.stack(axis) for axis in zip(*(f for f in found if f is not None), strict=True)]


def _rank_one(kernel: Tensor) -> list[Tensor] | None:
    exact = kernel.double()
    # numpy's, since torch's imports sympy
    peak = tuple(map(int, np.unravel_index(int(exact.abs().argmax()), exact.shape)))
    if exact[peak] == 0:
        return None
    factors = []
    for axis in range(exact.ndim):  # the lines through the largest tap
        index = tuple(slice(None) if a == axis else peak[a] for a in range(exact.ndim))
        factors.append(exact[index] if axis == 0 else exact[index] / exact[peak])
    product = factors[0]
    for factor in factors[1:]:
        product = product.unsqueeze(-1) * factor
    if (product - exact).norm() > 4 * torch.finfo(kernel.dtype).eps * exact.norm():
        return None
    return [factor.to(kernel.dtype) for factor in factors]
