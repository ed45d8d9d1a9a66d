"""Between real batches here, and what deepinv's physics take and return: complex or several tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from deepinv.physics.mri import MRIMixin
from deepinv.utils import TensorList
from torch import Tensor

from onmanifold.errors import InputTypeError


def with_channel(x: Tensor) -> Tensor:
    """Give a batch ``(B, H, W)`` a channel axis, as deepinv expects. ``reshape`` undoes it."""
    return x.unsqueeze(1) if x.ndim == 3 else x


class Unknowns(NamedTuple):
    """How a real batch ``(B, *x_shape)`` becomes what a physics takes, and the adjoint of that."""

    there: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]  # but for the shape


def ways(physics: Any, x_shape: tuple[int, ...]) -> Iterator[Unknowns]:
    """What a physics may take an unknown for, the most likely one first."""
    yield Unknowns(with_channel, _real)
    if isinstance(physics, MRIMixin):  # real and imaginary part are channels: a real image
        yield Unknowns(_without_imaginary_part, lambda g: _real(g)[:, :1])
    if len(x_shape) == 3 and x_shape[0] == 2:  # real and imaginary part of a complex image
        yield Unknowns(
            lambda x: torch.complex(x[:, :1], x[:, 1:]),
            lambda g: torch.cat([g.real, g.imag], dim=1),
        )
    yield Unknowns(
        lambda x: torch.complex(with_channel(x), torch.zeros_like(with_channel(x))), _real
    )


def _real(values: Tensor) -> Tensor:
    return values.real if values.is_complex() else values


def _without_imaginary_part(x: Tensor) -> Tensor:
    return torch.cat([with_channel(x), torch.zeros_like(with_channel(x))], dim=1)


class Recorded:
    """How what a physics returns becomes a real batch, and back.

    A complex tensor becomes its real and imaginary part, ``(B, 2, ...)``. A list of tensors becomes flat, one
    after the other.

    Args:
        example: what the physics returned for a batch.
        name: of the physics, for messages.

    Attributes:
        y_shape: shape of one measurement.
        plain: whether nothing changes.

    Raises:
        TypeError: it returned something else.
    """

    def __init__(self, example: Any, name: str) -> None:
        self._several = isinstance(example, TensorList | list | tuple)
        self._parts = [_kind(part, name) for part in (example if self._several else [example])]
        self.plain = not self._several and not self._parts[0][1]
        shapes = [(2, *shape) if is_complex else shape for shape, is_complex in self._parts]
        self._sizes = [math.prod(shape) for shape in shapes]
        self.y_shape: tuple[int, ...] = (sum(self._sizes),) if self._several else shapes[0]

    def pack(self, raw: Any) -> Tensor:
        """A measurement of the physics as a real batch."""
        parts = [_pair(part) for part in (raw if self._several else [raw])]
        return torch.cat([part.flatten(1) for part in parts], dim=1) if self._several else parts[0]

    def unpack(self, y: Tensor) -> Any:
        """A real batch as a measurement of the physics."""
        pieces = y.split(self._sizes, dim=1) if self._several else [y]
        raw = [
            _unpaired(piece, shape) if is_complex else piece.reshape(len(y), *shape)
            for piece, (shape, is_complex) in zip(pieces, self._parts, strict=True)
        ]
        return TensorList(raw) if self._several else raw[0]

    def as_measurement(self, y: Any) -> Any:
        """What the physics returns as ``(B, *y_shape)``; a real tensor stays as it is."""
        if (
            self._several
            and isinstance(y, TensorList | list | tuple)
            and len(y) == len(self._parts)
        ):
            return self.pack([torch.as_tensor(part) for part in y])
        is_complex = isinstance(y, Tensor) and y.is_complex()
        return self.pack(y) if is_complex and not self._several else y


def _kind(part: Any, name: str) -> tuple[tuple[int, ...], bool]:
    """Shape of one measurement, and whether it is complex."""
    if not isinstance(part, Tensor) or not (part.is_floating_point() or part.is_complex()):
        got = part.dtype if isinstance(part, Tensor) else type(part).__name__
        raise InputTypeError(f"{name} has to return real or complex tensors, got {got}")
    return tuple(part.shape[1:]), part.is_complex()


def _pair(part: Tensor) -> Tensor:
    return torch.stack([part.real, part.imag], dim=1) if part.is_complex() else part


def _unpaired(piece: Tensor, shape: tuple[int, ...]) -> Tensor:
    both = piece.reshape(len(piece), 2, *shape)
    return torch.complex(both[:, 0].contiguous(), both[:, 1].contiguous())
