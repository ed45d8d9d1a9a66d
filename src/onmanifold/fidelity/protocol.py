"""What the solver asks of a data term."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

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
