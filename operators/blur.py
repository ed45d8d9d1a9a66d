"""Blur: convolution of images with a known kernel.

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

from onmanifold.checks import check_batch, check_count, check_number, check_shape
from onmanifold.errors import InputError
from onmanifold.operators.convolution import (
    Fourier,
    Separable,
    Spatial,
    crop,
    rank_one,
    transform_shape,
)
from onmanifold.tensors import as_real

BOUNDARIES = ("zero", "reflect", "symmetric", "circular")
METHODS = ("auto", "fft", "spatial", "separable")


class Blur(nn.Module):
    """Convolution with a kernel h: ``A(x) = h * x``, each channel by itself.

    It computes in the dtype of its input, of half precision in float32; ``.to(device)`` moves it.

    Attributes:
        kernel: h, shape ``(h, w)``.
        boundary: what lies beyond the border.
        method: how it computes: ``separable``, ``spatial`` or ``fft``.
        x_shape: shape of one image, ``(H, W)`` or ``(C, H, W)``; ``y_shape`` is the same.

    Args:
        kernel: any shape, odd or even, larger than the image too.
        x_shape: ``(H, W)`` or ``(C, H, W)``.
        boundary: ``zero``, ``reflect``, ``symmetric`` or ``circular``.
        method: how to compute. ``separable``: a matrix for each axis, for a kernel of rank one.
            ``spatial``: sums over the taps. ``fft``: a product in the Fourier domain. ``auto`` takes
            ``separable`` where it needs fewer operations than ``fft``, ``spatial`` for at most 9 taps on
            a small image, else ``fft``.

    Raises:
        ValueError: a kernel that is empty, not two-dimensional or not finite; an unknown boundary or
            method; ``separable`` with a kernel that is not.
        TypeError: a kernel that holds no real numbers.

    Example:
        >>> import torch
        >>> blur = Blur(gaussian_kernel(9, std=2.0), (32, 32), boundary="reflect")
        >>> blur.A(torch.ones(1, 32, 32)).sum().round()
        tensor(1024.)
    """

    kernel: Tensor
    linear = True

    def __init__(
        self,
        kernel: ArrayLike | Tensor,
        x_shape: tuple[int, ...],
        boundary: str = "zero",
        method: str = "auto",
    ) -> None:
        super().__init__()
        self.x_shape = check_shape(x_shape, "x_shape")
        if len(self.x_shape) not in (2, 3):
            raise InputError(f"x_shape has to be (H, W) or (C, H, W), got {self.x_shape}")
        _check_choice(boundary, BOUNDARIES, "boundary")
        _check_choice(method, METHODS, "method")
        self.y_shape = self.x_shape
        self.boundary = boundary
        kernel = _check_kernel(kernel)
        self.register_buffer("kernel", kernel.detach().clone(), persistent=False)
        shape = (self.x_shape[-2], self.x_shape[-1])
        self.method, convolution = _choose(self.kernel.cpu(), shape, boundary, method)
        self._convolution = convolution.to(self.kernel.device)

    def A(self, x: Tensor) -> Tensor:
        """Blur images ``(B, *x_shape)``."""
        check_batch(x, self.x_shape, "x")
        return self._convolution.forward(self._planes(x)).reshape(x.shape).to(x.dtype)

    def A_adjoint(self, u: Tensor) -> Tensor:
        """The adjoint, ``(B, *y_shape)`` to ``(B, *x_shape)``: correlation, the border folded back."""
        check_batch(u, self.y_shape, "u")
        return self._convolution.adjoint(self._planes(u)).reshape(u.shape).to(u.dtype)

    def A_jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """``A(v)``, for tangents ``(B, *x_shape)``: the operator is linear."""
        return self.A(v)

    def A_vjp(self, x: Tensor, u: Tensor) -> Tensor:
        """``A_adjoint(u)``, for ``(B, *y_shape)``."""
        return self.A_adjoint(u)

    def _planes(self, x: Tensor) -> Tensor:
        """All channels of all members, ``(N, H, W)``, at least of single precision."""
        return x.reshape(-1, *self.x_shape[-2:]).to(torch.promote_types(x.dtype, torch.float32))

    def extra_repr(self) -> str:
        h, w = self.kernel.shape
        return f"{h} x {w} kernel, x_shape={self.x_shape}, {self.boundary}, {self.method}"


def _check_choice(value: str, known: tuple[str, ...], name: str) -> None:
    if not isinstance(value, str) or value not in known:
        raise InputError(f"unknown {name} {value!r}, expected one of {', '.join(known)}")


def _check_kernel(given: ArrayLike | Tensor) -> Tensor:
    kernel = as_real(given, "the kernel")
    if kernel.ndim != 2 or kernel.numel() == 0:
        raise InputError(f"the kernel has to be (h, w) and not empty, got {tuple(kernel.shape)}")
    if not bool(torch.isfinite(kernel).all()):
        raise InputError("the kernel holds NaN or infinite entries")
    return kernel


def _choose(
    kernel: Tensor, shape: tuple[int, int], boundary: str, method: str
) -> tuple[str, Separable | Spatial | Fourier]:
    """The way to convolve that was asked for, or the one with the fewest operations."""
    if boundary == "zero":
        kernel = crop(kernel, shape)
    if method == "separable" or (method == "auto" and _matrices_pay(kernel, shape, boundary)):
        factors = rank_one(kernel)
        if factors is not None:
            return "separable", Separable(*factors, shape, boundary)
        if method == "separable":
            raise InputError("method 'separable' needs a kernel of rank one, column times row")
    if method == "auto":
        # A larger image leaves the cache between taps; a circular one needs the shortest transform.
        small = kernel.numel() <= 9 and math.prod(shape) <= 128**2 and boundary != "circular"
        method = "spatial" if small else "fft"
    way = Spatial if method == "spatial" else Fourier
    return method, way(kernel, shape, boundary)


def _matrices_pay(kernel: Tensor, shape: tuple[int, int], boundary: str) -> bool:
    """Whether two matrix products take less time than a Fourier transform of N pixels.

    They do 30 multiplications in the time in which a transform does one of its ``N log2 N``.
    """
    n = math.prod(transform_shape((kernel.shape[0], kernel.shape[1]), shape, boundary))
    return math.prod(shape) * sum(shape) < 30 * n * math.log2(n)


def gaussian_kernel(
    size: int | tuple[int, int],
    std: float | tuple[float, float],
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """A Gaussian, symmetric about the middle of the array, with sum 1.

    On an axis of even length the middle lies between two taps, so that blurring with it moves an image
    by half a pixel.

    Args:
        size: number of taps, one number or one for each axis, in pixels.
        std: standard deviation, one number or one for each axis, in pixels.
        dtype: of the result; :class:`Blur` computes in the dtype of its images, whatever this is.

    Raises:
        ValueError: a size below 1, or a standard deviation that is not positive and finite.

    Example:
        >>> gaussian_kernel((1, 3), std=1.0)
        tensor([[0.2741, 0.4519, 0.2741]], dtype=torch.float64)
    """
    sizes = [check_count(n, "size") for n in _pair(size, "size")]
    stds = [check_number(s, "std") for s in _pair(std, "std")]
    axes = []
    for n, s in zip(sizes, stds, strict=True):
        t = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) / s
        away, least = t.abs(), t.abs().min()  # the largest tap is 1: no underflow
        axis = torch.exp(-(away - least) * (away + least) / 2)
        axes.append(axis / axis.sum())
    return torch.outer(axes[0], axes[1]).to(dtype)


def _pair(value: Any, name: str) -> tuple[Any, Any]:
    """One for each axis; a number is for both."""
    if not isinstance(value, tuple | list):
        return value, value
    if len(value) != 2:
        raise InputError(f"{name} has to be a number or a pair, got {value}")
    return value[0], value[1]


def from_options(
    x_shape: tuple[int, ...] | None,
    *,
    std: float | tuple[float, float],
    size: int | tuple[int, int] | None = None,
    boundary: str = "zero",
    method: str = "auto",
) -> Blur:
    """A Gaussian :class:`Blur`, as the command line makes it.

    Args:
        x_shape: ``(H, W)`` or ``(C, H, W)``.
        std: standard deviation in pixels.
        size: taps of the kernel; default: as many as reach three standard deviations.
        boundary: as in :class:`Blur`.
        method: as in :class:`Blur`.

    Example:
        >>> from_options((64, 64), std=2.0).kernel.shape
        torch.Size([13, 13])
    """
    if x_shape is None:
        raise InputError("blur needs the shape of the images: x_shape (H, W) or (C, H, W)")
    if size is None:
        widest = max(check_number(s, "std") for s in _pair(std, "std"))
        size = 2 * math.ceil(3 * widest) + 1
    return Blur(gaussian_kernel(size, std), x_shape, boundary, method)
