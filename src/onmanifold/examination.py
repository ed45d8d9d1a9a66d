"""Operators examined once, before the first step, at points of the manifold.

Most operators are written by users. What goes wrong there ends in a wrong image without a word, such as
a derivative that is zero since it was cut: a descent takes that for convergence. The same is asked
of every operator, whichever method follows.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from onmanifold.errors import InputError, InputTypeError
from onmanifold.operator import Autodiff, CallableOperator, ForwardOperator, OutsideDomain

_STEPS = (0.02, 0.01)  # of the difference quotients, in units of the distance of two samples
_DIFFERS = 1e-3  # relative change of A(x) that rounding does not explain
_AGREE = 0.1  # relative difference of two quotients that tell the same derivative
_WRONG = 0.3  # relative difference of the derivative from them that is worth a warning

_TORCH_ONLY = (
    "it has to be made of torch operations from x to y: no numpy, scipy, item(), detach() or no_grad() on "
    "the way. What is not gets an operator class with A, A_jvp and A_vjp of its own"
)


class DerivativeWarning(UserWarning):
    """An operator's derivative does not fit to its values."""


@dataclass(frozen=True)
class _Segment:
    """The middle ``x`` between two samples, ``(1, *x_shape)``, and the way ``v`` from one to the other."""

    x: Tensor
    v: Tensor

    def around(self) -> Tensor:
        """``x`` and the points of the difference quotients, ``(1 + 2 * steps, *x_shape)``."""
        moved = [self.x + sign * step * self.v for step in _STEPS for sign in (1, -1)]
        return torch.cat([self.x, *moved])


def examine(operator: ForwardOperator, samples: Tensor) -> None:
    """Raise or warn where ``operator`` would mislead a descent.

    An operator with a ``linearize`` of its own is taken at its word; its author has
    :func:`onmanifold.testing.check_operator`.

    Args:
        operator: what to examine.
        samples: two points of the manifold, ``(2, *x_shape)``.

    Raises:
        TypeError: values that are no real floating-point tensors in the dtype of x, a derivative that
            autograd cannot take.
        ValueError: values of another shape or on another device; values that change from call to call,
            or with the other members of the batch; a changed argument; a derivative that is zero though
            the values differ.

    Warns:
        DerivativeWarning: the derivative does not fit to difference quotients.

    Example:
        >>> import torch
        >>> from onmanifold import as_operator
        >>> examine(as_operator(lambda x: x.detach() ** 2, (3,)), torch.rand(2, 3))
        Traceback (most recent call last):
        onmanifold.errors.InputTypeError: the forward function <lambda> does not tell autograd how its ...
    """
    if hasattr(operator, "linearize"):
        return
    name = describe(operator)
    v = samples[1:] - samples[:1]
    v = v if bool(v.any()) else torch.ones_like(v)
    segment = _Segment(samples[:1] + 0.5 * v, v)
    try:
        y = _examine_values(operator, name, segment.around())
    except OutsideDomain:  # between two samples need not be a point of the manifold
        return
    _examine_graph(operator, name, segment.x)
    if bool(torch.isfinite(y).all()):
        _examine_derivative(operator, name, segment, y)


def describe(operator: ForwardOperator) -> str:
    """What messages call ``operator``."""
    if isinstance(operator, CallableOperator):
        function = operator.function
        return f"the forward function {getattr(function, '__name__', type(function).__name__)}"
    return f"the operator {type(operator).__name__}"


