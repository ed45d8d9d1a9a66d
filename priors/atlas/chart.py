r"""A chart with an exact left inverse, built of couplings between a code and a picture.

The space of unknowns is split once and for all, :math:`R^n = R^d \oplus R^{n-d}`: ``d`` orthonormal
functionals :math:`Q` (for pictures those of the highest spatial frequencies, where data have next to
nothing) and the rest :math:`P = I - Q^T Q`. A code :math:`a \in R^d` and a picture :math:`b`, zero at first,
change each other in turn, with any networks :math:`g_i` (code to picture) and :math:`h_i` (picture to code):

.. math::  b \leftarrow b + P g_i(a), \qquad a \leftarrow a + h_i(b), \qquad x = x_0 + b + s\, Q^T a.

Every line can be undone whatever the networks are, so the encoder, which undoes them in reverse, is
an exact left inverse of the decoder: untrained as well as trained. With one pair of convolutional
networks this is an ordinary autoencoder (:math:`g` decodes, :math:`-h` encodes) that writes what its encoder
gets wrong, :math:`a = z + h(g(z)) \approx 0`, into the invisible part of the picture.

It is the construction of Alberti et al., JMLR 25 (2024), section 3 (padding, invertible couplings), with
the couplings arranged such that a chart costs as little as a plain autoencoder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import scipy.fft
import torch
from torch import Tensor, nn

from onmanifold.priors.atlas.networks import network_pair


class Chart(nn.Module):
    """One injective decoder ``R^d -> x_shape`` and its exact left inverse.

    Args:
        dim: latent dimension d.
        x_shape: shape of the unknown, ``(n,)`` or ``(C, H, W)``.
        couplings: number of pairs (code to picture, picture to code).
        network: ``"dense"`` or ``"conv"``.
        options: arguments of the networks.
        scale: weight s of the code in the unknown. The larger, the less noise in an unknown disturbs its code,
            and the more exactly the networks have to invert each other.
        support: pixels outside the disk that fills the picture stay at the ``background``:
            ``"disk"``, or ``"all"`` for none such.
        background: value x_0 that pictures are relative to.

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
    ) -> None:
        super().__init__()
        if not 1 <= dim < int(np.prod(x_shape)):
            raise ValueError(f"Chart: dim {dim} has to be from 1 to below the size of {x_shape}")
        self.dim, self.x_shape, self.scale = dim, tuple(x_shape), scale
        self.background, self.everywhere = background, support == "all"
        pairs = [network_pair(network, dim, self.x_shape, options or {}) for _ in range(couplings)]
        self.to_picture = nn.ModuleList(g for g, _ in pairs)
        self.to_code = nn.ModuleList(h for _, h in pairs)
        mask = _support(support, self.x_shape)
        # Neither is learned; both are made again from the arguments, so neither is stored.
        self._exact_basis = _hidden_directions(dim, mask)
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("basis", self._exact_basis.float(), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        # orthonormal to the rounding of whatever dtype the module moved to, float64 included
        self.basis = self._exact_basis.to(self.basis)
        return self

    def decode(self, z: Tensor) -> Tensor:
        """``(B, d) -> (B, *x_shape)``."""
        code, picture = self._couple(z)
        return self.background + picture + self._hide(code)

    def hidden(self, z: Tensor) -> Tensor:
        """What ``decode(z)`` writes into the hidden directions, ``(B, d)``: zero where the networks agree."""
        return self._couple(z)[0]

    def _couple(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The couplings: s a, ``(B, d)``, and b, ``(B, *x_shape)``."""
        a, b = z, z.new_zeros(1)
        for to_picture, to_code in zip(self.to_picture, self.to_code, strict=True):
            b = b + self._visible(to_picture(a))
            a = a + to_code(b)
        return self.scale * a, b

    def encode(self, x: Tensor) -> Tensor:
        """``(B, *x_shape) -> (B, d)``, for any ``x``, on the chart or off it."""
        x = x - self.background
        x = x if self.everywhere else x * self.mask
        code = x.flatten(1) @ self.basis.T
        a, b = code / self.scale, x - self._hide(code)
        a = a - self.to_code[-1](b)
        for i in reversed(range(len(self.to_code) - 1)):
            b = b - self._visible(self.to_picture[i + 1](a))
            a = a - self.to_code[i](b)
        return a

    def _visible(self, x: Tensor) -> Tensor:
        """P x: without the hidden part, zero outside the support."""
        x = x if self.everywhere else x * self.mask
        return x - self._hide(x.flatten(1) @ self.basis.T)

    def _hide(self, code: Tensor) -> Tensor:
        """Q^T a: codes ``(B, d)`` as pictures of the highest frequencies."""
        return (code @ self.basis).unflatten(1, self.x_shape)


def _support(support: str, x_shape: tuple[int, ...]) -> Tensor:
    """1 where the unknown may differ from the background, else 0."""
    if support == "all":
        return torch.ones(x_shape)
    if support != "disk":
        raise ValueError(f"Chart: unknown support {support!r}; known: all, disk")
    _, height, width = x_shape
    y = (torch.arange(height) + 0.5) * 2 / height - 1
    x = (torch.arange(width) + 0.5) * 2 / width - 1
    return (torch.hypot(y[:, None], x) <= 1).float().expand(x_shape).contiguous()


def _hidden_directions(dim: int, mask: Tensor) -> Tensor:
    """``dim`` orthonormal functionals ``(d, n)``, zero outside the support.

    For pictures the cosines of highest frequency, for vectors the first coordinates.
    """
    if mask.ndim == 1:
        return torch.eye(len(mask), dtype=torch.float64)[:dim]
    colours, height, width = mask.shape
    rows = scipy.fft.dct(np.eye(height), norm="ortho", axis=0)
    columns = scipy.fft.dct(np.eye(width), norm="ortho", axis=0)
    total = (np.arange(height) / height)[:, None] ** 2 + (np.arange(width) / width) ** 2
    highest = np.argsort(-total, axis=None, kind="stable")[: -(-dim // colours)]
    i, j = np.unravel_index(highest, total.shape)
    waves = rows[i][:, :, None] * columns[j][:, None, :]
    each = np.einsum("kc,nhw->nkchw", np.eye(colours), waves).reshape(-1, *mask.shape)[:dim]
    orthonormal, _ = np.linalg.qr((each * mask.numpy()).reshape(dim, -1).T)
    return torch.from_numpy(orthonormal.T.copy())
