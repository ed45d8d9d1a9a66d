"""Charts as in the paper: a code in a small base image that couplings and upsamplings enlarge.

All layers act on vectors ``(B, n)`` or images ``(B, C, H, W)`` and have ``forward`` and ``inverse``, exact to
rounding whatever their parameters are.

Source: Alberti, Hertrich, Santacesaria, Sciutto, JMLR 25 (2024), section 3.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from onmanifold.priors.networks import mlp

CLAMP = 1.4  # largest logarithm of a scale in an affine coupling


class TiledChart(nn.Module):
    """Padding, dense couplings, tiling, then ``scales`` times {convolutional couplings, upsampling}.

    Args:
        dim: latent dimension d, at most ``base**2``.
        x_shape: ``(1, H, H)`` with H = base * 2**scales.
        base: side of the base image.
        couplings: couplings on the base image, and on each grid.
        dense: width of the networks on the base image.
        channels: hidden channels of the networks on the grids.
        upsampling: ``"haar"``; or the number of channels that one learned rotation mixes, 0 for all.
        background: value that images are relative to.

    Raises:
        ValueError: an image or a code that the base image does not fit.

    Example:
        >>> chart = TiledChart(2, (1, 8, 8), base=4, couplings=1, dense=8, channels=4, upsampling="haar")
        >>> z = torch.randn(3, 2)
        >>> bool((chart.encode(chart.decode(z)) - z).abs().max() < 1e-5)
        True
    """

    def __init__(
        self,
        dim: int,
        x_shape: tuple[int, ...],
        *,
        base: int,
        couplings: int,
        dense: int,
        channels: int,
        upsampling: str | int,
        background: float = 0.0,
    ) -> None:
        super().__init__()
        scales = (x_shape[-1] // base).bit_length() - 1
        if x_shape != (1, base * 2**scales, base * 2**scales) or scales < 1:
            raise ValueError(f"TiledChart: a base image of side {base} does not grow to {x_shape}")
        if dim > base**2:
            raise ValueError(f"TiledChart: a code of length {dim} does not fit {base} x {base}")
        self.dim, self.x_shape, self.base, self.background = dim, x_shape, base, background
        self.tiles, self.wavelets = 4**scales, upsampling == "haar"
        self.dense = nn.ModuleList(dense_coupling(base**2, dense) for _ in range(couplings))
        self.grids = nn.ModuleList()
        for scale in range(scales, 0, -1):
            self.grids.extend(conv_coupling(4**scale, channels) for _ in range(couplings))
            group = int(upsampling or 4**scale) if upsampling != "haar" else 0
            self.grids.append(RotatedShuffle(4**scale, group) if group else Haar())

    def decode(self, z: Tensor) -> Tensor:
        """``(B, d) -> (B, 1, H, H)``."""
        x = functional.pad(z, (0, self.base**2 - self.dim))
        for layer in self.dense:
            x = layer(x)
        x = x.view(-1, 1, self.base, self.base)
        if self.wavelets:  # as coarsest coefficients, details zero: the same image as tiling makes
            x = functional.pad(self.tiles**0.5 * x, (0, 0, 0, 0, 0, self.tiles - 1))
        else:
            x = x.expand(-1, self.tiles, -1, -1)
        for layer in self.grids:
            x = layer(x)
        return x + self.background

    def encode(self, x: Tensor) -> Tensor:
        """``(B, 1, H, H) -> (B, d)``, for any image, on the chart or off it."""
        x = x - self.background
        for layer in reversed(self.grids):
            x = layer.inverse(x)
        x = x[:, :1] / self.tiles**0.5 if self.wavelets else x.mean(dim=1, keepdim=True)
        x = x.flatten(1)
        for layer in reversed(self.dense):
            x = layer.inverse(x)
        return x[:, : self.dim]


class Coupling(nn.Module):
    """An affine coupling: each half of the channels scales and shifts the other.

    Source: Kingma, Dhariwal: *Glow*, NeurIPS 2018; the scale's logarithm is clamped smoothly.

    Args:
        network: makes a network from half of the channels to scales and shifts of the other half.
    """

    def __init__(self, network: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.first, self.second = network(), network()

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
    return Coupling(lambda: mlp(size // 2, hidden, size))


def conv_coupling(channels: int, hidden: int) -> Coupling:
    """A coupling of images ``(B, channels, H, W)``; its networks have two 3 x 3 convolutions."""

    def network() -> nn.Module:
        first = nn.Conv2d(channels // 2, hidden, 3, padding=1)
        layers = nn.Sequential(first, nn.SiLU(), nn.Conv2d(hidden, channels, 3, padding=1))
        return layers.to(memory_format=torch.channels_last)

    return Coupling(network)


class Haar(nn.Module):
    """Twice the grid for a quarter of the channels, each made of four by the inverse Haar transform."""

    matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        signs = [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]
        self.register_buffer("matrix", torch.tensor(signs) / 2.0, persistent=False)

    def rotation(self) -> Tensor:
        """Orthogonal matrices that mix groups of channels, ``(1 or groups, group, group)``."""
        return self.matrix[None]

    def forward(self, x: Tensor) -> Tensor:
        return functional.pixel_shuffle(_mix(x, self.rotation()), 2)

    def inverse(self, x: Tensor) -> Tensor:
        return _mix(functional.pixel_unshuffle(x, 2), self.rotation().mT)


class RotatedShuffle(Haar):
    """The same by learned rotations: Cayley transforms ``(I + A)^-1 (I - A)``, A skew and zero at first.

    Args:
        channels: channels C before the layer, a multiple of 4.
        group: channels that one rotation mixes, a divisor of C; 4 is one rotation for each written channel.
    """

    def __init__(self, channels: int, group: int) -> None:
        nn.Module.__init__(self)
        self.skew = nn.Parameter(torch.zeros(channels // group, group, group))

    def rotation(self) -> Tensor:
        skew = self.skew - self.skew.mT
        identity = torch.eye(skew.shape[-1], dtype=skew.dtype, device=skew.device)
        return torch.linalg.solve(identity + skew, identity - skew)


def _mix(x: Tensor, matrices: Tensor) -> Tensor:
    """Groups of channels of ``x`` times matrices, never in 16 bits: a rounded rotation is none."""
    with torch.autocast(x.device.type, enabled=False):
        grouped = x.unflatten(1, (-1, matrices.shape[-1]))
        mixed = torch.einsum("gij,bgjhw->bgihw", matrices.expand(grouped.shape[1], -1, -1), grouped)
    return mixed.flatten(1, 2)
