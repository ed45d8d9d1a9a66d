"""Operators of operators: one after the other, and side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from onmanifold.checks import check_batch
from onmanifold.errors import InputError, InputTypeError
from onmanifold.external import ByLinearization
from onmanifold.fidelity import Fidelity, Joint
from onmanifold.fidelity.joint import join
from onmanifold.operator import (
    ForwardOperator,
    Linearization,
    OperatorLike,
    as_operator,
    linearize,
)

Shape = tuple[int, ...]


class _Combined(ByLinearization, nn.Module):
    """What both have in common: the parts, of which modules move with ``.to(device)``."""

    x_shape: Shape
    y_shape: Shape

    def __init__(self, parts: list[ForwardOperator]) -> None:
        super().__init__()
        self.parts = tuple(parts)
        self.linear = all(part.linear for part in parts)
        self._modules_of_parts = nn.ModuleList(p for p in parts if isinstance(p, nn.Module))

    def A(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def A_adjoint(self, u: Tensor) -> Tensor:
        """The adjoint, where all parts are linear: ``(B, *y_shape)`` to ``(B, *x_shape)``."""
        if not self.linear:
            nonlinear = next(type(part).__name__ for part in self.parts if not part.linear)
            raise InputError(f"{nonlinear} is not linear: take A_vjp(x, u), at a point x")
        return self.A_vjp(u.new_zeros(len(u), *self.x_shape), u)


class Compose(_Combined):
    """Operators one after the other: ``Compose(first, second)`` is ``A(x) = second(first(x))``.

    Attributes:
        parts: the operators, in the order in which they act.
        x_shape: of the first.
        y_shape: of the last.

    Args:
        operators: what ``as_operator`` takes, in the order in which they act on x.
        x_shape: shape of one unknown, if the first operator does not know it.

    Raises:
        TypeError: one of them is no operator.
        ValueError: one does not take what the one before it returns.

    Example:
        >>> import torch
        >>> from onmanifold.operators import Blur, Downsampling, gaussian_kernel
        >>> camera = Compose(Blur(gaussian_kernel(5, 1.0), (32, 32)), Downsampling(4, (32, 32)))
        >>> camera.y_shape
        (8, 8)
        >>> camera.A_adjoint(torch.ones(1, 8, 8)).shape
        torch.Size([1, 32, 32])
    """

    def __init__(self, *operators: OperatorLike, x_shape: Shape | None = None) -> None:
        parts: list[ForwardOperator] = []
        for k, one in enumerate(_some(operators, "Compose")):
            shape = x_shape if k == 0 else tuple(parts[-1].y_shape)
            part = as_operator(one, shape)
            if shape is not None and tuple(part.x_shape) != tuple(shape):
                before = f"operator {k}, {_name(parts[-1])}, returns" if k else "x_shape is"
                raise InputError(
                    f"operator {k + 1}, {_name(part)}, takes x of shape {tuple(part.x_shape)}, but {before} "
                    f"{tuple(shape)}"
                )
            parts.append(part)
        super().__init__(parts)
        self.x_shape, self.y_shape = tuple(parts[0].x_shape), tuple(parts[-1].y_shape)
        last = parts[-1]
        for name in ("as_measurement", "draw_y", "label_y"):  # a measurement is the last one's
            if hasattr(last, name):
                setattr(self, name, getattr(last, name))
        for name in ("draw_x", "label_x"):
            if hasattr(parts[0], name):
                setattr(self, name, getattr(parts[0], name))

    def A(self, x: Tensor) -> Tensor:
        """``(B, *x_shape)`` to ``(B, *y_shape)``."""
        for part in self.parts:
            x = part.A(x)
        return x

    def linearize(self, x: Tensor) -> Linearization:
        """Value and derivative at ``x``, ``(B, *x_shape)``: one linearization of each part."""
        steps: list[Linearization] = []
        for part in self.parts:
            steps.append(linearize(part, x))
            x = steps[-1].y
        return _Chain(tuple(steps))

    def extra_repr(self) -> str:
        return " -> ".join(map(_name, self.parts))


@dataclass(frozen=True)
class _Chain:
    """Linearizations one after the other."""

    steps: tuple[Linearization, ...]

    @property
    def y(self) -> Tensor:
        return self.steps[-1].y

    def jvp(self, v: Tensor) -> Tensor:
        for step in self.steps:
            v = step.jvp(v)
        return v

    def vjp(self, u: Tensor) -> Tensor:
        for step in reversed(self.steps):
            u = step.vjp(u)
        return u

    def select(self, rows: Tensor) -> _Chain:
        return _Chain(tuple(step.select(rows) for step in self.steps))


class Stack(_Combined):
    """Several instruments that measure the same unknown: ``A(x) = (A_1(x), A_2(x), ...)``.

    A measurement is flat: the entries of the first, then those of the second, and so on. :meth:`join` makes
    it, ``solve`` calls that on a list, and :meth:`split` takes it apart. Each instrument keeps its own noise:
    pass :meth:`fidelity`.

    Attributes:
        parts: the operators.
        x_shape: of all of them.
        y_shape: ``(m,)``, the number of all entries.

    Args:
        operators: what ``as_operator`` takes.
        x_shape: shape of one unknown, if none of the operators knows it.

    Raises:
        TypeError: one of them is no operator.
        ValueError: they take unknowns of different shapes.

    Example:
        >>> import torch
        >>> from onmanifold import Gaussian, Poisson
        >>> from onmanifold.operators import Blur, Downsampling, gaussian_kernel
        >>> both = Stack(Blur(gaussian_kernel(5, 1.0), (8, 8)), Downsampling(4, (8, 8)))
        >>> y = both.join([torch.zeros(1, 8, 8), torch.ones(1, 2, 2)])
        >>> noise = both.fidelity(Gaussian(0.1), Poisson(gain=100))
        >>> noise.bind(y).value(both.A(torch.zeros(1, 8, 8)), y).shape
        torch.Size([1])
    """

    def __init__(self, *operators: OperatorLike, x_shape: Shape | None = None) -> None:
        given = _some(operators, "Stack")
        known = (tuple(one.x_shape) for one in given if isinstance(one, ForwardOperator))
        shape = next(known, None) if x_shape is None else x_shape
        parts = [as_operator(one, shape) for one in given]
        for k, part in enumerate(parts):
            if tuple(part.x_shape) != tuple(parts[0].x_shape):
                raise InputError(
                    f"operator {k + 1}, {_name(part)}, takes x of shape {tuple(part.x_shape)}, the first "
                    f"one, {_name(parts[0])}, {tuple(parts[0].x_shape)}: instruments in a Stack see the "
                    "same x"
                )
        super().__init__(parts)
        self.x_shape = tuple(parts[0].x_shape)
        self._shapes = tuple(tuple(part.y_shape) for part in parts)
        self._sizes = tuple(map(math.prod, self._shapes))
        self.y_shape = (sum(self._sizes),)
        for name in ("draw_x", "label_x"):
            if hasattr(parts[0], name):
                setattr(self, name, getattr(parts[0], name))

    def A(self, x: Tensor) -> Tensor:
        """``(B, *x_shape)`` to ``(B, m)``."""
        return join([part.A(x) for part in self.parts], 1)

    def linearize(self, x: Tensor) -> Linearization:
        """Value and derivative at ``x``, ``(B, *x_shape)``."""
        return _SideBySide(tuple(linearize(part, x) for part in self.parts), self._shapes)

    def join(self, measurements: Sequence[Any]) -> Tensor:
        """Measurements of each instrument, ``(B, *y_shape)`` each, as one ``(B, m)``.

        Raises:
            ValueError: another number of them, another shape, or different batches.
        """
        if len(measurements) != len(self.parts):
            raise InputError(
                f"{len(self.parts)} operators need as many measurements, got {len(measurements)}"
            )
        flat = []
        for k, (part, y) in enumerate(zip(self.parts, measurements, strict=True)):
            recorded = getattr(part, "as_measurement", _as_it_is)(y)
            tensor = torch.as_tensor(recorded)
            if tuple(tensor.shape[1:]) != self._shapes[k]:
                expected = ", ".join(map(str, ("B", *self._shapes[k])))
                raise InputError(
                    f"measurement {k + 1}, of {_name(part)}, has shape {tuple(tensor.shape)}, expected "
                    f"({expected})"
                )
            flat.append(tensor.flatten(1))
        if len({len(y) for y in flat}) > 1:
            counts = ", ".join(str(len(y)) for y in flat)
            raise InputError(f"the measurements hold batches of {counts}: expected as many of each")
        return torch.cat(flat, dim=1)

    def split(self, y: Tensor) -> list[Tensor]:
        """A measurement ``(B, m)`` as those of each instrument, ``(B, *y_shape)``."""
        check_batch(y, self.y_shape, "y")
        each = zip(y.split(self._sizes, dim=1), self._shapes, strict=True)
        return [part.unflatten(1, shape) for part, shape in each]

    def fidelity(self, *fidelities: Fidelity | Callable[[Tensor, Tensor], Tensor] | None) -> Joint:
        """The noise of each instrument, in their order, as one fidelity.

        Raises:
            ValueError: another number of them than of instruments.
        """
        return Joint(fidelities, self._shapes)  # type: ignore[arg-type]

    def as_measurement(self, y: Any) -> Any:
        """A list or tuple of measurements joined; a whole one is returned as it is."""
        return self.join(y) if isinstance(y, list | tuple) and not _is_number(y[:1]) else y

    def draw_y(self, ax: Any, y: Tensor, **scale: Any) -> Any:
        """Draw the measurements side by side, each as its operator does; see :mod:`onmanifold.plot`."""
        from onmanifold.plot import draw

        ax.set_axis_off()
        parts = self.split(torch.as_tensor(y)[None])
        width = 1 / len(parts)
        for k, (part, own) in enumerate(zip(self.parts, parts, strict=True)):
            inset = ax.inset_axes((k * width + 0.02 * width, 0.0, 0.96 * width, 1.0))
            paint = getattr(part, "draw_y", draw)
            paint(inset, own[0])

    def extra_repr(self) -> str:
        return ", ".join(map(_name, self.parts))


@dataclass(frozen=True)
class _SideBySide:
    """Linearizations at the same points."""

    parts: tuple[Linearization, ...]
    shapes: tuple[Shape, ...]

    @property
    def y(self) -> Tensor:
        return join([part.y for part in self.parts], 1)

    def jvp(self, v: Tensor) -> Tensor:
        return join([part.jvp(v) for part in self.parts], 2)

    def vjp(self, u: Tensor) -> Tensor:
        pieces = u.split(tuple(map(math.prod, self.shapes)), dim=2)
        each = zip(self.parts, pieces, self.shapes, strict=True)
        return torch.stack([part.vjp(one.unflatten(2, shape)) for part, one, shape in each]).sum(0)

    def select(self, rows: Tensor) -> _SideBySide:
        return _SideBySide(tuple(part.select(rows) for part in self.parts), self.shapes)


def _some(operators: tuple[OperatorLike, ...], name: str) -> tuple[OperatorLike, ...]:
    if not operators:
        raise InputError(f"{name} needs at least one operator")
    if len(operators) == 1 and isinstance(operators[0], list | tuple):
        raise InputTypeError(f"{name} takes operators one by one: {name}(*operators)")
    return operators


def _name(operator: object) -> str:
    return type(operator).__name__


def _as_it_is(y: Any) -> Any:
    return y


def _is_number(first: Sequence[Any]) -> bool:
    return bool(first) and isinstance(first[0], int | float)
