"""The linear prior to compare with: principal components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

MOST = 5000  # examples that components are fitted to
SPARE = 10  # directions beyond those asked for, for accuracy


@dataclass(frozen=True)
class PCA:
    """The affine space of a dimension that is nearest to examples.

    Attributes:
        mean: of the examples, ``(m,)``.
        basis: orthonormal directions, the widest first, ``(m, d)``.

    Example:
        >>> x = torch.randn(50, 2) @ torch.randn(2, 7)
        >>> bool((PCA.fit(x, 2).project(x) - x).abs().max() < 1e-4)
        True
    """

    mean: Tensor
    basis: Tensor

    @classmethod
    def fit(cls, x: Tensor, dim: int) -> Self:
        """Fit to examples ``(n, *x_shape)``; of many, to the first 5000."""
        flat = x[:MOST].flatten(1)
        mean = flat.mean(dim=0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            size = min(dim + SPARE, *flat.shape)
            basis = torch.svd_lowrank(flat - mean, q=size, niter=4)[2]
        return cls(mean, basis[:, :dim])

    def project(self, x: Tensor) -> Tensor:
        """The nearest points ``(n, *x_shape)`` of the space."""
        found: Tensor = (x.flatten(1) - self.mean) @ self.basis @ self.basis.T + self.mean
        return found.view_as(x)
