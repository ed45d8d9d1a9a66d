"""The approximation error of a model of the tank, as a covariance of the voltages, and its size.

Kaipio, Somersalo, "Statistical and Computational Inverse Problems", Springer 2005, section 5.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

import torch
from scipy.optimize import brentq
from torch import Tensor

from onmanifold.fidelity import CorrelatedGaussian
from onmanifold.operators.eit.measurements.measurement import Measurement
from onmanifold.operators.eit.measurements.noise import matrix_of
from onmanifold.operators.eit.models.protocol import Protocol

_FLOOR, _INFLATION = 0.3, 6.0
LOG_SCALE_STD = 0.5  # of the size of errors from tank to tank: nearly all are within a factor of 3
_MOST = 10.0  # times larger or smaller than expected errors are looked for
RANK = 1e-6  # relative size below which combinations of the currents count as zero


@dataclass(frozen=True, eq=False)
class ApproximationError:
    r"""Normal errors of voltages: noise, and errors of the model of a size that the data may tell.

    The covariance is ``diag(noise^2 + scale^2 own^2) + scale^2 F F^T`` over m voltages.

    Attributes:
        noise: standard deviation of the measurement's noise, V, ``(m,)``.
        own: that of model errors of single voltages, V, ``(m,)``.
        factor: F of those that many voltages share, V, ``(m, k)``.
        mask: which voltages were measured, boolean, of the shape of predictions.
    """

    noise: Tensor
    own: Tensor
    factor: Tensor
    mask: Tensor

    def fidelity(self, scale: float = 1.0) -> CorrelatedGaussian:
        """The data term where model errors are so many times as large as expected."""
        std = (self.noise.square() + (scale * self.own).square()).sqrt()
        shape = self.mask.shape
        return CorrelatedGaussian.low_rank(std.reshape(shape), scale * self.factor, self.mask)

    def matching_scale(self, residual: Tensor) -> float:
        """How many times as large as expected model errors are if they explain a residual.

        Where the misfit has its expected value, the number of measured voltages (Morozov's discrepancy
        principle for the size of the error); between 1/10 and 10.

        Args:
            residual: measured less predicted voltages, V, ``(m,)``.
        """
        seen = self.mask.flatten()
        residual = residual[seen].double()
        noise, own, factor = (part[seen].double() for part in (self.noise, self.own, self.factor))

        def excess(log_scale: float) -> float:
            std = (noise.square() + (exp(log_scale) * own).square()).sqrt()
            white, shared = residual / std, exp(log_scale) * factor / std[:, None]
            inner = shared.T @ shared + torch.eye(shared.shape[1]).double()
            part = (shared.T @ white) @ torch.cholesky_solve(
                (shared.T @ white)[:, None], torch.linalg.cholesky(inner)
            )
            return float(white.square().sum() - part) - len(residual)

        low, high = -log(_MOST), log(_MOST)
        if excess(high) > 0:
            return _MOST
        return 1 / _MOST if excess(low) < 0 else exp(brentq(excess, low, high, xtol=0.01))


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
    own, factor = _errors(protocol, change, known, share, rest, unreliable)
    if unreliable is not None:
        noise[:, unreliable] *= _INFLATION
    return ApproximationError(
        noise.flatten()[measured],
        own.flatten()[measured],
        factor.flatten(0, 1).flatten(1)[measured],
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
    """Standard deviations ``(I, M)`` of what is not linear in the currents, and the factor of what is."""
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
    patterns = torch.arange(change.shape[1])
    factor = change.new_zeros(*change.shape, currents.shape[1], change.shape[1])
    factor[:, patterns, :, patterns] = (currents[:, None] * std.T).transpose(0, 1)
    return own, factor
