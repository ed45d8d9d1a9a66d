"""Charts as in the paper: a code in a small base image that couplings and upsamplings enlarge.

Source: Alberti, Hertrich, Santacesaria, Sciutto, JMLR 25 (2024), section 3.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from benchmarks.charts_parts.layers import Haar, RotatedShuffle, conv_coupling, dense_coupling


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
        background: value that pictures are relative to.

    Raises:
        ValueError: a picture or a code that the base image does not fit.

    Example:
        >>> import torch
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
        self.lift, self.drop = _wavelet_lift() if upsampling == "haar" else _tiling()
        self.tiles = 4**scales
        self.dense = nn.ModuleList(dense_coupling(base**2, dense) for _ in range(couplings))
        self.grids = nn.ModuleList()
        for scale in range(scales, 0, -1):
            self.grids.extend(conv_coupling(4**scale, channels) for _ in range(couplings))
            self.grids.append(_upsampling(upsampling, 4**scale))

    def decode(self, z: Tensor) -> Tensor:
        """``(B, d) -> (B, 1, H, H)``."""
        x = functional.pad(z, (0, self.base**2 - self.dim))
        for layer in self.dense:
            x = layer(x)
        x = self.lift(x.view(-1, 1, self.base, self.base), self.tiles)
        for layer in self.grids:
            x = layer(x)
        return x + self.background

    def encode(self, x: Tensor) -> Tensor:
        """``(B, 1, H, H) -> (B, d)``, for any picture, on the chart or off it."""
        x = x - self.background
        for layer in reversed(self.grids):
            x = layer.inverse(x)  # type: ignore[operator]
        x = self.drop(x, self.tiles).flatten(1)
        for layer in reversed(self.dense):
            x = layer.inverse(x)  # type: ignore[operator]
        return x[:, : self.dim]


Lift = Callable[[Tensor, int], Tensor]


def _tiling() -> tuple[Lift, Lift]:
    """The base image in all channels; back, their mean."""
    return (
        lambda x, tiles: x.expand(-1, tiles, -1, -1),
        lambda x, tiles: x.mean(dim=1, keepdim=True),
    )


def _wavelet_lift() -> tuple[Lift, Lift]:
    """The base image as coarsest wavelet coefficients, details zero; the same picture as tiling makes."""
    return (
        lambda x, tiles: functional.pad(tiles**0.5 * x, (0, 0, 0, 0, 0, tiles - 1)),
        lambda x, tiles: x[:, :1] / tiles**0.5,
    )


def _upsampling(kind: str | int, channels: int) -> nn.Module:
    if kind == "haar":
        return Haar()
    return RotatedShuffle(channels, int(kind) or channels)
