"""A measurement: the protocol, the voltages, and which of them are there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from onmanifold.errors import InputError, InputTypeError
from onmanifold.operators.eit.arguments import doubles
from onmanifold.operators.eit.models.protocol import Protocol
from onmanifold.tensors import as_mask


@dataclass(frozen=True, eq=False)
class Measurement:
    """Voltages measured with a protocol.

    Attributes:
        protocol: injections and measurement patterns.
        voltages: V, the protocol's ``shape``: ``(I, M)`` or ``(K,)``, float64; zero where missing.
        mask: which voltages are there, bool, the same shape.

    Raises:
        TypeError: voltages that are not float64 or a mask that is not boolean.
        ValueError: another shape, or voltages that are not finite.
    """

    protocol: Protocol
    voltages: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        for name, dtype in (("voltages", torch.float64), ("mask", torch.bool)):
            value = getattr(self, name)
            if not isinstance(value, Tensor) or value.dtype != dtype:
                got = value.dtype if isinstance(value, Tensor) else type(value).__name__
                raise InputTypeError(f"{name} has to be a tensor of {dtype}, got {got}")
            if tuple(value.shape) != self.protocol.shape:
                raise InputError(
                    f"{name} has shape {tuple(value.shape)}, expected the protocol's {self.protocol.shape}"
                )
        if not bool(torch.isfinite(self.voltages).all()):
            raise InputError(
                "voltages hold NaN or infinity; missing ones are zero, and False in mask"
            )

    @classmethod
    def from_values(
        cls, protocol: Protocol, values: ArrayLike | Tensor, mask: ArrayLike | Tensor | None = None
    ) -> Self:
        """A measurement from voltages as files hold them.

        Args:
            protocol: injections and measurement patterns.
            values: V; ``(I, M)`` with anything where the protocol measures nothing, or a row for each
                injection with those it measures, or all in a row or column. NaN is missing.
            mask: which are there, shaped like ``values``; all that are not NaN if ``None``.

        Raises:
            ValueError: another number of voltages, or infinite ones.

        Example:
            >>> kept = Measurement.from_values(Protocol.opposite(4), [[0, 1, 2, 3], [4, np.nan, 6, 7]])
            >>> kept.voltages[1], kept.mask[1]
            (tensor([4., 0., 6., 7.], dtype=torch.float64), tensor([ True, False,  True,  True]))
        """
        array = doubles(values, "voltages")
        present = np.ones(array.shape, bool)
        if mask is not None:
            present = as_mask(mask, "mask").cpu().numpy()
        if present.shape != array.shape:
            raise InputError(
                f"mask has to be of the voltages' shape {array.shape}, got {present.shape}"
            )
        array, present = (_in_place(protocol, a) for a in (array, present))
        present = present & ~np.isnan(array)
        array = np.where(present, array, 0.0)
        if not np.isfinite(array).all():
            place = np.argwhere(~np.isfinite(array))[0]
            i, m = place if len(place) == 2 else protocol.rows()[place[0]]
            raise InputError(
                f"the voltage of injection {i + 1}, pattern {m + 1} is infinite; missing ones are NaN"
            )
        return cls(protocol, torch.from_numpy(array), torch.from_numpy(present))


@contextmanager
def named(where: object) -> Iterator[None]:
    """Say in a ``ValueError`` that comes from inside which file or variable it is about."""
    try:
        yield
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


def _in_place(protocol: Protocol, values: np.ndarray) -> np.ndarray:
    """Values as ``(I, M)``, as a row or column of I M or of K, in the protocol's shape."""
    full, count = protocol.full_shape, int(protocol.mask.sum())
    flat = values.ndim <= 1 or max(values.shape) == values.size
    if values.shape == full or (flat and values.size == full[0] * full[1]):
        values = values.reshape(full)
        return values if protocol.measured is None else values[protocol.measured]
    each = protocol.mask.sum(axis=1)
    lines = values.ndim == 2 and len(values) == full[0] and (each == values.shape[1]).all()
    if (flat or lines) and values.size == count:
        return values.reshape(protocol.shape)
    expected = f"{full[0]} injections with {full[1]} patterns make {full[0] * full[1]}"
    if protocol.measured is not None:
        expected += f", of which {count} are measured"
    size = f"{values.size} entries" if flat else f"shape {values.shape}"
    raise InputError(f"the voltages have {size}; {expected}")
