r"""A chart with an exact left inverse, built of couplings between a code and an image.

The space of unknowns is split once and for all, :math:`R^n = R^d \oplus R^{n-d}`: ``d`` orthonormal
functionals :math:`Q` that see next to nothing of any data and the rest :math:`P`. For images :math:`Q`
is the highest spatial frequencies, :math:`P = I - Q^T Q`; for images of a disk it is waves in the corners
around the disk, and :math:`P` keeps what is inside. A code :math:`a \in R^d` and an image :math:`b`, zero
at first, change each other in turn, with any networks :math:`g_i` (code to image) and :math:`h_i`
(image to code):

.. math::  b \leftarrow b + P g_i(a), \qquad a \leftarrow a + h_i(b), \qquad x = x_0 + c\,(b + s\, Q^T a).

Every line can be undone whatever the networks are, so the encoder, which undoes them in reverse, is
an exact left inverse of the decoder: untrained as well as trained. With one pair of convolutional
networks this is an ordinary autoencoder (:math:`g` decodes, :math:`-h` encodes) that writes what its encoder
gets wrong, :math:`a = z + h(g(z)) \approx 0`, into the invisible part of the image.

It is the construction of Alberti et al., JMLR 25 (2024), section 3 (padding, invertible couplings), with
the couplings arranged such that a chart costs as little as a plain autoencoder.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Self

import numpy as np
import scipy.fft
import torch
from torch import Tensor, nn

from onmanifold.checks import check_count, check_number
from onmanifold.errors import InputError
from onmanifold.priors.networks import network_pair


class Chart(nn.Module):
    """One injective decoder ``R^d -> x_shape`` and its exact left inverse.

    Args:
        dim: latent dimension d.
        x_shape: shape of the unknown, ``(n,)`` or ``(C, H, W)``.
        couplings: number of pairs (code to image, image to code). Without any the chart is linear: all
            that is needed for ``d = n``, where the latent flow alone makes the map.
        network: ``"dense"`` or ``"conv"``.
        options: arguments of the networks.
        scale: weight s of the code in the unknown. The larger, the less noise in an unknown disturbs its
            code, and the more exactly the networks have to invert each other.
        support: where images differ from the ``background``: ``"all"`` pixels, or those of the
            ``"disk"`` that fills the image.
        background: value x_0 that images are relative to.
        amplitude: unit c of the networks: how far values are from the background, at most or so.

    Example:
        >>> chart = Chart(2, (5,), couplings=2, network="dense", options={"hidden": 8})
        >>> z = torch.randn(3, 2)
        >>> bool((chart.encode(chart.decode(z)) - z).abs().max() < 1e-5)
        True
    """

    basis: Tensor
    mask: Tensor

    def __init__(
        self,
        dim: int,
        x_shape: tuple[int, ...],
        *,
        couplings: int = 1,
        network: str = "conv",
        options: dict[str, Any] | None = None,
        scale: float = 1.0,
        support: str = "all",
        background: float = 0.0,
        amplitude: float = 1.0,
    ) -> None:
        super().__init__()
        dim, couplings = (
            check_count(dim, "Chart: dim"),
            check_count(couplings, "Chart: couplings", 0),
        )
        scale, amplitude = check_number(scale, "Chart: scale"), check_number(amplitude, "amplitude")
        if not 1 <= dim <= int(np.prod(x_shape)):
            raise InputError(f"Chart: dim {dim} has to be from 1 to the size of {tuple(x_shape)}")
        self.dim, self.x_shape, self.scale = dim, tuple(x_shape), scale
        pairs = [network_pair(network, dim, self.x_shape, options or {}) for _ in range(couplings)]
        self.to_image = nn.ModuleList(g for g, _ in pairs)
        self.to_code = nn.ModuleList(h for _, h in pairs)
        self.everywhere, self.background = (
            support == "all",
            check_number(background, "Chart: background", low=-inf),
        )
        self.amplitude = amplitude
        # Neither is learned; both are made again from the arguments, so neither is stored.
        mask, self._exact_basis = _split(support, dim, self.x_shape)
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("basis", self._exact_basis.float(), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # orthonormal to the rounding of whatever dtype the module moved to, float64 included
        self.basis = self._exact_basis.to(self.basis)
        return self

    def decode(self, z: Tensor) -> Tensor:
        """``(B, d) -> (B, *x_shape)``."""
        code, image = self._couple(z)
        flat = torch.addmm(image.flatten(1), code, self.basis)  # hide the code
        if self.amplitude != 1:
            flat = self.amplitude * flat
        if self.background:
            flat = self.background + flat
        return flat.view(-1, *self.x_shape)

    def hidden(self, z: Tensor) -> Tensor:
        """What ``decode(z)`` writes into the hidden directions, ``(B, d)``: zero where the networks agree."""
        return self.amplitude * self._couple(z)[0]

    def _couple(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The couplings: s a, ``(B, d)``, and b, ``(B, *x_shape)``."""
        a, b = z, z.new_zeros(len(z), *self.x_shape)
        for i, (to_image, to_code) in enumerate(zip(self.to_image, self.to_code, strict=True)):
            image = self._visible(to_image(a))
            b = b + image if i else image
            a = a + to_code(b)
        return self.scale * a, b

    def encode(self, x: Tensor) -> Tensor:
        """``(B, *x_shape) -> (B, d)``, for any ``x``, on the chart or off it."""
        if self.background:
            x = x - self.background
        if self.amplitude != 1:
            x = x / self.amplitude
        code = x.flatten(1) @ self.basis.T
        b = self._visible(x)
        a: Tensor = code / self.scale
        for i in reversed(range(len(self.to_code))):
            a = a - self.to_code[i](b)
            if i > 0:
                b = b - self._visible(self.to_image[i](a))
        return a

    def _visible(self, x: Tensor) -> Tensor:
        """P x."""
        if self.everywhere:
            flat = x.flatten(1)
            return torch.addmm(flat, flat @ self.basis.T, self.basis, alpha=-1).view_as(x)
        inside: Tensor = x * self.mask
        return inside


