"""Independent errors with heavy tails."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from onmanifold.checks import check_number
from onmanifold.fidelity.entries import count, total
from onmanifold.fidelity.independent import Independent


@dataclass(frozen=True, eq=False)
class StudentT(Independent):
    """Independent errors with heavy tails: a few entries may be far off without bending the result.

    With ``t = (p - y) / std`` and ``n`` degrees of freedom,

        Phi(p, y) = sum (n + 1) / 2 log(1 + t^2 / n)

    over the entries present: the negative logarithm of Student's density, without its constant. An entry
    within one or two ``std`` counts about as with :class:`Gaussian`; the pull of one far off falls like 1/t.

    Args:
        std: scale of the error, in the measurement's unit; as for :class:`Gaussian`.
        mask: True where an entry was measured; as for :class:`Gaussian`.
        freedom: n, positive. 1 is Cauchy's distribution, the limit of large n is normal.

    Raises:
        TypeError: if ``std`` or ``freedom`` is not a number, or ``mask`` is not a boolean tensor.
        ValueError: if ``std`` or ``freedom`` is not positive and finite, or (on use) a shape does not fit.

    Example:
        >>> import torch
        >>> StudentT(1.0, freedom=3).gradient(torch.tensor([[0.1, 1.0, 100.0]]), torch.zeros(1, 3))
        tensor([[0.1329, 1.0000, 0.0400]])
    """

    freedom: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self.freedom, "StudentT: freedom")

    def value(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        t = self._scaled(prediction, measurement)
        return 0.5 * (self.freedom + 1) * total((t.square() / self.freedom).log1p())

    def gradient(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        t = self._scaled(prediction, measurement)
        return self._weight(t) * t / self.std

    def curvature(self, prediction: Tensor, measurement: Tensor, tangents: Tensor) -> Tensor:
        # Not the second derivative, which is negative where |t| > sqrt(n), but that of the parabola
        # in p that touches Phi here: the logarithm is concave in t^2, so the parabola lies above Phi,
        # and where it falls Phi falls. Its minimum is the step of iteratively reweighted least squares.
        t = self._scaled(prediction, measurement)
        return self._weighted(self._weight(t).unsqueeze(1) * tangents)

    def expected(self, measurement: Tensor) -> Tensor:
        """``(n + 1) / 2 (psi((n + 1) / 2) - psi(n / 2))`` for each entry present, shape ``(B,)``."""
        return (self.freedom + 1) / 2 * self._polygamma_fall(0) * count(self.mask, measurement)

    def deviation(self, measurement: Tensor) -> Tensor:
        """``(n + 1) / 2 sqrt(m (psi'(n / 2) - psi'((n + 1) / 2)))`` for m entries, shape ``(B,)``."""
        variance = self._polygamma_fall(1) * count(self.mask, measurement)
        return (self.freedom + 1) / 2 * variance.sqrt()

    def _polygamma_fall(self, order: int) -> float:
        """Distance of polygamma at n / 2 and (n + 1) / 2: cumulants of log(1 + t^2 / n).

        Under the noise ``1 / (1 + t^2 / n)`` has the beta distribution of n / 2 and 1 / 2.
        """
        halves = torch.tensor([self.freedom / 2, (self.freedom + 1) / 2], dtype=torch.float64)
        low, high = torch.special.polygamma(order, halves).tolist()
        distance: float = abs(high - low)
        return distance

    def _weight(self, t: Tensor) -> Tensor:
        weight: Tensor = (self.freedom + 1) / (self.freedom + t.square())
        return weight
