"""Blur: convolution of images or volumes with known kernels.

On each axis ``y[i] = sum_m h[m] x[i - m + c]``: a true convolution (the kernel is flipped against the
image) with its centre ``c`` at ``n // 2`` of ``n`` taps, as in ``scipy.ndimage.convolve``. What an
image is beyond its border is the ``boundary``:

=============  =====================  =================================================
``zero``       ``0 0 | a b c | 0 0``  nothing there
``reflect``    ``c b | a b c | b a``  as in torch and numpy; ``mirror`` in scipy.ndimage
``symmetric``  ``b a | a b c | c b``  as in numpy; ``reflect`` in scipy.ndimage
``circular``   ``b c | a b c | a b``  the image repeats
=============  =====================  =================================================
"""

from __future__ import annotations

import math
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from onmanifold.checks import check_batch, check_choice, check_count, check_number, check_shape
from onmanifold.errors import InputError
from onmanifold.operator import Linear
from onmanifold.operators.convolution import (
    Separable,
    Shape,
    Spatial,
    Spectral,
    crop,
    rank_one,
    transform_shape,
)
from onmanifold.tensors import as_real

BOUNDARIES = ("zero", "reflect", "symmetric", "circular")
METHODS = ("auto", "fft", "spatial", "separable")


class Blur(Linear, nn.Module):
    """Convolution with a kernel h, or with several: ``A(x) = h * x``.

    Images have two axes, or three with ``dims=3``, and may have channels C in front. One kernel serves every
    channel. Of several kernels K each has its channel (``K = C``), or each blurs the one channel: then there
    are K blurred images.

    It computes in the dtype of its input, of half precision in float32; ``.to(device)`` moves it.

    Attributes:
        kernel: h, as given.
        dims: number of axes of an image without channels.
        boundary: what lies beyond the border.
        method: how it computes: ``separable``, ``spatial`` or ``fft``.
        x_shape: shape of one image.
        y_shape: the same, with K channels where several kernels blur one.

    Args:
        kernel: ``(h, w)``, with ``dims=3`` ``(d, h, w)``; several as ``(K, h, w)`` or ``(K, d, h, w)``. Any
            shape, odd or even, larger than the image too.
        x_shape: ``(H, W)`` or ``(C, H, W)``; with ``dims=3`` ``(D, H, W)`` or ``(C, D, H, W)``.
        boundary: ``zero``, ``reflect``, ``symmetric`` or ``circular``.
        method: how to compute. ``separable``: a matrix for each axis, for a kernel of rank one.
            ``spatial``: sums over the taps. ``fft``: a product in the Fourier domain. ``auto`` takes
            ``separable`` where it needs fewer operations than ``fft``, ``spatial`` for at most 9 taps on
            a small image, else ``fft``.
        dims: 2 for images, 3 for volumes.

    Raises:
        ValueError: a kernel that is empty, not finite or of another number of axes; another number of kernels
            than channels; an unknown boundary or method; ``separable`` with a kernel that is not.
        TypeError: a kernel that holds no real numbers.

    Example:
        >>> import torch
        >>> blur = Blur(gaussian_kernel(9, std=2.0), (32, 32), boundary="reflect")
        >>> blur.A(torch.ones(1, 32, 32)).sum().round()
        tensor(1024.)
        >>> frames = torch.stack([gaussian_kernel(9, std) for std in (1.0, 2.0, 3.0)])
        >>> Blur(frames, (32, 32)).y_shape
        (3, 32, 32)
        >>> Blur(gaussian_kernel((5, 9, 9), std=2.0), (16, 32, 32), dims=3).y_shape
        (16, 32, 32)
    """

    kernel: Tensor

    def __init__(
        self,
        kernel: ArrayLike | Tensor,
        x_shape: tuple[int, ...],
        boundary: str = "zero",
        method: str = "auto",
        dims: int = 2,
    ) -> None:
        super().__init__()
        self.dims = _check_dims(dims)
        self.x_shape = check_shape(x_shape, "x_shape")
        if len(self.x_shape) not in (self.dims, self.dims + 1):
            known = _axes_of(self.dims)
            raise InputError(f"x_shape has to be ({known}) or (C, {known}), got {self.x_shape}")
        self.boundary = check_choice(boundary, BOUNDARIES, "boundary")
        check_choice(method, METHODS, "method")
        kernel = _check_kernel(kernel, self.dims)
        self.register_buffer("kernel", kernel.detach().clone(), persistent=False)
        plane = self.x_shape[-self.dims :]
        self._channels = self.x_shape[0] if len(self.x_shape) > self.dims else 1
        kernels = self.kernel.reshape(-1, *self.kernel.shape[-self.dims :])
        self._kernels = _check_count(len(kernels), self._channels)
        several = self._kernels > self._channels
        self.y_shape = (self._kernels, *plane) if several else self.x_shape
        self.method, convolution = _choose(kernels.cpu(), plane, boundary, method)
        self._convolution = convolution.to(self.kernel.device)

    def A(self, x: Tensor) -> Tensor:
        """Blur images: ``(B, *x_shape)`` to ``(B, *y_shape)``."""
        check_batch(x, self.x_shape, "x")
        blurred: Tensor = self._convolution(self._planes(x))
        return blurred.reshape(len(x), *self.y_shape).to(x.dtype)

    def A_adjoint(self, u: Tensor) -> Tensor:
        """The adjoint, ``(B, *y_shape)`` to ``(B, *x_shape)``: correlation, the border folded back."""
        check_batch(u, self.y_shape, "u")
        back = self._convolution.adjoint(self._planes(u))
        if self._kernels > self._channels:
            back = back.sum(1)
        return back.reshape(len(u), *self.x_shape).to(u.dtype)

    def _planes(self, x: Tensor) -> Tensor:
        """Image planes, one for each kernel: ``(N, K, *plane)``, at least of single precision."""
        plane = self.x_shape[-self.dims :]
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        if self._kernels == 1:
            return x.reshape(-1, 1, *plane)
        return x.reshape(len(x), -1, *plane).expand(-1, self._kernels, *[-1] * self.dims)

    def extra_repr(self) -> str:
        taps = " x ".join(map(str, self.kernel.shape[-self.dims :]))
        several = f"{self._kernels} kernels" if self._kernels > 1 else "kernel"
        return f"{taps} {several}, x_shape={self.x_shape}, {self.boundary}, {self.method}"


