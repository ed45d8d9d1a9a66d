"""Invertible layers on vectors ``(B, n)`` and pictures ``(B, C, H, W)``, channels in dimension 1.

Each has ``forward`` and ``inverse``, exact to rounding whatever its parameters are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CLAMP = 1.4  # largest logarithm of a scale in an affine coupling


class Coupling(nn.Module):
    """An affine coupling: each half of the channels scales and shifts the other.

    Source: Kingma, Dhariwal: *Glow*, NeurIPS 2018; the scale's logarithm is clamped smoothly.

    Args:
        first: network from the second half to scales and shifts of the first.
        second: network from the first half to scales and shifts of the second.
    """

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=1)
        scale, shift = _affine(self.first(b), a)
        a = a * scale + shift
        scale, shift = _affine(self.second(a), b)
        return torch.cat([a, b * scale + shift], dim=1)

    def inverse(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=1)
        scale, shift = _affine(self.second(a), b)
        b = (b - shift) / scale
        scale, shift = _affine(self.first(b), a)
        return torch.cat([(a - shift) / scale, b], dim=1)


def _affine(parameters: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and shift, in the precision of the data even where a network computes in 16 bits."""
    logarithm, shift = parameters.to(like.dtype).chunk(2, dim=1)
    return (CLAMP * torch.tanh(logarithm / CLAMP)).exp(), shift


def dense_coupling(size: int, hidden: int) -> Coupling:
    """A coupling of vectors ``(B, size)``; its networks have two hidden layers."""

    def network() -> nn.Module:
        return nn.Sequential(
            nn.Linear(size // 2, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, size),
        )

    return Coupling(network(), network())


def conv_coupling(channels: int, hidden: int) -> Coupling:
    """A coupling of pictures ``(B, channels, H, W)``; its networks have two 3 x 3 convolutions."""

    def network() -> nn.Module:
        layers = nn.Sequential(
            nn.Conv2d(channels // 2, hidden, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(hidden, channels, 3, padding=1),
        )
        return layers.to(memory_format=torch.channels_last)

    return Coupling(network(), network())


class Haar(nn.Module):
    """Twice the grid for a quarter of the channels, each made of four by the inverse Haar transform."""

    matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        signs = [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]
        self.register_buffer("matrix", torch.tensor(signs) / 2.0, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.pixel_shuffle(_mix(x, self.matrix.T[None]), 2)

    def inverse(self, x: Tensor) -> Tensor:
        return _mix(functional.pixel_unshuffle(x, 2), self.matrix[None])


class RotatedShuffle(nn.Module):
    """Twice the grid for a quarter of the channels: a learned rotation of channels, a pixel shuffle.

    The rotations are Cayley transforms ``(I + A)^-1 (I - A)`` of skew matrices A, the identity at first.

    Args:
        channels: channels C before the layer, a multiple of 4.
        group: channels that one rotation mixes, a divisor of C; 4 is one rotation a written channel.
    """

    def __init__(self, channels: int, group: int) -> None:
        super().__init__()
        self.skew = nn.Parameter(torch.zeros(channels // group, group, group))

    def rotation(self) -> Tensor:
        """Orthogonal matrices ``(C / group, group, group)``."""
        skew = self.skew - self.skew.mT
        identity = torch.eye(skew.shape[-1], dtype=skew.dtype, device=skew.device)
        rotation: Tensor = torch.linalg.solve(identity + skew, identity - skew)
        return rotation

    def forward(self, x: Tensor) -> Tensor:
        return functional.pixel_shuffle(_mix(x, self.rotation()), 2)

    def inverse(self, x: Tensor) -> Tensor:
        return _mix(functional.pixel_unshuffle(x, 2), self.rotation().mT)


def _mix(x: Tensor, matrices: Tensor) -> Tensor:
    """Groups of channels of ``x`` times matrices ``(groups, c, c)``, or one matrix for all groups.

    Never in 16 bits: a rounded rotation is none.
    """
    with torch.autocast(x.device.type, enabled=False):
        grouped = x.unflatten(1, (-1, matrices.shape[-1]))
        mixed = torch.einsum("gij,bgjhw->bgihw", matrices.expand(grouped.shape[1], -1, -1), grouped)
    return mixed.flatten(1, 2)
