"""A fixed sparse matrix that multiplies torch tensors, on the CPU by scipy, elsewhere by torch."""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor


class SparseMatrix:
    """A constant matrix ``(m, n)`` in compressed rows.

    Args:
        matrix: scipy's, real.
        device: where it multiplies.

    Example:
        >>> from scipy.sparse import eye_array
        >>> SparseMatrix(2 * eye_array(2, format="csr")) @ torch.ones(2, 1, dtype=torch.float64)
        tensor([[2.],
                [2.]], dtype=torch.float64)
    """

    def __init__(self, matrix: Any, device: torch.device | str = "cpu") -> None:
        self.shape: tuple[int, int] = matrix.shape
        self.device = torch.device(device)
        self._rows = csr_array(matrix)
        self._remote: dict[bool, Tensor] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return SparseMatrix, (self._rows, self.device)  # what else it holds follows from that

    def __matmul__(self, dense: Tensor) -> Tensor:
        """``(n, k)`` to ``(m, k)``."""
        if self.device.type == "cpu":
            return _product(self._rows, dense)
        return self._on_device(adjoint=False) @ dense

    def adjoint(self, dense: Tensor) -> Tensor:
        """The transposed matrix times ``(m, k)``: ``(n, k)``."""
        if self.device.type == "cpu":
            return _product(self._transposed, dense)
        return self._on_device(adjoint=True) @ dense

    def on_rows(
        self, entries: Tensor, row: Tensor, column: Tensor, rows: int
    ) -> Tensor | csr_array:
        """The product with each row of a matrix ``(rows, n)`` of few entries: ``(rows, m)``.

        Sparse on the CPU, dense elsewhere. The entries come row by row.
        """
        if self.device.type != "cpu":
            dense = entries.new_zeros(rows, self.shape[1], dtype=torch.float64)
            dense[row, column] = entries.double()
            return (self @ dense.T).T.to(entries)
        ends = np.searchsorted(row.numpy(), np.arange(rows + 1))
        sparse = csr_array((entries.double().numpy(), column.numpy(), ends), (rows, self.shape[1]))
        product: csr_array = sparse @ self._transposed
        product.data = product.data.astype(entries.numpy().dtype)
        return product

    @cached_property
    def _transposed(self) -> csr_array:
        return self._rows.T.tocsr()

    def rows(self, start: int, stop: int) -> SparseMatrix:
        """Some of the rows."""
        return SparseMatrix(self._rows[start:stop], self.device)

    def _on_device(self, adjoint: bool) -> Tensor:
        if adjoint not in self._remote:
            matrix = self._transposed if adjoint else self._rows
            with warnings.catch_warnings():  # torch calls its compressed rows a beta feature
                warnings.simplefilter("ignore", UserWarning)
                self._remote[adjoint] = torch.sparse_csr_tensor(
                    torch.from_numpy(matrix.indptr),
                    torch.from_numpy(matrix.indices),
                    torch.from_numpy(matrix.data),
                    matrix.shape,
                    device=self.device,
                )
        return self._remote[adjoint]


def _product(matrix: csr_array, dense: Tensor) -> Tensor:
    """A matrix times columns; scipy is several times faster with a vector than with one column."""
    if dense.shape[1] == 1:
        return torch.from_numpy(matrix @ dense[:, 0].numpy())[:, None]
    return torch.from_numpy(matrix @ dense.numpy())
