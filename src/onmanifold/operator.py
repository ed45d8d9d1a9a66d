"""Forward operators: what maps an unknown ``x`` to a measurement ``y = A(x)``.

The solver knows operators only through the protocol below. A user's class needs no base class; a
class whose ``A`` is made of torch operations gets its derivatives from :class:`Autodiff`, and a
bare callable becomes an operator through :func:`as_operator`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from onmanifold.autodiff import directional_derivative, vjp
from onmanifold.checks import as_generator, check_batch, check_shape
from onmanifold.entry_points import ADAPTERS, plugins
from onmanifold.errors import InputError, InputTypeError
from onmanifold.evaluation_mode import evaluation

Shape = tuple[int, ...]


class OutsideDomain(InputError):
    """An operator is not defined at some unknowns, as EIT where a conductivity is negative.

    Operators raise it; a descent whose step led there shortens the step.

    Args:
        message: what is wrong.
        members: which members of the batch are outside, ``(B,)`` boolean.
    """

    def __init__(self, message: str, members: Tensor) -> None:
        super().__init__(message)
        self.members = members


@runtime_checkable
class ForwardOperator(Protocol):
    """What the solver asks of an operator ``A`` (batch first, everywhere).

    An operator may have ``linearize(x)``, see :class:`Linearization`; ``as_measurement(y)``, which makes
    ``(B, *y_shape)`` of what the instrument records, such as complex numbers or several arrays, and returns
    anything else as it is; and ``draw_x``, ``draw_y``, ``label_x`` and ``label_y``, see
    :mod:`onmanifold.plot.views`.

    Attributes:
        x_shape: shape of one unknown, without the batch.
        y_shape: shape of one measurement, without the batch.
        linear: whether ``A`` is linear in ``x``.
    """

    @property
    def x_shape(self) -> Shape: ...
    @property
    def y_shape(self) -> Shape: ...
    @property
    def linear(self) -> bool: ...

    def A(self, x: Tensor) -> Tensor:
        """Map ``(B, *x_shape)`` to ``(B, *y_shape)``."""
        ...

    def A_jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Derivative at ``x`` applied to tangents ``v`` of shape ``(B, *x_shape)``."""
        ...

    def A_vjp(self, x: Tensor, u: Tensor) -> Tensor:
        """Adjoint of the derivative at ``x`` applied to ``u`` of shape ``(B, *y_shape)``."""
        ...


# What `as_operator` takes: the protocol, a callable, or another library's operator.
type OperatorLike = ForwardOperator | Callable[[Tensor], Tensor] | Any


class Linearization(Protocol):
    """An operator's value and derivative at one batch of points ``x``.

    Both maps take ``T`` directions a point at once, so that one expensive set-up (a FEM
    factorization) serves all of them.
    """

    @property
    def y(self) -> Tensor:
        """``A(x)``, shape ``(B, *y_shape)``."""
        ...

    def jvp(self, v: Tensor) -> Tensor:
        """Map tangents ``(B, T, *x_shape)`` to ``(B, T, *y_shape)``."""
        ...

    def vjp(self, u: Tensor) -> Tensor:
        """Map cotangents ``(B, T, *y_shape)`` to ``(B, T, *x_shape)``."""
        ...

    def select(self, rows: Tensor) -> Linearization:
        """The same for the points ``x[rows]``; ``rows`` is a mask or an index."""
        ...


