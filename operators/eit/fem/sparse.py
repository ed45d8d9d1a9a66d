"""A fixed sparse matrix that multiplies torch tensors, on the CPU by scipy, elsewhere by torch."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from scipy.sparse import coo_array, csr_array
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
        self._adjoint: csr_array | None = None
        self._remote: dict[bool, Tensor] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return SparseMatrix, (self._rows, self.device)  # what else it holds follows from that

    def __matmul__(self, dense: Tensor) -> Tensor:
        """``(n, k)`` to ``(m, k)``."""
        if self.device.type == "cpu":
            return torch.from_numpy(self._rows @ dense.numpy())
        return self._on_device(adjoint=False) @ dense

    def adjoint(self, dense: Tensor) -> Tensor:
        """The transposed matrix times ``(m, k)``: ``(n, k)``."""
        if self.device.type == "cpu":
            if self._adjoint is None:
                self._adjoint = self._rows.T.tocsr()
            return torch.from_numpy(self._adjoint @ dense.numpy())
        return self._on_device(adjoint=True) @ dense

    def times_entries(
        self, entries: Tensor, row: Tensor, column: Tensor, columns: int
    ) -> Tensor | csr_array:
        """Times a matrix ``(n, columns)`` of few entries: sparse on the CPU, dense elsewhere."""
        if self.device.type != "cpu":
            dense = entries.new_zeros(self.shape[1], columns, dtype=torch.float64)
            dense[row, column] = entries.double()
            return (self @ dense).to(entries)
        where = row.numpy(), column.numpy()
        sparse = coo_array((entries.double().numpy(), where), shape=(self.shape[1], columns))
        product = self._rows @ sparse.tocsr()
        return product.astype(torch.zeros(0, dtype=entries.dtype).numpy().dtype)

    def rows(self, start: int, stop: int) -> SparseMatrix:
        """Some of the rows."""
        return SparseMatrix(self._rows[start:stop], self.device)

    def _on_device(self, adjoint: bool) -> Tensor:
        if adjoint not in self._remote:
            matrix = self._rows.T.tocsr() if adjoint else self._rows
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
