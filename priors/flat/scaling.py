"""Codes from distances alone: where a flat encoder starts.

Its loss sees near pairs only. It cannot tell an embedding from a map that wraps the manifold twice around,
nor a smooth one from a crumpled one that keeps lengths, and descent from random weights ends in either.
Distances of points far apart decide: classical scaling makes codes of them that an encoder can learn first.
"""

from __future__ import annotations

import torch
from torch import Tensor

_NEAREST = 10  # others of each landmark whose distances the codes have to keep


class Scaling:
    """Classical scaling (multidimensional scaling) with landmarks.

    Codes of the landmarks are those whose inner products are nearest to ``-d^2 / 2``, centred twice; any
    other point follows from its distances to the landmarks. All are scaled so that near landmarks keep
    their distance, in the median. Geodesic distances of the flat torus give a product of two circles, those
    of rotations their matrices.

    Args:
        distance: between landmarks, ``(L, L)``.
        dim: length d of a code; entries beyond what the distances tell are 0.

    References:
        V. de Silva, J. Tenenbaum, *Sparse multidimensional scaling using landmark points*, Stanford 2004;
        with distances in a graph of neighbours, J. Tenenbaum, V. de Silva, J. Langford, Science 290 (2000).

    Example:
        >>> x = torch.randn((40, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> codes = Scaling(torch.cdist(x, x), dim=5).place(torch.cdist(x[:10], x))
        >>> bool(torch.allclose(torch.cdist(codes, codes), torch.cdist(x[:10], x[:10])))
        True
    """

    def __init__(self, distance: Tensor, dim: int) -> None:
        squares = distance.double().square()
        self.mean = squares.mean(dim=0)
        inner = -0.5 * (squares - self.mean - self.mean[:, None] + self.mean.mean())
        values, vectors = torch.linalg.eigh((inner + inner.mT) / 2)
        values, vectors = values.flip(0)[:dim], vectors.flip(1)[:, :dim]
        significant = values > 1e-6 * values[0]
        self.basis = torch.zeros((len(squares), dim), dtype=squares.dtype, device=squares.device)
        self.basis[:, : len(values)] = torch.where(significant, vectors / values.abs().sqrt(), 0.0)
        self.basis *= self._near_ratio(distance.double())

    def _near_ratio(self, distance: Tensor) -> Tensor:
        codes = self.place(distance)
        near = distance.topk(min(_NEAREST + 1, len(distance)), largest=False).indices[:, 1:]
        lengths = (codes[near] - codes[:, None]).norm(dim=2)
        ratio: Tensor = (distance.gather(1, near) / lengths).median()
        return ratio

    def place(self, distance: Tensor) -> Tensor:
        """Codes ``(n, d)`` of points by their distances to the landmarks, ``(n, L)``."""
        codes: Tensor = -0.5 * (distance.double().square() - self.mean) @ self.basis
        return codes.to(distance)
