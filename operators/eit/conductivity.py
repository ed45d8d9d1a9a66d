"""Maps from pixel values to conductivity, each with its derivative."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class ConductivityMap(Protocol):
    """What :class:`EIT` asks of a map from pixel values to conductivity; both act entry by entry."""

    def __call__(self, x: Tensor) -> Tensor:
        """Conductivity, S/m, at pixel values ``x``."""
        ...

    def derivative(self, x: Tensor) -> Tensor:
        """Its derivative at ``x``."""
        ...


@dataclass(frozen=True)
class Affine:
    """``s = offset + slope * x``; by default a pixel's value is its conductivity.

    Attributes:
        offset: S/m.
        slope: S/m.

    Example:
        >>> Affine(0.2, 1.6)(torch.tensor([0.5]))
        tensor([1.])
    """

    offset: float = 0.0
    slope: float = 1.0

    def __post_init__(self) -> None:
        _require_finite(self)
        if self.slope == 0:
            raise ValueError("Affine needs a slope other than zero")

    def __call__(self, x: Tensor) -> Tensor:
        return self.offset + self.slope * x

    def derivative(self, x: Tensor) -> Tensor:
        return torch.full_like(x, self.slope)


@dataclass(frozen=True)
class Exponential:
    """``s = background * exp(rate * x)``: positive for every ``x``.

    Attributes:
        background: conductivity at ``x = 0``, S/m.
        rate: without unit.

    Example:
        >>> Exponential(2.0)(torch.zeros(1))
        tensor([2.])
    """

    background: float = 1.0
    rate: float = 1.0

    def __post_init__(self) -> None:
        _require_finite(self)
        _require_positive(self.background, "background")
        if self.rate == 0:
            raise ValueError("Exponential needs a rate other than zero")

    def __call__(self, x: Tensor) -> Tensor:
        return self.background * torch.exp(self.rate * x)

    def derivative(self, x: Tensor) -> Tensor:
        return self.background * self.rate * torch.exp(self.rate * x)


@dataclass(frozen=True)
class Saturating:
    """From nearly an insulator at ``x = -1`` over the background at 0 to nearly a perfect conductor at 1.

    With ``p`` and ``q`` the negative and the positive part of ``x / reach``, cut off at 1, beyond which the
    derivative is zero, ``a = resistive`` and ``b = conductive``,

        s = background * (1 - b p - (a - b) p^2) / (1 - b q).

    So ``s / background`` runs from ``1 - a`` (0.005) to ``1 / (1 - b)`` (100), with a continuous derivative.
    On the conductive side resistivity is linear in ``x``, on the resistive side conductivity is, or nearly
    so: about how a pixel that an object covers in part acts on the currents around it.

    Attributes:
        background: conductivity of the background (water), S/m.
        resistive: a in [0, 1); at least b / 2, for s to rise everywhere.
        conductive: b in [0, 1).
        reach: where it saturates; below 1, objects saturate although a constant was added to the
            picture to stand for a drift of the background.

    Example:
        >>> Saturating(0.8)(torch.tensor([-1.0, 0.0, 0.5]))
        tensor([0.0040, 0.8000, 1.5842])
    """

    background: float = 1.0
    resistive: float = 0.995
    conductive: float = 0.99
    reach: float = 1.0

    def __post_init__(self) -> None:
        _require_finite(self)
        _require_positive(self.background, "background")
        _require_positive(self.reach, "reach")
        for name in ("resistive", "conductive"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"Saturating takes {name} in [0, 1), got {getattr(self, name)}")
        if self.resistive < self.conductive / 2:
            raise ValueError(
                f"Saturating takes resistive >= conductive / 2, got {self.resistive} and "
                f"{self.conductive}"
            )

    def __call__(self, x: Tensor) -> Tensor:
        p, q = (-x / self.reach).clamp(0, 1), (x / self.reach).clamp(0, 1)
        a, b = self.resistive, self.conductive
        return self.background * (1 - b * p - (a - b) * p**2) / (1 - b * q)

    def derivative(self, x: Tensor) -> Tensor:
        p, q = (-x / self.reach).clamp(0, 1), (x / self.reach).clamp(0, 1)
        a, b = self.resistive, self.conductive
        down = b + 2 * (a - b) * p
        up = b / (1 - b * q) ** 2
        slope = torch.where(x < 0, down, up) * self.background / self.reach
        return torch.where(x.abs() <= self.reach, slope, torch.zeros_like(x))


@dataclass(frozen=True)
class Scaled:
    """Another map's conductivity times a factor, such as a drift of the water's conductivity.

    Attributes:
        conductivity: the other map.
        factor: without unit, positive.
    """

    conductivity: ConductivityMap
    factor: float

    def __post_init__(self) -> None:
        _require_positive(self.factor, "factor")

    def __call__(self, x: Tensor) -> Tensor:
        return self.factor * self.conductivity(x)

    def derivative(self, x: Tensor) -> Tensor:
        return self.factor * self.conductivity.derivative(x)


def _require_finite(options: Affine | Exponential | Saturating) -> None:
    for name, value in vars(options).items():
        if not math.isfinite(value):
            raise ValueError(f"{type(options).__name__} needs a finite {name}, got {value}")


def _require_positive(value: float, name: str) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} has to be positive, got {value}")