def _split(support: str, dim: int, x_shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The pixels of the support, 1 or 0, and the hidden directions ``(d, n)``, orthonormal."""
    if support == "all":
        everything = torch.ones(x_shape)
        if len(x_shape) == 1:
            return everything, torch.eye(dim, x_shape[0], dtype=torch.float64)
        return everything, _waves(dim, everything.double(), highest=True)
    if support != "disk" or len(x_shape) != 3:
        raise InputError(
            f"Chart: unknown support {support!r} for {x_shape}; known: all, and disk for images"
        )
    outside = corners(x_shape)
    if outside.sum() <= dim:
        raise InputError(
            f"Chart: the corners around the disk in {x_shape} hold no code of length {dim}"
        )
    inside = _radius(x_shape) <= 1
    return inside.float(), _waves(dim, outside.double(), highest=False)


def corners(x_shape: tuple[int, ...]) -> Tensor:
    """Pixels around the disk that fills an image ``(C, H, W)``, boolean.

    Without those at its rim: an operator that interpolates inside the disk looks at them, too.
    """
    return _radius(x_shape) > 1 + 3 / min(x_shape[-2:])


def _radius(x_shape: tuple[int, ...]) -> Tensor:
    """Distance of the pixels of an image from its centre, in half widths."""
    *_, height, width = x_shape
    y = (torch.arange(height) + 0.5) * 2 / height - 1
    x = (torch.arange(width) + 0.5) * 2 / width - 1
    return torch.hypot(y[:, None], x).expand(x_shape)


def _waves(dim: int, where: Tensor, highest: bool) -> Tensor:
    """``dim`` orthonormal cosine waves ``(d, n)`` of the highest or lowest frequencies on some pixels.

    The lowest leave out the constant and are orthogonal to it: the mean over the pixels carries no code.
    """
    colours, height, width = where.shape
    rows = scipy.fft.dct(np.eye(height), norm="ortho", axis=0)
    columns = scipy.fft.dct(np.eye(width), norm="ortho", axis=0)
    total = (np.arange(height) / height)[:, None] ** 2 + (np.arange(width) / width) ** 2
    order = np.argsort(-total if highest else total, axis=None, kind="stable")
    i, j = np.unravel_index(order[: -(-dim // colours) + (not highest)], total.shape)
    waves = rows[i][:, :, None] * columns[j][:, None, :]
    each = np.einsum("kc,nhw->nkchw", np.eye(colours), waves).reshape(-1, *where.shape)
    orthonormal, _ = np.linalg.qr((each * where.numpy()).reshape(len(each), -1).T)
    first = 0 if highest else colours  # the constants, one a colour
    return torch.from_numpy(orthonormal.T[first : first + dim].copy())
