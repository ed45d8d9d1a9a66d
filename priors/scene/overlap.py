"""Objects do not lie on each other: an energy of the areas that their masks share."""

from __future__ import annotations

import torch
from torch import Tensor


def shared_areas(masks: Tensor) -> Tensor:
    """What any two of the masks ``(B, n, H, W)`` of the square [-1, 1]^2 share, ``(B, n, n)``, diagonal 0."""
    flat = masks.flatten(2)
    return _off_diagonal(flat @ flat.mT) * (4 / flat.shape[2])


def energy(shared: Tensor, std: float) -> Tensor:
    """Half the square of each pair's shared area over ``std``, summed: ``(B, n, n)`` to ``(B,)``."""
    return shared.square().sum((1, 2)) / (4 * std**2)


def energy_derivatives(masks: Tensor, slopes: Tensor, std: float) -> tuple[Tensor, Tensor]:
    """Gradient ``(B, n, c)`` and Gauss-Newton curvature ``(B, n, c, n, c)`` of masks' :func:`energy`.

    Args:
        masks: ``(B, n, H, W)``.
        slopes: their derivatives by c coordinates each, ``(B, n, c, H, W)``.
        std: of a shared area.
    """
    pixel = 4 / masks[0, 0].numel()
    shared = shared_areas(masks) / std
    # by[b, i, :, j] is how the area that i shares with j changes as i does
    by = slopes.flatten(3) @ masks.flatten(2).mT.unsqueeze(1) * (pixel / std)
    by = _off_diagonal(by.transpose(1, 2)).transpose(1, 2)
    gradient = torch.einsum("bicj,bij->bic", by, shared)
    curvature = torch.einsum("bicj,bjdi->bicjd", by, by)
    own = torch.einsum("bicj,bidj->bicd", by, by)
    for i in range(masks.shape[1]):
        curvature[:, i, :, i] += own[:, i]
    return gradient, curvature


def _off_diagonal(matrix: Tensor) -> Tensor:
    """A matrix ``(..., n, n)`` with zeros on its diagonal."""
    return matrix * (1 - torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device))