@dataclass(frozen=True)
class PointwiseLinearization:
    """The linearization of an operator that has nothing to share between tangents."""

    operator: ForwardOperator
    x: Tensor
    y: Tensor

    def jvp(self, v: Tensor) -> Tensor:
        return self._each_direction(self.operator.A_jvp, v)

    def vjp(self, u: Tensor) -> Tensor:
        return self._each_direction(self.operator.A_vjp, u)

    def _each_direction(self, apply: Callable[[Tensor, Tensor], Tensor], v: Tensor) -> Tensor:
        if self.operator.linear:  # the derivative does not depend on x: all directions, one batch
            flat = v.flatten(0, 1)
            x = self.x[:1].expand(len(flat), *self.x.shape[1:])
            result = apply(x, flat)
            return result.reshape(*v.shape[:2], *result.shape[1:])
        return torch.stack([apply(self.x, v[:, t]) for t in range(v.shape[1])], dim=1)

    def select(self, rows: Tensor) -> PointwiseLinearization:
        return PointwiseLinearization(self.operator, self.x[rows], self.y[rows])


def linearize(operator: ForwardOperator, x: Tensor) -> Linearization:
    """Linearize ``operator`` at ``x`` of shape ``(B, *x_shape)``.

    Uses the operator's own ``linearize(x)`` where it has one.
    """
    own = getattr(operator, "linearize", None)
    if own is not None:
        return cast(Linearization, own(x))
    return PointwiseLinearization(operator, x, operator.A(x))


