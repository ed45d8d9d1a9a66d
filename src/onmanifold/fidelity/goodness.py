"""Whether a misfit is consistent with the noise."""

from __future__ import annotations

import torch
from torch import Tensor

from onmanifold.fidelity.protocol import Fidelity


def p_value(fidelity: Fidelity, misfit: Tensor, measurement: Tensor) -> Tensor:
    """Probability that noise alone makes a misfit at least as large, at the truth.

    By the gamma distribution with the misfit's mean and standard deviation under the noise: for
    :class:`Gaussian` and :class:`CorrelatedGaussian` this is the tail of chi-square; for the others it is an
    approximation, accurate to about 0.03 with tens of entries. A reconstruction fits some of the noise too.
    Its misfit is then smaller than that of the truth and its p-value larger, the more so the more dimensions
    the manifold has per entry.

    Args:
        fidelity: what the misfit was measured by.
        misfit: its value, ``(B,)``.
        measurement: y, ``(B, *y_shape)``.

    Returns:
        Shape ``(B,)``; NaN where the fidelity does not know its mean or deviation.

    Example:
        >>> import torch
        >>> from onmanifold import Gaussian
        >>> p_value(Gaussian(0.1), torch.tensor([50.0, 70.0]), torch.zeros(2, 100))
        tensor([0.4812, 0.0051])
    """
    deviation = getattr(fidelity, "deviation", None)
    if deviation is None:
        return torch.full_like(misfit, torch.nan)
    # float32 would lose the far tail of many entries.
    mean, spread = (f(measurement).double() for f in (fidelity.expected, deviation))
    shape, rate = (mean / spread).square(), mean / spread.square()
    tail: Tensor = torch.special.gammaincc(shape, rate * misfit.double().clamp(min=0.0))
    return tail.to(misfit.dtype)
