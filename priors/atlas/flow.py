"""The latent flow: an invertible change of latent coordinates, from zuko's coupling layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from zuko.flows.autoregressive import MaskedAutoregressiveTransform


class LatentFlow(nn.Module):
    """T: R^d -> R^d, smooth couplings with affine outputs; the identity before training.

    Args:
        dim: latent dimension d. For d = 1 there is nothing to couple, and T is affine.
        layers: number of coupling layers.
        hidden: width of their two hidden layers.

    Example:
        >>> flow = LatentFlow(3, layers=2, hidden=8)
        >>> s, ladj = flow.inverse(torch.ones(1, 3))
        >>> s.tolist(), ladj.tolist()
        ([[1.0, 1.0, 1.0]], [0.0])
    """

    def __init__(self, dim: int, *, layers: int = 2, hidden: int = 64) -> None:
        super().__init__()
        options = {"hidden_features": (hidden, hidden), "activation": nn.SiLU} if dim > 1 else {}
        self.layers = nn.ModuleList()
        for i in range(layers):
            order = torch.arange(dim) if i % 2 == 0 else torch.arange(dim - 1, -1, -1)
            layer = MaskedAutoregressiveTransform(dim, passes=2, order=order, **options)
            for parameter in list(layer.parameters())[-2:]:  # its output: shift and log-scale
                nn.init.zeros_(parameter)
            self.layers.append(layer)

    def forward(self, s: Tensor) -> Tensor:
        """T(s), shape ``(B, d)``."""
        for layer in self.layers:
            s = layer()(s)
        return s

    def inverse(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """T^{-1}(t), shape ``(B, d)``, and log|det dT^{-1}(t)|, shape ``(B,)``."""
        total = t.new_zeros(t.shape[:-1])
        for layer in reversed(self.layers):
            t, ladj = layer().inv.call_and_ladj(t)
            total = total + ladj
        return t, total
