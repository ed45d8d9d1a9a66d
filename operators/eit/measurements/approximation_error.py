"""The approximation error of a model of the tank, as a covariance of the voltages, and its size.

Kaipio, Somersalo, "Statistical and Computational Inverse Problems", Springer 2005, section 5.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from onmanifold.fidelity import CorrelatedGaussian
from onmanifold.operators.eit.measurements.measurement import Measurement
from onmanifold.operators.eit.measurements.noise import matrix_of
from onmanifold.operators.eit.models.protocol import Protocol

_FLOOR, _INFLATION = 0.3, 6.0
LOG_SCALE_STD = 0.5  # of the size of errors from tank to tank: nearly all are within a factor of 3
_MOST = 10.0  # times larger or smaller than expected errors are looked for, at most
RANK = 1e-6  # relative size below which combinations of the currents count as zero


class ErrorScale(NamedTuple):
    """How many times as large as expected the errors of a model are."""

    shared: float = 1.0  # those of transfer impedances, which voltages share
    own: float = 1.0  # those of single voltages


@dataclass(frozen=True, eq=False)
class ApproximationError:
    r"""Normal errors of voltages: noise, and errors of the model of two sizes that the data may tell.

    A voltage of pattern j has noise, an error of its own, and the currents of its injection times errors of
    the transfer impedances of j, which all injections share:
    ``noise e + scale.own own e' + scale.shared sum_a shared_a e_aj + sum_k known_k e_k``, with independent
    standard normal e.

    Attributes:
        noise: standard deviation of the measurement's noise, V, ``(m,)``.
        own: that of model errors of single voltages, V, ``(m,)``.
        shared: that of the errors which the A transfer impedances make, V, ``(m, A)``.
        pattern: number of each voltage's pattern, ``(m,)``.
        mask: which voltages were measured, boolean, of the shape of predictions.
        known: factor of the covariance of other errors, whose size is known, V, ``(m, K)``.
    """

    noise: Tensor
    own: Tensor
    shared: Tensor
    pattern: Tensor
    mask: Tensor
    known: Tensor | None = None

    def with_known(self, factor: Tensor) -> ApproximationError:
        """The same, and errors of known size with the covariance ``G G^T`` of a factor G, ``(m, K)``."""
        return replace(self, known=factor.to(self.noise))

    @property
    def factor(self) -> Tensor:
        """F, with the covariance ``F F^T`` of what voltages share: ``(m, A J)`` for J patterns."""
        m, a = self.shared.shape
        full = self.shared.new_zeros(m, a, int(self.pattern.max()) + 1)
        full[torch.arange(m), :, self.pattern] = self.shared
        return full.flatten(1)

    def fidelity(self, scale: ErrorScale | float = 1.0) -> CorrelatedGaussian:
        """The data term where model errors are so many times as large as expected."""
        size = scale if isinstance(scale, ErrorScale) else ErrorScale(scale, scale)
        std = (self.noise.square() + (size.own * self.own).square()).sqrt()
        shape, factor = self.mask.shape, size.shared * self.factor
        if self.known is not None:
            factor = torch.cat([factor, self.known], dim=1)
        return CorrelatedGaussian.low_rank(std.reshape(shape), factor, self.mask)

    def likeliest_scale(self, residual: Tensor) -> ErrorScale:
        """How many times as large as expected model errors are if they explain a residual.

        The most probable pair of sizes, each lognormal with :data:`LOG_SCALE_STD` and between 1/10 and 10.
        Single voltages tell their own errors from shared ones: these are linear in the currents. One size
        for both would be that of the errors of which there are more, those of single voltages.

        Args:
            residual: measured less predicted voltages, V, ``(m,)``.
        """
        left = residual[:, None].to(self.noise)
        blocks = self._by_pattern(left if self.known is None else torch.cat([left, self.known], 1))

        def cost(log_scale: NDArray[np.float64]) -> float:
            prior = 0.5 * float((log_scale / LOG_SCALE_STD) @ (log_scale / LOG_SCALE_STD))
            return prior - _log_likelihood(ErrorScale(*np.exp(log_scale).tolist()), *blocks)

        ends = [(-log(_MOST), log(_MOST))] * 2
        found = minimize(cost, np.zeros(2), method="Nelder-Mead", bounds=ends, tol=0.01)
        return ErrorScale(*np.exp(found.x).tolist())

    def _by_pattern(self, columns: Tensor) -> tuple[Tensor, ...]:
        """Columns, noise, own and shared errors of the measured voltages, ``(J, I, ...)``; others are 0."""
        seen = self.mask.flatten().nonzero().squeeze(1)
        pattern = self.pattern[seen]
        order = pattern.argsort(stable=True)
        seen, pattern = seen[order], pattern[order]
        count = pattern.bincount()
        first = count.cumsum(0) - count
        place = torch.arange(len(seen)) - first[pattern]
        blocks = []
        for values in (columns, self.noise, self.own, self.shared):
            block = values.new_zeros(len(count), int(count.max()), *values.shape[1:]).double()
            block[pattern, place] = values[seen].double()
            blocks.append(block)
        return tuple(blocks)


def _log_likelihood(
    scale: ErrorScale, columns: Tensor, noise: Tensor, own: Tensor, shared: Tensor
) -> float:
    """Of errors of a size, up to a constant; patterns ``(J, I)`` are independent, entries of 0 missing.

    Columns ``(J, I, 1 + K)`` are the residual, and the factor of errors that no size changes.
    """
    variance = noise.square() + (scale.own * own).square()
    there = variance > 0
    std = torch.where(there, variance, 1.0).sqrt()[..., None]
    white, factor = columns / std, scale.shared * shared / std
    inner = factor.mT @ factor + torch.eye(factor.shape[2], dtype=factor.dtype)
    lower = torch.linalg.cholesky(inner)
    part = torch.linalg.solve_triangular(lower, factor.mT @ white, upper=False)
    product = (white.mT @ white - part.mT @ part).sum(0)
    volume = (std[..., 0].log() * there).sum() + lower.diagonal(dim1=1, dim2=2).log().sum()
    known = torch.linalg.cholesky(product[1:, 1:] + torch.eye(len(product) - 1).to(product))
    explained = torch.linalg.solve_triangular(known, product[1:, :1], upper=False).square().sum()
    volume = volume + known.diagonal().log().sum()
    return float(0.5 * (explained - product[0, 0]) - volume)


def approximation_error(
    difference: Measurement,
    noise: Tensor,
    share: float = 0.1,
    rest: float = 0.02,
    unreliable: Tensor | None = None,
    shape: Sequence[int] = (-1,),
) -> ApproximationError:
    r"""Noise, and model errors that are linear in the currents.

    Voltages are ``V = I Z`` with the injected currents I and the transfer impedances Z, so whatever is
    wrong with geometry, contacts or conductivities is an error of Z, shared by all injections that use
    the same electrodes. Each entry of Z is taken to be wrong by ``share`` of the measured change there,
    or of 0.3 times the typical change, independently. So injections that repeat each other hold no
    more information together than one of them. What is not linear in the currents, noise aside, is
    ``rest`` of a voltage's change or of the typical one.

    Args:
        difference: measured voltages minus those of the reference, V.
        noise: standard deviation of the measurement's noise, V, the protocol's shape.
        share: relative error of the model's changes of Z.
        rest: relative error of single voltages.
        unreliable: measurement patterns that are known to be bad, from 0: six times as wrong, and as noisy.
        shape: of the voltages that the operator predicts; by default a vector.

    Returns:
        The errors, with the mask of ``difference``.
    """
    protocol = difference.protocol
    measured = torch.tensor(protocol.mask).flatten()
    noise = protocol.spread(noise.expand(difference.voltages.shape)).clone()
    change, known = (torch.from_numpy(part) for part in matrix_of(difference))
    own, shared = _errors(protocol, change, known, share, rest, unreliable)
    if unreliable is not None:
        noise[:, unreliable] *= _INFLATION
    return ApproximationError(
        noise.flatten()[measured],
        own.flatten()[measured],
        shared.flatten(0, 1)[measured],
        torch.arange(change.shape[1]).repeat(len(change))[measured],
        difference.mask.reshape(*shape),
    )


def _errors(
    protocol: Protocol,
    change: Tensor,
    mask: Tensor,
    share: float,
    rest: float,
    unreliable: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Standard deviations of what is not linear in the currents, ``(I, M)``, and of what is ``(I, M, A)``."""
    currents = torch.tensor(protocol.injections).T
    used = currents.abs().sum(0) > 0
    currents = currents[:, used]
    columns = mask.any(0)
    transfer = change.new_zeros(currents.shape[1], change.shape[1])
    for j in columns.nonzero().flatten().tolist():
        rows = mask[:, j]
        transfer[:, j] = torch.linalg.pinv(currents[rows], rtol=RANK) @ change[rows, j]
    typical = transfer[:, columns].square().mean().sqrt()
    std = share * (transfer.square() + (_FLOOR * typical) ** 2).sqrt()
    size = (change.square().sum() / mask.sum()).sqrt()
    own = rest * (change.square() + size**2).sqrt()
    if unreliable is not None:
        std[:, unreliable] *= _INFLATION
        own[:, unreliable] *= _INFLATION
    return own, currents[:, None] * std.T
