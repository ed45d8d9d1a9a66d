"""Several measurements with their own noise, side by side in one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from onmanifold.errors import InputError
from onmanifold.fidelity.estimated import EstimatedGaussian
from onmanifold.fidelity.function import as_fidelity
from onmanifold.fidelity.protocol import Fidelity


@dataclass(frozen=True, eq=False)
class Joint:
    """The sum of fidelities, each of its own part of a flat measurement.

    ``onmanifold.operators.Stack.fidelity`` makes one.

    Args:
        parts: a fidelity for each part, a function of prediction and measurement, or ``None`` for least
            squares.
        shapes: the shape of each part's measurement; its entries follow each other in the whole.

    Raises:
        ValueError: another number of fidelities than of parts, or one that is estimated.

    Example:
        >>> import torch
        >>> from onmanifold import Gaussian
        >>> both = Joint((Gaussian(0.1), Gaussian(1.0)), ((1,), (2,))).bind(torch.zeros(1, 3))
        >>> both.value(torch.ones(1, 3), torch.zeros(1, 3))
        tensor([51.])
    """

    parts: tuple[Fidelity, ...]
    shapes: tuple[tuple[int, ...], ...]
    _sizes: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.parts) != len(self.shapes):
            raise InputError(
                f"{len(self.shapes)} measurements need as many fidelities, got {len(self.parts)}"
            )
        if any(isinstance(part, EstimatedGaussian) for part in self.parts):
            raise InputError(
                "the noise of several measurements at once cannot be estimated: estimate it from each "
                "measurement alone, and pass Gaussian(solution.noise_std)"
            )
        object.__setattr__(self, "parts", tuple(map(as_fidelity, self.parts)))
        object.__setattr__(self, "_sizes", tuple(map(math.prod, self.shapes)))

    @property
    def indefinite(self) -> bool:
        return any(getattr(part, "indefinite", False) for part in self.parts)

    @property
    def mask(self) -> Tensor | None:
        """Which entries are present, ``(1 or B, m)``, once bound; ``None``: all."""
        masks = [getattr(part, "mask", None) for part in self.parts]
        if all(mask is None for mask in masks):
            return None
        known = next(mask for mask in masks if mask is not None)
        flat = [
            torch.ones(1, size, dtype=torch.bool, device=known.device)
            if mask is None
            else mask.reshape(-1, size)
            for mask, size in zip(masks, self._sizes, strict=True)
        ]
        batch = max(map(len, flat))
        return torch.cat([mask.expand(batch, -1) for mask in flat], dim=1)

    def bind(self, measurement: Tensor) -> Joint:
        each = zip(self.parts, self.split(measurement), strict=True)
        return replace(self, parts=tuple(part.bind(y) for part, y in each))

    def select(self, rows: Tensor) -> Joint:
        return replace(self, parts=tuple(part.select(rows) for part in self.parts))

    def value(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        return _sum(self._each(lambda part, p, y: part.value(p, y), prediction, measurement))

    def gradient(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        return join(self._each(lambda part, p, y: part.gradient(p, y), prediction, measurement), 1)

    def curvature(self, prediction: Tensor, measurement: Tensor, tangents: Tensor) -> Tensor:
        each = zip(
            self.parts,
            self.split(prediction),
            self.split(measurement),
            self.split(tangents),
            strict=True,
        )
        return join([part.curvature(p, y, t) for part, p, y, t in each], 2)

    def expected(self, measurement: Tensor) -> Tensor:
        """The sum of what the parts expect, shape ``(B,)``."""
        each = zip(self.parts, self.split(measurement), strict=True)
        return _sum(part.expected(y) for part, y in each)

    def deviation(self, measurement: Tensor) -> Tensor:
        """The standard deviation of the sum of independent values, shape ``(B,)``."""
        each = list(zip(self.parts, self.split(measurement), strict=True))
        if not all(hasattr(part, "deviation") for part, _ in each):
            return measurement.new_full((len(measurement),), torch.nan)
        return _sum(part.deviation(y).square() for part, y in each).sqrt()

    def split(self, whole: Tensor) -> list[Tensor]:
        """The parts of ``(..., m)``, each in its shape."""
        each = zip(whole.split(self._sizes, dim=-1), self.shapes, strict=True)
        return [part.unflatten(-1, shape) for part, shape in each]

    def _each(
        self, apply: Callable[[Fidelity, Tensor, Tensor], Tensor], p: Tensor, y: Tensor
    ) -> list[Tensor]:
        each = zip(self.parts, self.split(p), self.split(y), strict=True)
        return [apply(*one) for one in each]


def join(parts: Sequence[Tensor], batch_axes: int) -> Tensor:
    """Parts with so many batch axes, flattened behind them and one after the other: ``(..., m)``."""
    return torch.cat([part.flatten(batch_axes) for part in parts], dim=batch_axes)


def _sum(values: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(values)).sum(0)
