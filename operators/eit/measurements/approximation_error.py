"""The approximation error of a model of the tank, as a covariance of the voltages.

Kaipio, Somersalo, "Statistical and Computational Inverse Problems", Springer 2005, section 5.8.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from onmanifold.fidelity import CorrelatedGaussian
from onmanifold.operators.eit.measurements.measurement import Measurement
from onmanifold.operators.eit.measurements.noise import matrix_of
from onmanifold.operators.eit.models.protocol import Protocol

_FLOOR, _INFLATION = 0.3, 6.0
RANK = 1e-6  # relative size below which combinations of the currents count as zero


def approximation_error_fidelity(
    difference: Measurement,
    noise: Tensor,
    share: float = 0.1,
    rest: float = 0.02,
    unreliable: Tensor | None = None,
    shape: Sequence[int] = (-1,),
) -> CorrelatedGaussian:
    r"""A data term with the covariance of noise and of model errors that are linear in the currents.

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
        unreliable: measurement patterns that are known to be bad, from 0: six times as wrong.
        shape: of the voltages that the operator predicts; by default a vector.

    Returns:
        The fidelity, with the mask of ``difference``.
    """
    protocol = difference.protocol
    measured = torch.tensor(protocol.mask).flatten()
    noise = protocol.spread(noise.expand(difference.voltages.shape))
    change, known = (torch.from_numpy(part) for part in matrix_of(difference))
    own, factor = _errors(protocol, change, known, noise, share, rest, unreliable)
    return CorrelatedGaussian.low_rank(
        own.flatten()[measured].reshape(*shape),
        factor.flatten(0, 1).flatten(1)[measured],
        difference.mask.reshape(*shape),
    )


def _errors(
    protocol: Protocol,
    change: Tensor,
    mask: Tensor,
    noise: Tensor,
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
    own = (noise.square() + rest**2 * (change.square() + size**2)).sqrt()
    if unreliable is not None:
        std[:, unreliable] *= _INFLATION
        own[:, unreliable] *= _INFLATION
    patterns = torch.arange(change.shape[1])
    factor = change.new_zeros(*change.shape, currents.shape[1], change.shape[1])
    factor[:, patterns, :, patterns] = (currents[:, None] * std.T).transpose(0, 1)
    return own, factor
