"""Independent errors with heavy tails."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from onmanifold.checks import check_number
from onmanifold.fidelity.independent import Independent, beside


@dataclass(frozen=True, eq=False)
class StudentT(Independent):
    """Independent errors with heavy tails: a few entries that are far off hardly change the result.

    With ``t = (p - y) / std`` and ``n`` degrees of freedom,

        Phi(p, y) = sum (n + 1) / 2 log(1 + t^2 / n)

    over the entries present: the negative logarithm of Student's density, without its constant. An entry
    within one or two ``std`` counts about as with :class:`Gaussian`; the influence of one far off falls like
    1/t.

    Args:
        std: scale of the error, in the measurement's unit; as for :class:`Gaussian`.
        mask: True where an entry was measured; as for :class:`Gaussian`.
        df: n, positive. 1 is Cauchy's distribution, the limit of large n is normal.

    Raises:
        TypeError: if ``std`` or ``df`` is not a number, or ``mask`` is not a boolean tensor.
        ValueError: if ``std`` or ``df`` is not positive and finite, or (on use) a shape does not fit.

    Example:
        >>> import torch
        >>> StudentT(1.0, df=3).gradient(torch.tensor([[0.1, 1.0, 100.0]]), torch.zeros(1, 3))
        tensor([[0.1329, 1.0000, 0.0400]])
    """

    std: float | Tensor = 1.0
    mask: Tensor | None = None
    df: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self.df, "StudentT: df")

    def _values(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        t = (prediction - measurement) / self.std
        return 0.5 * (self.df + 1) * (t.square() / self.df).log1p()

    def _slopes(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        t = (prediction - measurement) / self.std
        return self._weight(t) * t / self.std

    def _curved(self, prediction: Tensor, measurement: Tensor, tangents: Tensor) -> Tensor:
        # Not the second derivative, which is negative where |t| > sqrt(n), but that of the parabola
        # in p that touches Phi here: the logarithm is concave in t^2, so the parabola lies above Phi,
        # and where it falls Phi falls. Its minimum is the step of iteratively reweighted least squares.
        weight = self._weight((prediction - measurement) / self.std).unsqueeze(1)
        std = beside(torch.as_tensor(self.std).to(tangents), tangents)
        return weight * tangents / std / std

    def _weight(self, t: Tensor) -> Tensor:
        weight: Tensor = (self.df + 1) / (self.df + t.square())
        return weight

    def _moments(self, measurement: Tensor) -> tuple[Tensor, Tensor]:
        scale = (self.df + 1) / 2
        mean, variance = scale * self._polygamma_fall(0), scale**2 * self._polygamma_fall(1)
        return measurement.new_tensor(mean), measurement.new_tensor(variance)

    def _polygamma_fall(self, order: int) -> float:
        """Distance of polygamma at n / 2 and (n + 1) / 2: cumulants of log(1 + t^2 / n).

        Under the noise ``1 / (1 + t^2 / n)`` has the beta distribution of n / 2 and 1 / 2.
        """
        halves = torch.tensor([self.df / 2, (self.df + 1) / 2], dtype=torch.float64)
        low, high = torch.special.polygamma(order, halves).tolist()
        distance: float = abs(high - low)
        return distance
