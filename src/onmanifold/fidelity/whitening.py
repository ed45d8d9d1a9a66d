"""Maps that turn correlated errors into independent ones of standard deviation 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from onmanifold.errors import InputError
from onmanifold.fidelity.independent import as_entries, bind_entries
from onmanifold.printing import Brief
from onmanifold.prior import by_chart
from onmanifold.tensors import as_real


@dataclass(frozen=True, eq=False)
class Whitening:
    """W with ``W^T W = C^-1`` among the entries present, and 0 elsewhere; of each of B members.

    Members that share a mask and a covariance form a group and share what was made of them.

    Attributes:
        masks: which entries are present in each group, ``(K, m)``.
        number: the group of each member, ``(B,)``.
        forward: W of the group k times vectors ``(n, T, m)``.
        backward: the same for ``W^T``.
    """

    masks: Tensor
    number: Tensor
    forward: Callable[[Tensor, int], Tensor]
    backward: Callable[[Tensor, int], Tensor]

    def apply(self, vectors: Tensor) -> Tensor:
        """W times vectors ``(B, T, m)``."""
        return self._by_group(self.forward, vectors)

    def transposed(self, vectors: Tensor) -> Tensor:
        """``W^T`` times vectors ``(B, T, m)``."""
        return self._by_group(self.backward, vectors)

    def select(self, rows: Tensor) -> Whitening:
        """The same for the members ``rows`` (an index)."""
        return replace(self, number=self.number[rows])

    def _by_group(self, apply: Callable[[Tensor, int], Tensor], vectors: Tensor) -> Tensor:
        def among_present(rows: Tensor, k: int) -> Tensor:
            return torch.where(self.masks[k], apply(torch.where(self.masks[k], rows, 0.0), k), 0.0)

        return by_chart(among_present, vectors, self.number, len(self.masks))


def as_covariance(value: object, name: str) -> Tensor:
    """A symmetric matrix ``(m, m)``, or B of them; else raise."""
    matrix = _as_matrix(value, name)
    if matrix.shape[-2] != matrix.shape[-1]:
        raise InputError(
            f"{name} has shape {tuple(matrix.shape)}, expected (m, m), or (B, m, m) for B measurements"
        )
    skew = (matrix - matrix.mT).abs()
    if bool((skew > 1000 * torch.finfo(matrix.dtype).eps * matrix.abs().amax()).any()):
        raise InputError(
            f"{name} is not symmetric, entries that mirror each other differ by up to "
            f"{float(skew.amax()):.3g}: pass (C + C.mT) / 2 if that is rounding"
        )
    return matrix


def factorize(matrix: Tensor, mask: Tensor | None, measurement: Tensor, name: str) -> Whitening:
    """Factorize a covariance ``(m, m)`` or ``(B, m, m)`` among the entries present.

    Args:
        matrix: the covariance.
        mask: which entries are present, ``(1 or B, m)``.
        measurement: ``(B, *y_shape)``.
        name: class and argument, for the message.

    Raises:
        ValueError: another size than the measurement's, or not positive definite.
    """
    matrix = matrix.to(measurement.device)
    _check_size(matrix, measurement, name)
    masks, number = _distinct(mask, measurement, shared=matrix.ndim == 2)
    # Missing entries become independent ones, so that the others' block is their covariance.
    both = masks.unsqueeze(1) & masks.unsqueeze(2)
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    lower, info = torch.linalg.cholesky_ex(torch.where(both, matrix, eye))
    if bool(info.any()):
        raise InputError(
            f"{name} is not positive definite: the leading block of order {int(info.amax())} has an "
            "eigenvalue of 0 or less. Add the variance of each entry's own noise to the diagonal, or take "
            "CorrelatedGaussian.low_rank(std, factor)"
        )
    lower = lower.to(measurement.dtype)  # C = L L^T, W = L^-1
    # not closures, which cannot be pickled
    return Whitening(masks, number, partial(_solve, lower), partial(_solve, lower, transposed=True))


def _solve(lower: Tensor, vectors: Tensor, k: int, transposed: bool = False) -> Tensor:
    columns = vectors.flatten(0, 1).mT
    factor = lower[k].mT if transposed else lower[k]
    solved = torch.linalg.solve_triangular(factor, columns, upper=transposed)
    result: Tensor = solved.mT.reshape(vectors.shape)
    return result


@dataclass(frozen=True, eq=False, repr=False)
class DiagonalPlusLowRank(Brief):
    """``diag(std^2) + factor factor^T``, the factor ``(m, k)`` or ``(B, m, k)``."""

    std: float | Tensor
    factor: Tensor

    def __post_init__(self) -> None:
        std = as_entries(self.std, "CorrelatedGaussian: std")
        object.__setattr__(self, "std", std)
        object.__setattr__(self, "factor", _as_matrix(self.factor, "CorrelatedGaussian: factor"))

    def whitening(self, mask: Tensor | None, measurement: Tensor) -> Whitening:
        """Factorize it among the entries present; arguments as for :func:`factorize`."""
        factor = self.factor.to(measurement.device)
        _check_size(factor, measurement, "CorrelatedGaussian: factor")
        std = bind_entries(self.std, measurement, "CorrelatedGaussian: std")
        std = std.reshape(len(std), -1)
        shared = factor.ndim == 2 and len(std) == 1
        masks, number = _distinct(mask, measurement, shared=shared)
        scaled = torch.where(masks.unsqueeze(2), factor / std.unsqueeze(2), 0.0)
        basis, size, _ = torch.linalg.svd(scaled, full_matrices=False)
        used = (size > torch.finfo(size.dtype).eps).any(0)  # others are as independent as they were
        basis, size = basis[..., used].contiguous(), size[:, used]
        # (1 + V V^T)^(-1/2) along the basis, less 1. This form of Woodbury's identity loses no digits
        # where the low rank part is much larger than the diagonal.
        shrink = ((1 + size.square()).rsqrt() - 1).to(measurement.dtype)
        basis, std = basis.to(measurement.dtype), std.expand(len(masks), -1)
        parts = std, basis, shrink
        return Whitening(
            masks, number, partial(_shrink, *parts), partial(_shrink, *parts, transposed=True)
        )


def _shrink(
    std: Tensor, basis: Tensor, shrink: Tensor, vectors: Tensor, k: int, transposed: bool = False
) -> Tensor:
    vectors = vectors if transposed else vectors / std[k]
    vectors = vectors + (vectors @ basis[k] * shrink[k]) @ basis[k].mT
    return vectors / std[k] if transposed else vectors


def _distinct(mask: Tensor | None, measurement: Tensor, shared: bool) -> tuple[Tensor, Tensor]:
    """The distinct masks ``(K, m)`` and the number of each member's, ``(B,)``.

    Where the covariance is not shared, each member has its own.
    """
    batch, m = len(measurement), measurement[0].numel()
    if mask is None:
        mask = torch.ones((1, m), dtype=torch.bool, device=measurement.device)
    if not shared:
        return mask.expand(batch, -1), torch.arange(batch, device=mask.device)
    masks, number = torch.unique(mask, dim=0, return_inverse=True)
    return masks, number.expand(batch)


def _as_matrix(value: object, name: str) -> Tensor:
    matrix = as_real(value, name)
    if matrix.ndim not in (2, 3):
        raise InputError(f"{name} has shape {tuple(matrix.shape)}, expected two or three axes")
    if not bool(torch.isfinite(matrix).all()):
        raise InputError(f"{name} holds NaN or infinity")
    return matrix


def _check_size(matrix: Tensor, measurement: Tensor, name: str) -> None:
    batch, m = len(measurement), measurement[0].numel()
    if matrix.shape[-2] != m or (matrix.ndim == 3 and len(matrix) != batch):
        raise InputError(
            f"{name} has shape {tuple(matrix.shape)}, expected {m} rows, as many as a measurement of "
            f"shape {tuple(measurement.shape[1:])} has entries, for all {batch} measurements or each"
        )