def _check_dims(dims: int) -> int:
    if check_count(dims, "dims") not in (2, 3):
        raise InputError(f"dims has to be 2 for images or 3 for volumes, got {dims}")
    return int(dims)


def _axes_of(dims: int) -> str:
    return "H, W" if dims == 2 else "D, H, W"


def _check_kernel(given: ArrayLike | Tensor, dims: int) -> Tensor:
    kernel = as_real(given, "the kernel")
    if kernel.ndim not in (dims, dims + 1) or kernel.numel() == 0:
        axes = _axes_of(dims).lower()
        hint = ", or dims=3 for volumes" if kernel.ndim == 4 else ""
        raise InputError(
            f"the kernel has to be ({axes}), or (K, {axes}) for several, and not empty, got "
            f"{tuple(kernel.shape)}{hint}"
        )
    if not bool(torch.isfinite(kernel).all()):
        raise InputError("the kernel holds NaN or infinite entries")
    return kernel


def _check_count(kernels: int, channels: int) -> int:
    if kernels != channels and kernels > 1 and channels > 1:
        raise InputError(
            f"{kernels} kernels do not fit to {channels} channels: pass one kernel for all channels, or as "
            "many as channels; only images of one channel are blurred by several"
        )
    return kernels


def _choose(
    kernel: Tensor, shape: Shape, boundary: str, method: str
) -> tuple[str, Separable | Spatial | Spectral]:
    """The way to convolve that was asked for, or the one with the fewest operations."""
    if boundary == "zero":
        kernel = crop(kernel, shape)
    if method == "separable" or (method == "auto" and _matrices_pay(kernel, shape, boundary)):
        factors = rank_one(kernel)
        if factors is not None:
            return "separable", Separable(factors, shape, boundary)
        if method == "separable":
            raise InputError("method 'separable' needs a kernel of rank one, column times row")
    if method == "auto":
        # A larger image leaves the cache between taps; a circular one needs the shortest transform.
        few = kernel[0].numel() <= 9 and math.prod(shape) <= 128**2
        method = "spatial" if few and boundary != "circular" else "fft"
    way = Spatial if method == "spatial" else Spectral
    return method, way(kernel, shape, boundary)