class Autodiff:
    """Mixin that derives ``A_jvp`` and ``A_vjp`` of an ``A`` made of torch operations.

    ``A`` must treat the members of a batch independently, as every operator does. Where it uses an
    operation without a forward derivative, two backward passes give it.

    Attributes:
        constant: whether the values do not depend on ``x``. Anything else without a derivative is refused.

    Example:
        >>> import torch
        >>> from onmanifold import Autodiff
        >>> class Square(Autodiff):
        ...     x_shape, y_shape, linear = (3,), (3,), False
        ...     def A(self, x):
        ...         return x**2
        >>> Square().A_jvp(torch.ones(1, 3), torch.ones(1, 3))
        tensor([[2., 2., 2.]])
    """

    linear: bool
    constant: bool = False

    def A(self, x: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has to define A(x)")

    def A_jvp(self, x: Tensor, v: Tensor) -> Tensor:
        return directional_derivative(self.A, x, v)

    def A_vjp(self, x: Tensor, u: Tensor) -> Tensor:
        return vjp(self.A, x, u)


class Linear:
    """Mixin that derives ``A_jvp`` and ``A_vjp`` of a linear ``A`` from it and its ``A_adjoint``.

    Example:
        >>> import torch
        >>> from onmanifold import Linear
        >>> class Differences(Linear):
        ...     x_shape, y_shape = (3,), (2,)
        ...     def A(self, x):
        ...         return x.diff(dim=1)
        ...     def A_adjoint(self, u):
        ...         return -torch.nn.functional.pad(u, (1, 1)).diff(dim=1)
        >>> Differences().A_vjp(torch.ones(1, 3), torch.tensor([[1.0, 2.0]]))
        tensor([[-1., -1.,  2.]])
    """

    linear = True

    def A(self, x: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has to define A(x)")

    def A_adjoint(self, u: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has to define A_adjoint(u)")

    def A_jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """``A(v)``, for tangents ``(B, *x_shape)``: the operator is linear."""
        return self.A(v)

    def A_vjp(self, x: Tensor, u: Tensor) -> Tensor:
        """``A_adjoint(u)``, for ``(B, *y_shape)``."""
        return self.A_adjoint(u)


class CallableOperator(Autodiff):
    """A bare callable ``(B, *x_shape) -> (B, *y_shape)`` as an operator."""

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        x_shape: Shape,
        example: Tensor,
        constant: bool = False,
    ) -> None:
        self.function = function
        self.x_shape = x_shape
        self.constant = constant
        y = self.A(example)
        if not isinstance(y, Tensor) or y.ndim < 1 or len(y) != len(example):
            got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise InputError(
                f"the forward function has to map a batch {tuple(example.shape)} to a batch of the "
                f"same length, it returned {got}"
            )
        self.y_shape: Shape = tuple(y.shape[1:])
        self.linear = False  # nothing tells; nonlinear is always right

    def A(self, x: Tensor) -> Tensor:
        with evaluation(self.function):
            return self.function(x)


def as_operator(
    operator: OperatorLike,
    x_shape: Shape | None = None,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    constant: bool = False,
) -> ForwardOperator:
    """Make a :class:`ForwardOperator` of ``operator``.

    Args:
        operator: an object with the protocol's members (returned as it is); a callable made of
            torch operations that maps ``(B, *x_shape)`` to ``(B, *y_shape)`` (a network is called in
            evaluation mode); a matrix ``(m, n)``, as
            tensor, numpy array or scipy sparse matrix; a linear operator of scipy or pylops; a
            deepinv ``Physics``.
        x_shape: shape of one unknown; needed for a callable, and where ``(n,)`` is not meant.
        dtype: dtype in which a callable is tried once, to learn ``y_shape``, and of a matrix.
        device: device for that trial.
        constant: whether a callable's values do not depend on x.

    Raises:
        TypeError: if it is none of these, or lacks a part of the protocol.
        ValueError: if a callable comes without ``x_shape`` or does not return a batch, or if
            ``x_shape`` has another number of entries than a matrix has columns.

    Example:
        >>> op = as_operator(lambda x: x.flatten(1).cumsum(1), x_shape=(2, 2))
        >>> op.y_shape
        (4,)
    """
    members = ("A", "A_jvp", "A_vjp", "x_shape", "y_shape", "linear")
    missing = [name for name in members if not hasattr(operator, name)]
    if not missing:
        return cast(ForwardOperator, operator)
    for adapt in _adapters(operator):
        adapted = adapt(operator, x_shape, dtype=dtype, device=device)
        if adapted is not None:
            return adapted
    if len(missing) < len(members) and hasattr(operator, "A"):
        raise InputTypeError(
            f"{type(operator).__name__} is not a forward operator: it lacks {', '.join(missing)}. "
            "Inherit from onmanifold.Autodiff to get A_jvp and A_vjp from A."
        )
    if not callable(operator):
        raise InputTypeError(
            f"expected a forward operator or a callable, got {type(operator).__name__}"
        )
    if x_shape is None:
        raise InputError("a callable says nothing of its input: pass x_shape")
    shape = check_shape(x_shape, "x_shape")
    example = torch.zeros((1, *shape), dtype=dtype, device=device)
    return CallableOperator(operator, shape, example, constant)


def _adapters(foreign: object) -> Iterator[Callable[..., ForwardOperator | None]]:
    """The functions that may make an operator of another library's object.

    An adapter's name is the package that defines the object's class, or one that it inherits from; that
    package has been imported already. It returns ``None`` for what is no operator of its library.
    """
    known = plugins(ADAPTERS)
    packages = [cls.__module__.partition(".")[0] for cls in type(foreign).__mro__]
    for package in dict.fromkeys(packages):
        if package in known:
            yield known[package].load()


def simulate(
    operator: ForwardOperator,
    x: Tensor,
    std: float | Tensor = 0.0,
    generator: torch.Generator | int | None = None,
) -> Tensor:
    """Simulate measurements ``A(x) + std * noise`` with standard normal noise.

    Args:
        operator: the forward operator.
        x: unknowns, shape ``(B, *x_shape)``.
        std: standard deviation of the noise, a number or a tensor that broadcasts to ``y_shape``.
        generator: a seed or a ``torch.Generator``.

    Returns:
        Measurements, shape ``(B, *y_shape)``.

    Example:
        >>> op = as_operator(lambda x: 2 * x, x_shape=(3,))
        >>> simulate(op, torch.ones(1, 3))
        tensor([[2., 2., 2.]])
    """
    check_batch(x, operator.x_shape, "x")
    y = operator.A(x)
    source = as_generator(generator, y.device)
    return y + std * torch.randn(y.shape, generator=source, dtype=y.dtype, device=y.device)
