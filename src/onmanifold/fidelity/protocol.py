"""What the solver asks of a data term, and whether a misfit is consistent with the noise."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Fidelity(Protocol):
    """What the solver asks of a data term Phi(p, y).

    A class without :meth:`deviation` works as well; its :func:`~onmanifold.p_value` is unknown. One whose
    curvature may have negative eigenvalues says so by an attribute ``indefinite = True``.
    """

    def bind(self, measurement: Tensor) -> Fidelity:
        """Check against measurements ``(B, *y_shape)``; return it in their dtype and on their
        device.

        The other members are called on what this returns.
        """
        ...

    def select(self, rows: Tensor) -> Fidelity:
        """The same for the measurements ``rows`` (a mask or an index)."""
        ...

    def value(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        """Phi(p, y): two ``(B, *y_shape)`` to ``(B,)``."""
        ...

    def gradient(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        """The derivative of Phi in ``p``, shape ``(B, *y_shape)``."""
        ...

    def curvature(self, prediction: Tensor, measurement: Tensor, tangents: Tensor) -> Tensor:
        """The (Gauss-Newton) second derivative of Phi in ``p`` applied to ``(B, T, *y_shape)``."""
        ...

    def expected(self, measurement: Tensor) -> Tensor:
        """What :meth:`value` is on average when ``x`` is the truth, shape ``(B,)``; NaN if unknown."""
        ...

    def deviation(self, measurement: Tensor) -> Tensor:
        """The standard deviation of :meth:`value` about that, shape ``(B,)``; NaN if unknown."""
        ...


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