def _matrices_pay(kernel: Tensor, shape: Shape, boundary: str) -> bool:
    """Whether a matrix product for each axis takes less time than a Fourier transform of N pixels.

    They do 30 multiplications in the time in which a transform does one of its ``N log2 N``.
    """
    n = math.prod(transform_shape(tuple(kernel.shape[1:]), shape, boundary))
    return math.prod(shape) * sum(shape) < 30 * n * math.log2(n)


def gaussian_kernel(
    size: int | tuple[int, ...],
    std: float | tuple[float, ...],
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """A Gaussian, symmetric about the middle of the array, with sum 1.

    On an axis of even length the middle lies between two taps, so that blurring with it moves an image
    by half a pixel.

    Args:
        size: number of taps, one number or one for each axis, in pixels; ``(n, n, n)`` for volumes.
        std: standard deviation, one number or one for each axis, in pixels.
        dtype: of the result; :class:`Blur` computes in the dtype of its images, whatever this is.

    Raises:
        ValueError: a size below 1, a standard deviation that is not positive and finite, or other numbers of
            axes than two or three.

    Example:
        >>> gaussian_kernel((1, 3), std=1.0)
        tensor([[0.2741, 0.4519, 0.2741]], dtype=torch.float64)
    """
    axes = max(_count(size), _count(std))
    sizes = [check_count(n, "size") for n in _each_axis(size, axes, "size")]
    stds = [check_number(s, "std") for s in _each_axis(std, axes, "std")]
    product = torch.ones((), dtype=torch.float64)
    for n, s in zip(sizes, stds, strict=True):
        t = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) / s
        t = t.clamp(-1e300, 1e300)  # differences of infinities are NaN
        away, least = t.abs(), t.abs().min()  # the largest tap is 1: no underflow
        axis = torch.exp(-(away - least) * (away + least) / 2)
        product = product.unsqueeze(-1) * (axis / axis.sum())
    return product.to(dtype)


def _count(value: Any) -> int:
    """How many axes a number or a tuple speaks of; a number of two."""
    return len(value) if isinstance(value, tuple | list) else 2


def _each_axis(value: Any, axes: int, name: str) -> list[Any]:
    """One for each axis; a number is for all."""
    if not isinstance(value, tuple | list):
        return [value] * axes
    if len(value) != axes or axes not in (2, 3):
        raise InputError(f"{name} has to be a number or a pair, or three for volumes, got {value}")
    return list(value)


def from_options(
    x_shape: tuple[int, ...] | None,
    *,
    std: float | tuple[float, float] | tuple[float, float, float],
    size: int | tuple[int, int] | tuple[int, int, int] | None = None,
    boundary: str = "zero",
    method: str = "auto",
    dims: int = 2,
) -> Blur:
    """A Gaussian :class:`Blur`, as the command line makes it.

    Args:
        x_shape: ``(H, W)`` or ``(C, H, W)``; with ``dims=3`` ``(D, H, W)`` or ``(C, D, H, W)``.
        std: standard deviation in pixels.
        size: taps of the kernel; default: as many as reach three standard deviations.
        boundary: as in :class:`Blur`.
        method: as in :class:`Blur`.
        dims: 2 for images, 3 for volumes.

    Example:
        >>> from_options((64, 64), std=2.0).kernel.shape
        torch.Size([13, 13])
    """
    if x_shape is None:
        raise InputError("blur needs the shape of the images: x_shape (H, W) or (C, H, W)")
    stds = _each_axis(std, _check_dims(dims), "std")
    if size is None:
        widest = max(check_number(s, "std") for s in stds)
        size = 2 * math.ceil(3 * widest) + 1
    sizes = _each_axis(size, dims, "size")
    return Blur(gaussian_kernel(tuple(sizes), tuple(stds)), x_shape, boundary, method, dims)
