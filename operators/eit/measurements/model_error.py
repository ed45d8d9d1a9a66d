"""What a model of the tank gets wrong, as a covariance of the voltages."""

from __future__ import annotations

import torch
from torch import Tensor

from onmanifold.fidelity import CorrelatedGaussian
from onmanifold.operators.eit.measurements.measurement import Measurement

RANK = 1e-6  # relative size below which combinations of the currents count as zero


def transfer_errors(
    difference: Measurement,
    noise: Tensor,
    share: float = 0.1,
    floor: float = 0.3,
    rest: float = 0.02,
    doubtful: Tensor | None = None,
    doubt: float = 6.0,
) -> CorrelatedGaussian:
    r"""Errors of a model that, like any model of a tank, is linear in the currents.

    Voltages are ``V = I Z`` with the injected currents I and the transfer impedances Z, so whatever is
    wrong with geometry, contacts or conductivities is an error of Z, shared by all injections that use
    the same electrodes. Each entry of Z is taken to be wrong by ``share`` of the measured change there,
    or of ``floor`` times the typical change, independently. Injections that repeat each other then say no
    more together than one of them, which an independent error for each voltage would deny. What is not
    linear in the currents, noise aside, is ``rest`` of a voltage's change or of the typical one.

    Args:
        difference: measured voltages minus those of the reference, V.
        noise: standard deviation of the measurement's noise, V, the protocol's shape.
        share: relative error of the model's changes of Z.
        floor: of the typical change.
        rest: relative error of single voltages.
        doubtful: measurement patterns that are known to be bad, from 0.
        doubt: by how much the errors of these are larger.

    Returns:
        The fidelity, with the mask of ``difference``.
    """
    protocol, mask = difference.protocol, difference.mask
    change = torch.where(mask, difference.voltages, 0.0)
    currents = torch.tensor(protocol.injections).T
    used = currents.abs().sum(0) > 0
    currents = currents[:, used]
    rows, columns = mask.any(1), mask.any(0)
    transfer = change.new_zeros(currents.shape[1], change.shape[1])
    transfer[:, columns] = torch.linalg.pinv(currents[rows], rtol=RANK) @ change[rows][:, columns]
    typical = transfer[:, columns].square().mean().sqrt()
    std = share * (transfer.square() + (floor * typical) ** 2).sqrt()
    size = (change.square().sum() / mask.sum()).sqrt()
    own = (noise.square() + rest**2 * (change.square() + size**2)).sqrt()
    if doubtful is not None:
        std[:, doubtful] *= doubt
        own[:, doubtful] *= doubt
    patterns = torch.arange(change.shape[1])
    factor = change.new_zeros(*change.shape, currents.shape[1], change.shape[1])
    factor[:, patterns, :, patterns] = (currents[:, None] * std.T).transpose(0, 1)
    return CorrelatedGaussian.low_rank(
        own.flatten(), factor.flatten(0, 1).flatten(1), mask.flatten()
    )