def check_values(y: object, x: Tensor, y_shape: tuple[int, ...], name: str) -> Tensor:
    """``y = A(x)`` if it is of ``y_shape``, in the dtype of ``x`` and on its device; else raise."""
    if not isinstance(y, Tensor):
        raise InputTypeError(f"{name} returned {type(y).__name__}, expected a torch.Tensor")
    if y.dtype != x.dtype:
        hint = (
            "stack real and imaginary part as real entries"
            if y.is_complex()
            else f"return y.to(x.dtype), or convert the prior, prior.to({y.dtype})"
            if y.is_floating_point()
            else "such values have no derivative"
        )
        raise InputTypeError(f"{name} returned {y.dtype} for x of {x.dtype}: {hint}")
    if y.device != x.device:
        raise InputError(f"{name} returned a tensor on {y.device} for x on {x.device}")
    if tuple(y.shape) != (len(x), *y_shape):
        raise InputError(
            f"{name} returned shape {tuple(y.shape)} for x of shape {tuple(x.shape)}, expected "
            f"{(len(x), *y_shape)}"
        )
    return y


def _examine_values(operator: ForwardOperator, name: str, x: Tensor) -> Tensor:
    """``A`` of the batch, after a look at what it does with batches and with its argument."""
    given = x.clone()
    y = check_values(operator.A(given), x, tuple(operator.y_shape), name)
    if not torch.equal(given, x):
        raise InputError(f"{name} changes its argument x: let it work on a copy, x.clone()")
    y = y.clone()
    alone = check_values(operator.A(x[:1].clone()), x[:1], tuple(operator.y_shape), name).clone()
    again = operator.A(x[:1].clone())
    for other, what in ((again, alone), (alone, y[:1])):
        if not _close(other, what):
            raise InputError(
                f"{name} returns other values for the same x "
                f"{'when it is called again' if what is alone else 'in another batch'}: networks have to be "
                "in evaluation mode, network.eval(), noise is not part of A, and each member of a batch "
                "has to be treated by itself"
            )
    return y


def _close(a: Tensor, b: Tensor) -> bool:
    a, b = a.nan_to_num(), b.nan_to_num()
    scale = torch.maximum(a.abs().max(), b.abs().max()) if a.numel() else a.new_zeros(())
    return bool(((a - b).abs() <= _DIFFERS * scale).all())


def _examine_graph(operator: ForwardOperator, name: str, x: Tensor) -> None:
    """Raise unless autograd sees how the values of an :class:`Autodiff` depend on ``x``."""
    if not isinstance(operator, Autodiff) or operator.constant:
        return
    with torch.enable_grad():
        try:
            y = operator.A(x.clone().requires_grad_())
        except RuntimeError as error:
            raise InputTypeError(
                f"{name} cannot be differentiated by autograd ({str(error).splitlines()[0]}): {_TORCH_ONLY}"
            ) from error
    if not y.requires_grad:
        raise InputTypeError(
            f"{name} does not tell autograd how its values depend on x: {_TORCH_ONLY}; values that truly do "
            "not depend on x are declared by constant=True"
        )


def _examine_derivative(operator: ForwardOperator, name: str, segment: _Segment, y: Tensor) -> None:
    """Compare the derivative along the segment with difference quotients."""
    derivative = operator.A_jvp(segment.x, segment.v)[0]
    change = [(y[2 * i + 1] - y[2 * i + 2]) / (2 * step) for i, step in enumerate(_STEPS)]
    coarse, fine = (c.double() for c in change)
    rounding = torch.finfo(y.dtype).eps * y.abs().amax().double() * y[0].numel() ** 0.5
    noise = 10 * rounding / _STEPS[-1]
    size = torch.maximum(fine.norm(), coarse.norm())
    if size <= noise:  # too little changes here to tell
        return
    if not bool(derivative.any()):
        if getattr(operator, "constant", False):
            return
        raise InputError(
            f"{name} has other values at other points, but its derivative is zero there: rounding, "
            "comparisons and thresholds have no derivative, and detach() takes it away"
        )
    told = (fine - coarse).norm() <= _AGREE * size
    off = (derivative.double() - fine).norm()
    if told and off > _WRONG * size + noise:
        warnings.warn(
            f"the derivative of {name} differs from difference quotients by {off / size:.0%}: it is "
            "wrong, or part of it was cut, and a descent may end at the wrong x "
            "(onmanifold.testing.check_operator says more)",
            DerivativeWarning,
            stacklevel=2,
        )
