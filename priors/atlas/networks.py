"""The networks inside a chart: smooth maps between codes ``(B, d)`` and unknowns ``(B, *x_shape)``.

They need no structure of their own: :class:`~onmanifold.priors.atlas.chart.Chart` makes an exactly
invertible chart of any pair of them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


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


class ConvDecoder(nn.Module):
    """Code to picture: a perceptron to the coarsest grid, then residual blocks and pixel shuffles.

    Args:
        dim: length d of a code.
        x_shape: picture shape ``(C, H, W)``.
        channels: channels at each grid, coarsest first; grids double from one to the next.
        patch: side of the square of pixels that one site of the finest grid writes.
        hidden: width of the perceptron.
        groups: groups of channels that are normalized in front of each residual block; 0: none. With them
            learning rates can be several times larger.
    """

    def __init__(
        self,
        dim: int,
        x_shape: tuple[int, ...],
        channels: list[int],
        patch: int,
        hidden: int,
        groups: int = 0,
    ) -> None:
        super().__init__()
        colours, height, width = x_shape
        shrink = patch * 2 ** (len(channels) - 1)
        if height % shrink or width % shrink:
            raise ValueError(f"ConvDecoder: the picture {x_shape} is not divisible by {shrink}")
        self.grid = (channels[0], height // shrink, width // shrink)
        self.lift = nn.Sequential(
            mlp(dim, hidden, hidden, 1),
            nn.SiLU(),
            nn.Linear(hidden, self.grid[0] * self.grid[1] * self.grid[2]),
        )
        layers: list[nn.Module] = [Residual(channels[0], groups)]
        for coarse, fine in zip(channels, channels[1:], strict=False):
            layers += [
                nn.Conv2d(coarse, 4 * fine, 3, padding=1),
                nn.PixelShuffle(2),
                Residual(fine, groups),
            ]
        layers += [nn.SiLU(), nn.Conv2d(channels[-1], colours * patch**2, 3, padding=1)]
        self.body = nn.Sequential(*layers, nn.PixelShuffle(patch)).to(
            memory_format=torch.channels_last
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.body(self.lift(z).unflatten(1, self.grid))  # type: ignore[no-any-return]


class ConvEncoder(nn.Module):
    """Picture to code, the mirror image of :class:`ConvDecoder`, with the same arguments."""

    def __init__(
        self,
        dim: int,
        x_shape: tuple[int, ...],
        channels: list[int],
        patch: int,
        hidden: int,
        groups: int = 0,
    ) -> None:
        super().__init__()
        colours, height, width = x_shape
        shrink = patch * 2 ** (len(channels) - 1)
        sites = (height // shrink) * (width // shrink)
        layers: list[nn.Module] = [
            nn.PixelUnshuffle(patch),
            nn.Conv2d(colours * patch**2, channels[-1], 3, padding=1),
        ]
        for fine, coarse in zip(channels[::-1], channels[-2::-1], strict=False):
            layers += [
                Residual(fine, groups),
                nn.SiLU(),
                nn.Conv2d(fine, coarse, 4, stride=2, padding=1),
            ]
        self.body = nn.Sequential(*layers, Residual(channels[0], groups), nn.SiLU()).to(
            memory_format=torch.channels_last
        )
        self.drop = mlp(sites * channels[0], hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.body(x).flatten(1))  # type: ignore[no-any-return]


def network_pair(
    kind: str, dim: int, x_shape: tuple[int, ...], options: dict[str, Any]
) -> tuple[nn.Module, nn.Module]:
    """A decoder network ``R^d -> x_shape`` and an encoder network back, of the named kind.

    Raises:
        ValueError: an unknown kind; known are ``"dense"`` (for vectors) and ``"conv"`` (pictures).
    """
    if kind == "dense":
        size = x_shape[0]
        return mlp(dim, outputs=size, **options), mlp(size, outputs=dim, **options)
    if kind == "conv":
        return ConvDecoder(dim, x_shape, **options), ConvEncoder(dim, x_shape, **options)
    raise ValueError(f"unknown network {kind!r}; known: conv, dense")
