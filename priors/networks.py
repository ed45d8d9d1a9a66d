"""The networks of all priors: smooth maps between codes ``(B, d)`` and unknowns ``(B, *x_shape)``.

They need no structure of their own: an autoencoder is a pair of them, and
:class:`~onmanifold.priors.atlas.chart.Chart` makes an exactly invertible chart of any pair.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from onmanifold.errors import InputError

SMALLEST, ONE_GRID, FINE = 12, 40, 96  # pixels of an image's side, for the default network


def mlp(inputs: int, hidden: int, outputs: int, depth: int = 2) -> nn.Sequential:
    """A perceptron with ``depth`` smooth hidden layers."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(inputs, hidden), nn.SiLU()]
        inputs = hidden
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


class Residual(nn.Module):
    """``x + conv(silu(conv(silu(norm(x)))))``, starting as the identity."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels) if groups else nn.Identity()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.second(self.act(self.first(self.act(self.norm(x)))))
        return x + change


@dataclass(frozen=True)
class Grids:
    """The sizes that a convolutional decoder and encoder share.

    Attributes:
        dim: length d of a code.
        x_shape: image shape ``(C, H, W)``.
        channels: channels at each grid, coarsest first; grids double from one to the next.
        patch: side of the square of pixels that one site of the finest grid writes.
        hidden: width of the perceptrons.
        groups: groups of channels that are normalized in front of each residual block; 0: none. With them
            learning rates can be several times larger.
        blocks: residual blocks on each grid.
        narrow: channels that the perceptrons see of the coarsest grid; 0: all of them. Most weights are
            those of a perceptron from or to a whole grid, and few channels serve as well.

    Images of any height and width have room: what the coarsest grid has beyond them is zero when they are
    encoded, and cut off when they are decoded.
    """

    dim: int
    x_shape: tuple[int, ...]
    channels: list[int]
    patch: int
    hidden: int
    groups: int = 0
    blocks: int = 1
    narrow: int = 0

    @property
    def _shrink(self) -> int:
        return self.patch << (len(self.channels) - 1)

    @property
    def coarsest(self) -> tuple[int, int, int]:
        """Shape of the coarsest grid, as the perceptrons see it."""
        _, height, width = self.x_shape
        return (
            self.narrow or self.channels[0],
            -(-height // self._shrink),
            -(-width // self._shrink),
        )

    @property
    def margin(self) -> tuple[int, int]:
        """Rows and columns that the grids have beyond the image."""
        _, rows, columns = self.coarsest
        return rows * self._shrink - self.x_shape[1], columns * self._shrink - self.x_shape[2]

    @property
    def patch_size(self) -> int:
        """Numbers that one site of the finest grid writes."""
        return self.x_shape[0] * self.patch**2

    def residual(self, channels: int) -> list[nn.Module]:
        """The blocks of a grid."""
        return [Residual(channels, self.groups) for _ in range(self.blocks)]


class ConvDecoder(nn.Module):
    """Code to image: a perceptron to the coarsest grid, then residual blocks and pixel shuffles."""

    def __init__(self, grids: Grids) -> None:
        super().__init__()
        channels = grids.channels
        self.coarsest, self.x_shape = grids.coarsest, grids.x_shape
        self.cut = any(grids.margin)
        self.lift = nn.Sequential(
            mlp(grids.dim, grids.hidden, grids.hidden, 1),
            nn.SiLU(),
            nn.Linear(grids.hidden, prod(grids.coarsest)),
        )
        layers: list[nn.Module] = []
        if grids.narrow:
            layers = [nn.Conv2d(grids.narrow, channels[0], 3, padding=1)]
        layers += grids.residual(channels[0])
        for coarse, fine in pairwise(channels):
            layers += [nn.Conv2d(coarse, 4 * fine, 3, padding=1), nn.PixelShuffle(2)]
            layers += grids.residual(fine)
        layers += [nn.SiLU(), nn.Conv2d(channels[-1], grids.patch_size, 3, padding=1)]
        self.body = nn.Sequential(*layers, nn.PixelShuffle(grids.patch)).to(
            memory_format=torch.channels_last
        )

    def forward(self, z: Tensor) -> Tensor:
        image: Tensor = self.body(self.lift(z).unflatten(1, self.coarsest))
        return image[:, :, : self.x_shape[1], : self.x_shape[2]] if self.cut else image


class ConvEncoder(nn.Module):
    """Image to code, the mirror image of :class:`ConvDecoder`."""

    def __init__(self, grids: Grids) -> None:
        super().__init__()
        channels = grids.channels
        rows, columns = grids.margin
        self.margin = (0, columns, 0, rows)
        layers: list[nn.Module] = [
            nn.PixelUnshuffle(grids.patch),
            nn.Conv2d(grids.patch_size, channels[-1], 3, padding=1),
        ]
        for fine, coarse in pairwise(reversed(channels)):
            layers += grids.residual(fine)
            layers += [nn.SiLU(), nn.Conv2d(fine, coarse, 4, stride=2, padding=1)]
        layers += [*grids.residual(channels[0]), nn.SiLU()]
        if grids.narrow:
            layers += [nn.Conv2d(channels[0], grids.narrow, 3, padding=1), nn.SiLU()]
        self.body = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        self.drop = mlp(prod(grids.coarsest), grids.hidden, grids.dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        if any(self.margin):
            x = functional.pad(x, self.margin)
        return self.drop(self.body(x).flatten(1))  # type: ignore[no-any-return]


def network_pair(
    kind: str, dim: int, x_shape: tuple[int, ...], options: dict[str, Any]
) -> tuple[nn.Module, nn.Module]:
    """A decoder network ``R^d -> x_shape`` and an encoder network back, of the named kind.

    Args:
        kind: of both.
        dim: length d of a code.
        x_shape: shape of the unknown.
        options: arguments of the networks. ``"encoder"`` holds those that differ for the encoder: a
            descent decodes with derivatives at each step, but encodes seldom, so that the decoder should
            be the smaller one.

    Raises:
        ValueError: an unknown kind; known are ``"dense"`` (for vectors and small images, see
            :func:`mlp`) and ``"conv"`` (for images, see :class:`Grids`).
    """
    differing = options.get("encoder", {})
    options = {name: value for name, value in options.items() if name != "encoder"}
    encoding = options | differing
    if kind == "dense":
        size = prod(x_shape)
        decoder, encoder = mlp(dim, outputs=size, **options), mlp(size, outputs=dim, **encoding)
        if len(x_shape) == 1:
            return decoder, encoder
        return decoder.append(nn.Unflatten(1, x_shape)), encoder.insert(0, nn.Flatten())
    if kind == "conv":
        grids, encoder_grids = (Grids(dim, x_shape, **each) for each in (options, encoding))
        return ConvDecoder(grids), ConvEncoder(encoder_grids)
    raise InputError(f"unknown network {kind!r}; known: conv, dense")


def default_network(x_shape: tuple[int, ...]) -> dict[str, Any]:
    """Kind and arguments of a network for unknowns of a shape, where nobody chose any.

    Example:
        >>> default_network((1, 64, 64))["network"]
        'conv'
    """
    if len(x_shape) == 3 and min(x_shape[1:]) >= SMALLEST:
        longest = max(x_shape[1:])
        channels = [64] if longest <= ONE_GRID else [64, 48]
        patch = 4 if longest <= FINE else 8
        options = {"channels": channels, "patch": patch, "hidden": 128, "groups": 8}
        return {"network": "conv", "options": options}
    return {"network": "dense", "options": {"hidden": 64 if prod(x_shape) < 50 else 256}}
