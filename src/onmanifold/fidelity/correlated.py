"""Normal errors that are correlated."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from onmanifold.checks import check_field
from onmanifold.fidelity.independent import bind_mask, optional_mask, present, select_rows, total
from onmanifold.fidelity.whitening import (
    DiagonalPlusLowRank,
    Whitening,
    as_covariance,
    factorize,
)
from onmanifold.printing import Brief


@dataclass(frozen=True, eq=False, repr=False)
class CorrelatedGaussian(Brief):
    """Normal errors with a full covariance: ``Phi(p, y) = (p - y)^T C^-1 (p - y) / 2``.

    The entries present have the covariance of a part of all entries, the block of C that belongs to them;
    it is factorized once for each distinct mask.

    Args:
        covariance: C in the square of the measurement's unit, ``(m, m)`` over the m entries of a flattened
            measurement, or ``(B, m, m)`` when each measurement has its own. Symmetric and positive
            definite.
        mask: boolean, True where an entry was measured; broadcasts to ``y_shape``, or is
            ``(B, *y_shape)``. A missing entry may hold any finite number.

    Raises:
        TypeError: if ``covariance`` is no floating-point tensor, or ``mask`` is not boolean.
        ValueError: if ``covariance`` is not square, symmetric and finite, or (on use) not positive
            definite, or a size does not fit.

    Example:
        >>> import torch
        >>> y = torch.zeros(1, 2)
        >>> alike = CorrelatedGaussian(torch.tensor([[1.0, 0.9], [0.9, 1.0]])).bind(y)
        >>> alike.value(torch.tensor([[1.0, 1.0]]), y), alike.value(torch.tensor([[1.0, -1.0]]), y)
        (tensor([0.5263]), tensor([10.0000]))
    """

    covariance: Tensor | DiagonalPlusLowRank
    mask: Tensor | None = None
    _whitening: Whitening | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_field(self, "mask", optional_mask)
        bound = self._whitening is not None
        if not bound and not isinstance(self.covariance, DiagonalPlusLowRank):
            check_field(self, "covariance", as_covariance)

    @classmethod
    def low_rank(
        cls, std: float | Tensor, factor: Tensor, mask: Tensor | None = None
    ) -> CorrelatedGaussian:
        """Independent errors plus a few that move many entries: ``C = diag(std^2) + F F^T``.

        Errors of the model come like this: let the rows of ``errors`` ``(n, m)`` be examples of them, less
        their mean; then ``F = errors.T / (n - 1) ** 0.5``. Nothing of size m by m is ever made.

        Args:
            std: standard deviation of the independent errors, as for :class:`~onmanifold.Gaussian`.
            factor: F in the measurement's unit, ``(m, k)`` over the m entries of a flattened measurement,
                or ``(B, m, k)``.
            mask: as for the class.

        Example:
            >>> import torch
            >>> offset = CorrelatedGaussian.low_rank(0.1, torch.full((3, 1), 10.0))
            >>> y = torch.zeros(1, 3)
            >>> offset.bind(y).value(torch.ones(1, 3), y)
            tensor([0.0050])
        """
        return cls(DiagonalPlusLowRank(std, factor), mask)

    def bind(self, measurement: Tensor) -> CorrelatedGaussian:
        mask = bind_mask(self.mask, measurement, "CorrelatedGaussian: mask")
        flat, covariance = None if mask is None else mask.reshape(len(mask), -1), self.covariance
        if isinstance(covariance, DiagonalPlusLowRank):
            whitening = covariance.whitening(flat, measurement)
        else:
            whitening = factorize(covariance, flat, measurement, "CorrelatedGaussian: covariance")
        return replace(self, mask=mask, _whitening=whitening)

    def select(self, rows: Tensor) -> CorrelatedGaussian:
        return replace(
            self, mask=select_rows(self.mask, rows), _whitening=self._bound().select(rows)
        )

    def value(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        return 0.5 * self._white(prediction, measurement).square().sum((1, 2))

    def gradient(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        white = self._white(prediction, measurement)
        return self._bound().transposed(white).reshape(prediction.shape)

    def curvature(self, prediction: Tensor, measurement: Tensor, tangents: Tensor) -> Tensor:
        whitening = self._bound()
        white = whitening.apply(tangents.reshape(*tangents.shape[:2], -1))
        return whitening.transposed(white).reshape(tangents.shape)

    def expected(self, measurement: Tensor) -> Tensor:
        """Half the number of entries present, shape ``(B,)``."""
        return 0.5 * total(present(self.mask, torch.ones_like(measurement)))

    def deviation(self, measurement: Tensor) -> Tensor:
        """The square root of that: the value is half a chi-square variable. Shape ``(B,)``."""
        return self.expected(measurement).sqrt()

    def _white(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        """Residuals in independent coordinates of standard deviation 1, ``(B, 1, m)``."""
        residual = prediction - measurement
        return self._bound().apply(residual.reshape(len(residual), 1, -1))

    def _bound(self) -> Whitening:
        if self._whitening is None:
            raise RuntimeError(
                "CorrelatedGaussian: call bind(measurement) first and use its result"
            )
        return self._whitening
