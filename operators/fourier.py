"""Undersampled Fourier coefficients: magnetic resonance imaging, with one coil or several.

k-space is centred: frequency zero is at index ``n // 2`` of an axis of n, as ``numpy.fft.fftshift`` puts it,
and so is the origin of the image. The transform is unitary.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from onmanifold.arrays import read_array
from onmanifold.checks import (
    as_generator,
    check_batch,
    check_choice,
    check_count,
    check_number,
    check_shape,
)
from onmanifold.errors import InputError, InputTypeError
from onmanifold.operator import Linear
from onmanifold.tensors import as_mask

PATTERNS = ("random", "equispaced")
_MOST_COILS = 1024


class Fourier(Linear, nn.Module):
    """Some Fourier coefficients of an image, seen by one coil or by several: ``A(x) = mask F (s_n x)``.

    Measured are the coefficients where the mask is true, their real and imaginary parts. ``solve`` takes
    complex k-space as it is: :meth:`as_measurement` picks and splits it. The noise's standard deviation is
    that of the real part, and of the imaginary one.

    It computes in the dtype of its input, of half precision in float32; ``.to(device)`` moves it.

    Attributes:
        mask: True where a coefficient is measured, boolean, ``(H, W)``.
        x_shape: shape of one image.
        y_shape: ``(2, m)``, real and imaginary part of m coefficients; with coils ``(N, 2, m)``.

    Args:
        mask: boolean, ``(H, W)`` or ``(D, H, W)``: which coefficients are measured, frequency zero in the
            middle. :func:`line_mask` draws common ones.
        x_shape: as the mask, or ``(1, H, W)``, for real images; ``(2, H, W)`` for complex ones, real and
            imaginary part. Default: as the mask.
        coils: sensitivities ``s_n``, real or complex, ``(N, H, W)``; none: the image itself.

    Raises:
        TypeError: a mask that is not boolean, sensitivities that are no numbers.
        ValueError: a mask that keeps nothing; shapes that do not fit; sensitivities that are not finite.

    Example:
        >>> import torch
        >>> fourier = Fourier(line_mask((32, 32), acceleration=4), (1, 32, 32))
        >>> fourier.y_shape
        (2, 256)
        >>> k_space = torch.ones(1, 32, 32, dtype=torch.complex64)
        >>> fourier.as_measurement(k_space).shape
        torch.Size([1, 2, 256])
    """

    mask: Tensor
    kept: Tensor
    sensitivities: Tensor | None

    def __init__(
        self,
        mask: ArrayLike | Tensor,
        x_shape: tuple[int, ...] | None = None,
        coils: ArrayLike | Tensor | None = None,
    ) -> None:
        super().__init__()
        mask = as_mask(mask, "the mask")
        self._plane = plane = tuple(mask.shape)
        self.x_shape = plane if x_shape is None else check_shape(x_shape, "x_shape")
        _check_shapes(plane, self.x_shape)
        if not bool(mask.any()):
            raise InputError("the mask keeps nothing: it has to be True where k-space is measured")
        self._axes = tuple(range(-len(plane), 0))
        self._complex = len(self.x_shape) > len(plane) and self.x_shape[0] == 2
        self.register_buffer("mask", mask.clone(), persistent=False)
        shifted = torch.fft.ifftshift(torch.arange(mask.numel()).reshape(plane))
        place = torch.empty(mask.numel(), dtype=torch.long)
        place[shifted.flatten()] = torch.arange(
            mask.numel()
        )  # of each coefficient before the shift
        self.register_buffer("kept", place[mask.flatten()], persistent=False)
        pairs = None if coils is None else _check_coils(coils, plane)
        self.register_buffer("sensitivities", pairs, persistent=False)
        self._front = () if pairs is None else (len(pairs),)
        self.y_shape = (*self._front, 2, int(mask.sum()))

    def A(self, x: Tensor) -> Tensor:
        """Coefficients: ``(B, *x_shape)`` to ``(B, *y_shape)``."""
        check_batch(x, self.x_shape, "x")
        seen = self._image(x.to(torch.promote_types(x.dtype, torch.float32)))
        if self.sensitivities is not None:
            seen = self._maps(seen) * seen.unsqueeze(1)
        moved = torch.fft.ifftshift(seen, dim=self._axes)
        spectrum = torch.fft.fftn(moved, dim=self._axes, norm="ortho")
        measured = spectrum.flatten(-len(self._plane)).index_select(-1, self.kept)
        return torch.stack([measured.real, measured.imag], dim=-2).to(x.dtype)

    def A_adjoint(self, u: Tensor) -> Tensor:
        """The adjoint, the zero-filled image: ``(B, *y_shape)`` to ``(B, *x_shape)``."""
        check_batch(u, self.y_shape, "u")
        wide = u.to(torch.promote_types(u.dtype, torch.float32))
        values = torch.complex(wide[..., 0, :], wide[..., 1, :])
        zeros = torch.zeros_like(values[..., :1]).expand(*values.shape[:-1], math.prod(self._plane))
        spectrum = zeros.index_copy(-1, self.kept, values).unflatten(-1, self._plane)
        moved = torch.fft.ifftn(spectrum, dim=self._axes, norm="ortho")
        image = torch.fft.fftshift(moved, dim=self._axes)
        if self.sensitivities is not None:
            image = (self._maps(image).conj() * image).sum(1)
        parts = torch.stack([image.real, image.imag], 1) if self._complex else image.real
        return parts.reshape(len(u), *self.x_shape).to(u.dtype)

    def as_measurement(self, k_space: Any) -> Any:
        """Complex k-space as a measurement ``(B, *y_shape)``; real numbers are returned as they are.

        Args:
            k_space: complex, ``(B, H, W)`` or ``(B, N, H, W)``, or what the mask keeps of it, ``(B, m)``
                or ``(B, N, m)``; an array or a tensor. Without the batch axis it is one measurement.

        Raises:
            ValueError: another shape.
        """
        if not np.iscomplexobj(k_space) and not (
            isinstance(k_space, Tensor) and k_space.is_complex()
        ):
            return k_space
        values = torch.as_tensor(
            np.asarray(k_space) if not isinstance(k_space, Tensor) else k_space
        )
        m = self.y_shape[-1]
        for tail, whole in (((*self._front, *self._plane), True), ((*self._front, m), False)):
            if tuple(values.shape[-len(tail) :]) == tail and values.ndim <= len(tail) + 1:
                values = values.reshape(-1, *tail)
                if whole:
                    values = values.flatten(-len(self._plane))[..., self.mask.flatten()]
                return torch.stack([values.real, values.imag], dim=-2)
        expected = ", ".join(map(str, (*self._front, *self._plane)))
        raise InputError(
            f"complex k-space has shape {tuple(values.shape)}, expected (B, {expected}), frequency zero in "
            f"the middle, or its {m} measured coefficients, (B, {', '.join(map(str, (*self._front, m)))})"
        )

    def k_space(self, y: Tensor) -> Tensor:
        """Measurements as complex k-space, ``(B, H, W)`` or ``(B, N, H, W)``, zero elsewhere."""
        check_batch(y, self.y_shape, "y")
        full = torch.zeros(
            *y.shape[:-2], self.mask.numel(), dtype=torch.complex128, device=y.device
        )
        full[..., self.mask.flatten()] = torch.complex(y[..., 0, :].double(), y[..., 1, :].double())
        result: Tensor = full.unflatten(-1, self._plane)
        return result.to(torch.promote_types(y.dtype, torch.complex64))

    def draw_y(self, ax: Any, y: Tensor, **scale: Any) -> Any:
        """Draw the logarithm of the magnitude in k-space, all coils together; see :mod:`onmanifold.plot`."""
        from onmanifold.plot import draw

        size = self.k_space(y.detach().cpu()[None])[0].abs().reshape(-1, *self._plane).norm(dim=0)
        floor = 1e-3 * size.max().clamp(min=1e-30)
        image = torch.where(self.mask.cpu(), size.clamp(min=floor).log10(), torch.nan)
        return draw(ax, image)

    def _image(self, x: Tensor) -> Tensor:
        """Images as complex numbers, ``(B, *plane)``."""
        if self._complex:
            return torch.complex(x[:, 0], x[:, 1])
        real = x.reshape(len(x), *self._plane)
        return torch.complex(real, torch.zeros_like(real))

    def _maps(self, like: Tensor) -> Tensor:
        # kept as pairs of reals: Module.to(dtype) would drop a complex buffer's imaginary part
        assert self.sensitivities is not None
        return torch.view_as_complex(self.sensitivities.to(like.real.dtype))

    def extra_repr(self) -> str:
        coils = f", {self._front[0]} coils" if self._front else ""
        return (
            f"{self.y_shape[-1]} of {self.mask.numel()} coefficients{coils}, x_shape={self.x_shape}"
        )


def _check_shapes(plane: tuple[int, ...], x_shape: tuple[int, ...]) -> None:
    if len(plane) not in (2, 3):
        raise InputError(f"the mask has to be (H, W) or (D, H, W), got {plane}")
    if x_shape not in (plane, (1, *plane), (2, *plane)):
        raise InputError(
            f"x_shape is {x_shape} and the mask {plane}: expected x_shape {plane} or {(1, *plane)} for real "
            f"images, {(2, *plane)} for complex ones"
        )


def _check_coils(given: ArrayLike | Tensor, plane: tuple[int, ...]) -> Tensor:
    """Sensitivities as pairs of real numbers, ``(N, *plane, 2)``."""
    array: NDArray[Any] = np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given)
    if array.dtype.kind not in "fcu" and array.dtype.kind != "i":
        raise InputTypeError(f"coils have to be real or complex numbers, got {array.dtype} entries")
    if array.ndim != len(plane) + 1 or array.shape[1:] != plane or len(array) == 0:
        expected = ", ".join(map(str, plane))
        raise InputError(
            f"coils have shape {array.shape}, expected (N, {expected}), a map for each"
        )
    single = array.dtype in (np.float32, np.complex64)
    maps = torch.from_numpy(np.array(array, np.complex64 if single else np.complex128))
    if not bool(torch.isfinite(torch.view_as_real(maps)).all()):
        raise InputError("coils hold NaN or infinite sensitivities")
    return torch.view_as_real(maps).clone()


def line_mask(
    shape: tuple[int, ...],
    acceleration: float = 4.0,
    centre: float = 0.08,
    pattern: str = "random",
    seed: int = 0,
) -> Tensor:
    """A sampling pattern of whole lines: those around frequency zero, and some of the others.

    Args:
        shape: of k-space, ``(H, W)`` or ``(D, H, W)``; lines are counted along the last axis.
        acceleration: lines in all by lines measured, at least 1; the centre counts, too.
        centre: share of the lines that lie around frequency zero and are all measured.
        pattern: how the others are chosen: ``random`` or ``equispaced``.
        seed: of the random ones.

    Returns:
        Boolean, ``shape``.

    Raises:
        ValueError: an acceleration below 1; a share outside [0, 1], or of more lines than are measured.

    Example:
        >>> line_mask((2, 12), acceleration=3, centre=0.2).int()[0].sum()
        tensor(4)
    """
    shape = check_shape(shape, "shape")
    check_choice(pattern, PATTERNS, "pattern")
    n = shape[-1]
    count = round(n / check_number(acceleration, "acceleration"))
    if not 1 <= count <= n:
        raise InputError(
            f"acceleration has to be from 1 to {n}, the number of lines; got {acceleration:g}"
        )
    middle = round(n * check_number(centre, "centre", low=-1e-9, high=1 + 1e-9))
    if middle > count:
        raise InputError(
            f"centre {centre:g} of {n} lines is {middle}, more than the {count} that acceleration "
            f"{acceleration:g} leaves: take a smaller centre"
        )
    lines = torch.zeros(n, dtype=torch.bool)
    first = n // 2 - middle // 2
    lines[first : first + middle] = True
    others = (~lines).nonzero().squeeze(1)
    wanted = count - middle
    if pattern == "random":
        chosen = torch.randperm(len(others), generator=as_generator(seed))[:wanted]
    else:
        chosen = ((torch.arange(wanted) + 0.5) * len(others) / max(wanted, 1)).long()
    lines[others[chosen]] = True
    return lines.expand(shape).clone()


def coil_maps(shape: tuple[int, int], coils: int = 4) -> Tensor:
    """Smooth sensitivities of coils around an image, to simulate with; the sum of squares is 1 everywhere.

    Args:
        shape: ``(H, W)``.
        coils: their number N.

    Returns:
        ``(N, H, W)``, complex128.

    Example:
        >>> coil_maps((8, 8), coils=3).abs().square().sum(0).mean()
        tensor(1., dtype=torch.float64)
    """
    h, w = check_shape(shape, "shape")
    if check_count(coils, "coils") > _MOST_COILS:
        raise InputError(f"coils has to be at most {_MOST_COILS}, got {coils}")
    angle = 2 * torch.pi * torch.arange(coils, dtype=torch.float64) / coils
    y, x = (torch.linspace(-1, 1, n, dtype=torch.float64) for n in (h, w))
    right = x - 1.2 * angle.cos()[:, None, None]
    down = y[:, None] - 1.2 * angle.sin()[:, None, None]
    size = torch.exp(-0.5 * (right.square() + down.square()))
    phase = angle[:, None, None] + 0.5 * (x * angle.sin()[:, None, None] + y[:, None])
    maps = torch.polar(size, phase)
    return maps / maps.abs().square().sum(0).sqrt()


def from_options(
    x_shape: tuple[int, ...] | None,
    *,
    acceleration: float = 4.0,
    centre: float = 0.08,
    pattern: str = "random",
    seed: int = 0,
    coils: int | Path = 0,
    mask: Path | None = None,
) -> Fourier:
    """:class:`Fourier` coefficients on lines of k-space, as in magnetic resonance imaging.

    Args:
        x_shape: ``(H, W)`` or ``(1, H, W)``; complex images are ``(2, H, W)``.
        acceleration: as in :func:`line_mask`.
        centre: as in :func:`line_mask`.
        pattern: ``random`` or ``equispaced`` lines.
        seed: of the random ones.
        coils: a file of their sensitivities, ``(N, H, W)``, or a number of simulated ones around the image;
            0: the image itself.
        mask: a file that is not 0 where k-space is measured, ``(H, W)``, instead of drawn lines.

    Example:
        >>> from_options((1, 28, 28), acceleration=4, coils=4).y_shape
        (4, 2, 196)
    """
    if x_shape is None:
        raise InputError(
            "fourier needs the shape of the images: x_shape (H, W), (1, H, W) or (2, H, W)"
        )
    if len(check_shape(x_shape, "x_shape")) < 2:
        raise InputError(f"x_shape has to be (H, W), (1, H, W) or (2, H, W), got {x_shape}")
    h, w = x_shape[-2:]
    if mask is None:
        kept: Any = line_mask((h, w), acceleration, centre, pattern, seed)
    else:
        kept = read_array(mask) != 0
    maps: Any = None
    if isinstance(coils, Path):
        maps = read_array(coils, complex_too=True)
    elif check_count(coils, "coils", at_least=0):
        maps = coil_maps((h, w), coils)
    return Fourier(kept, x_shape, maps)
