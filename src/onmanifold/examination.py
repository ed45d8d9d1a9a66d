"""Operators examined once, before the first step, at points of the manifold.

Most operators are written by users. What goes wrong there ends in a wrong image without a word, such as
a derivative that is zero since it was cut: a descent takes that for convergence. The same is asked
of every operator, whichever method follows.
"""

from __future__ import annotations

import warnings

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
    middle = samples[:1] + 0.5 * v
    around = [middle + sign * step * v for step in _STEPS for sign in (1, -1)]
    try:
        y = _examine_values(operator, name, torch.cat([samples, *around]))
        _examine_graph(operator, name, middle)
        if bool(torch.isfinite(y).all()):
            derivative = operator.A_jvp(
                torch.cat([samples, middle]), v.repeat(3, *[1] * (v.ndim - 1))
            )
            _examine_derivative(operator, name, derivative, y)
    except OutsideDomain:  # what lies between two samples need not be a point of the manifold
        return


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
    some = [0, 2]  # whose mean is not the batch's
    once, again = (operator.A(x[some]).clone() for _ in range(2))
    for other, one, when in (
        (once, again, "when called again"),
        (once, y[some], "in another batch"),
    ):
        if not _close(other, one):
            raise InputError(
                f"{name} returns other values for the same x {when}: networks have to be in evaluation "
                "mode, network.eval(), noise is not part of A, and each member of a batch has to be treated "
                "by itself"
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


def _examine_derivative(
    operator: ForwardOperator, name: str, derivative: Tensor, y: Tensor
) -> None:
    """Compare the derivative along the way from one sample to the other with differences of values.

    Args:
        operator: A.
        name: what messages call it.
        derivative: at both samples and in the middle, ``(3, *y_shape)``.
        y: the values at both samples and at the points of the difference quotients.
    """
    rounding = 10 * torch.finfo(y.dtype).eps * y.abs().amax().double() * y[0].numel() ** 0.5
    whole = (y[1] - y[0]).double().norm()
    if not bool(derivative.any()) and whole > rounding and not getattr(operator, "constant", False):
        raise InputError(
            f"{name} has other values at other points, but its derivative is zero there: rounding, "
            "comparisons and thresholds have no derivative, and detach() takes it away"
        )
    coarse, fine = (
        (y[2 * i + 2] - y[2 * i + 3]).double() / (2 * step) for i, step in enumerate(_STEPS)
    )
    size, noise = torch.maximum(fine.norm(), coarse.norm()), rounding / _STEPS[-1]
    if size <= noise:  # too little changes here to tell
        return
    told = (fine - coarse).norm() <= _AGREE * size
    off = (derivative[2].double() - fine).norm()
    if told and off > _WRONG * size + noise:
        warnings.warn(
            f"the derivative of {name} differs from difference quotients by {off / size:.0%}: it is "
            "wrong, or part of it was cut, and a descent may end at the wrong x "
            "(onmanifold.testing.check_operator says more)",
            DerivativeWarning,
            stacklevel=2,
        )
