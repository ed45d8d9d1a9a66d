"""A user's function as a fidelity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, cast

import torch
from torch import Tensor

from onmanifold.checks import check_field
from onmanifold.errors import InputError, InputTypeError
from onmanifold.fidelity.independent import (
    Gaussian,
    bind_mask,
    optional_mask,
    present_tangents,
    select_rows,
)
from onmanifold.fidelity.protocol import Fidelity

Phi = Callable[[Tensor, Tensor], Tensor]

_REQUIRED = ("bind", "select", "value", "gradient", "curvature", "expected")


@dataclass(frozen=True, eq=False)
class FunctionFidelity:
    """Any function Phi(p, y) made of torch operations; ``solve`` takes the bare function, too.

    Its derivatives come from autograd; it has to be differentiable twice almost everywhere, and need not
    be convex. A negative log-likelihood gives maximum likelihood. Its mean under the noise is not known:
    ``expected`` and ``deviation`` are NaN, and ``Discrepancy`` never stops.

    Args:
        phi: maps predictions and measurements, two ``(B, *y_shape)``, to ``(B,)``; for any number B of
            rows, each by itself.
        mask: boolean, True where an entry was measured; broadcasts to ``y_shape``, or is
            ``(B, *y_shape)``. ``phi`` gets 1 in both its arguments where nothing was measured: that
            changes no sum of differences, but a mean or a correlation counts these entries.

    Raises:
        TypeError: if ``phi`` cannot be called or (on use) is not made of torch operations, or ``mask`` is
            not a boolean tensor.
        ValueError: (on use) if ``phi`` returns another shape than ``(B,)``, or the mask's does not fit.

    Example:
        >>> import torch
        >>> def relative(p, y):
        ...     return 50 * (p / y).log().square().sum(1)
        >>> fidelity = FunctionFidelity(relative)
        >>> fidelity.gradient(torch.tensor([[1.0, 2.0]]), torch.ones(1, 2))
        tensor([[ 0.0000, 34.6574]])
    """

    indefinite: ClassVar[bool] = True

    phi: Phi
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        if isinstance(self.phi, type) or not callable(self.phi):
            raise InputTypeError(
                "FunctionFidelity: phi has to be a function of prediction and measurement, got "
                f"{self.phi!r}"
            )
        check_field(self, "mask", optional_mask)

    def bind(self, measurement: Tensor) -> FunctionFidelity:
        bound = replace(self, mask=bind_mask(self.mask, measurement, "FunctionFidelity: mask"))
        with torch.enable_grad():
            value = bound.value(measurement.detach().clone().requires_grad_(), measurement)
        batch, y_shape = len(measurement), tuple(measurement.shape)
        if not isinstance(value, Tensor) or tuple(value.shape) != (batch,):
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise InputError(
                f"FunctionFidelity: phi has to map prediction and measurement, both {y_shape}, to one "
                f"number for each of the {batch} measurements, shape ({batch},); it returned {got}"
            )
        if not value.requires_grad:
            raise InputTypeError(
                "FunctionFidelity: phi has to be made of torch operations, but its value says nothing "
                "of how it depends on the prediction (does it use numpy, item() or detach()?)"
            )
        return bound

    def select(self, rows: Tensor) -> FunctionFidelity:
        return self if self.mask is None else replace(self, mask=select_rows(self.mask, rows))

    def value(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        if self.mask is None:
            return self.phi(prediction, measurement)
        return self.phi(*(torch.where(self.mask, t, 1.0) for t in (prediction, measurement)))

    def gradient(self, prediction: Tensor, measurement: Tensor) -> Tensor:
        with torch.enable_grad():
            p = prediction.detach().requires_grad_()
            return _derivative(self.value(p, measurement).sum(), p).detach()

    def curvature(self, prediction: Tensor, measurement: Tensor, tangents: Tensor) -> Tensor:
        """The second derivative itself; it may have negative eigenvalues, see ``indefinite``."""
        tangents = present_tangents(self.mask, tangents)
        with torch.enable_grad():
            p = prediction.detach().requires_grad_()
            slope = _derivative(self.value(p, measurement).sum(), p)
            # The second derivative is symmetric: the gradient of slope . t is its product with t.
            bent = [_derivative((slope * t).sum(), p) for t in tangents.unbind(1)]
        return torch.stack(bent, dim=1).detach()

    def expected(self, measurement: Tensor) -> Tensor:
        """Unknown: NaN, shape ``(B,)``."""
        return measurement.new_full((len(measurement),), torch.nan)

    def deviation(self, measurement: Tensor) -> Tensor:
        """Unknown: NaN, shape ``(B,)``."""
        return self.expected(measurement)


def _derivative(value: Tensor, p: Tensor) -> Tensor:
    """The gradient of a number in ``p``, which can be differentiated again."""
    if not value.requires_grad:
        return torch.zeros_like(p)
    return torch.autograd.grad(value, p, create_graph=True, materialize_grads=True)[0]


def as_fidelity(fidelity: Fidelity | Phi | None) -> Fidelity:
    """Make a :class:`Fidelity` of ``fidelity``.

    Args:
        fidelity: an object with the protocol's members (returned as it is), a function of prediction and
            measurement, or ``None`` for least squares.

    Raises:
        TypeError: it is none of these, or lacks a part of the protocol.

    Example:
        >>> type(as_fidelity(lambda p, y: (p - y).abs().sum(1))).__name__
        'FunctionFidelity'
    """
    if fidelity is None:
        return Gaussian()
    missing = [name for name in _REQUIRED if not hasattr(fidelity, name)]
    if isinstance(fidelity, type) or (len(missing) == len(_REQUIRED) and not callable(fidelity)):
        got = repr(fidelity) if isinstance(fidelity, type) else type(fidelity).__name__
        raise InputTypeError(f"fidelity has to be one such as Gaussian(std), got {got}")
    if not missing:
        return cast(Fidelity, fidelity)
    if len(missing) < len(_REQUIRED):
        raise InputTypeError(
            f"{type(fidelity).__name__} is not a fidelity: it lacks {', '.join(missing)}"
        )
    return FunctionFidelity(cast(Phi, fidelity))
