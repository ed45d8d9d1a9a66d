"""deepinv: its physics as operators, our operators as physics, a learned manifold as a prior.

deepinv's images have a channel axis. An unknown or measurement of shape ``(H, W)`` is ``(1, H, W)`` there.
Every other shape is the same on both sides.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from onmanifold.autodiff import directional_derivative, vjp
from onmanifold.checks import check_shape
from onmanifold.errors import InputError, InputTypeError, MissingPackage
from onmanifold.geometry import locate, nearest
from onmanifold.operator import ForwardOperator, OperatorLike
from onmanifold.operator import as_operator as as_forward_operator
from onmanifold.prior import ManifoldPrior

try:
    from deepinv.optim import Prior
    from deepinv.physics import LinearPhysics, Physics
except ImportError as error:
    raise MissingPackage(f"this needs deepinv ({error}): install onmanifold[interfaces]") from error

from onmanifold.interfaces.deepinv_values import Recorded, Unknowns, ways, with_channel  # noqa: E402

_REFINEMENTS = 5  # steps from the encoder's point to the nearest point of the manifold


# Physics as operators ----------------------------------------------------------------------------


class PhysicsOperator(nn.Module):
    """The noiseless part of a deepinv physics, its ``A``, as an operator.

    Attributes:
        physics: the physics.
        x_shape: shape of one unknown.
        y_shape: shape of one measurement: complex ones have real and imaginary part in front, ``(2, ...)``,
            and several are flat, one after the other.
        linear: whether it is a ``LinearPhysics``.
        own_adjoint: whether the physics' adjoint is used. If there is none, or it fails in this dtype, or is
            not the adjoint of ``A``, torch derives it.
    """

    def __init__(
        self, physics: Any, x_shape: tuple[int, ...], example: Tensor, unknowns: Unknowns
    ) -> None:
        super().__init__()
        self.physics = physics
        self.x_shape = x_shape
        self.linear = isinstance(physics, LinearPhysics)
        self._unknowns = unknowns
        self._recorded = Recorded(physics.A(unknowns.there(example)), type(physics).__name__)
        self.y_shape = self._recorded.y_shape
        self.own_adjoint = _has_adjoint(physics) and self._adjoint_fits(example)

    def A(self, x: Tensor) -> Tensor:
        """``(B, *x_shape)`` to ``(B, *y_shape)``, without noise."""
        return self._recorded.pack(self.physics.A(self._unknowns.there(x)))

    def A_jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """The derivative: ``A(v)`` of a linear physics, its ``A_jvp`` if it has one, else torch's."""
        if self.linear:
            return self.A(v)
        own = getattr(self.physics, "A_jvp", None)  # the base class has none
        if own is None:
            return directional_derivative(self.A, x, v)
        return self._recorded.pack(own(self._unknowns.there(x), self._unknowns.there(v)))

    def A_vjp(self, x: Tensor, u: Tensor) -> Tensor:
        """The adjoint: the physics' own ``A_adjoint`` or ``A_vjp`` if it has one that fits, else torch's."""
        if not self.own_adjoint:  # deepinv would derive one, in float32
            return vjp(self.A, x, u)
        return self._own_vjp(x, u)

    def as_measurement(self, y: Any) -> Any:
        """What the physics returns as ``(B, *y_shape)``; anything else stays as it is."""
        return self._recorded.as_measurement(y)

    def _own_vjp(self, x: Tensor, u: Tensor) -> Tensor:
        there, back = self._unknowns
        raw = self._recorded.unpack(u)
        # a scalar product of real and imaginary parts: the adjoint of a linear physics has no need of x
        result = self.physics.A_adjoint(raw) if self.linear else self.physics.A_vjp(there(x), raw)
        return back(result).reshape(x.shape)

    @torch.no_grad()
    def _adjoint_fits(self, example: Tensor) -> bool:
        """Whether the physics' own adjoint runs and passes the dot test, at one random point."""
        generator = torch.Generator().manual_seed(0)

        def random(shape: tuple[int, ...]) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(example)

        x, v, u = random(example.shape), random(example.shape), random((1, *self.y_shape))
        try:
            forward, backward = self.A_jvp(x, v), self._own_vjp(x, u)
        except (RuntimeError, TypeError, AttributeError):
            return False
        if backward.dtype != example.dtype:
            return False
        left, right = ((a.double() * b.double()).sum() for a, b in ((forward, u), (v, backward)))
        size = max(forward.double().norm() * u.double().norm(), v.double().norm() * backward.norm())
        return bool((left - right).abs() <= 100 * torch.finfo(example.dtype).eps * size)


def _has_adjoint(physics: Any) -> bool:
    """Whether a physics has an adjoint of its own, not one that deepinv would derive."""
    kind = type(physics)
    own = kind.A_vjp not in (Physics.A_vjp, LinearPhysics.A_vjp)
    if not isinstance(physics, LinearPhysics):
        return own
    given = getattr(physics, "A_adj", None) is not None
    return own or given or kind.A_adjoint is not LinearPhysics.A_adjoint


def as_operator(
    physics: Any,
    x_shape: tuple[int, ...] | None = None,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> PhysicsOperator | None:
    """A deepinv ``Physics`` as an operator, or ``None`` for any other object.

    A physics of complex images takes real ones, whose imaginary part is zero, and ``(2, H, W)``, real and
    imaginary part. Complex measurements, and lists of several, become real tensors; ``solve`` takes them as
    the physics returns them.

    Args:
        physics: any object.
        x_shape: shape of one unknown, ``(H, W)`` or with channels; default: the physics' ``img_size``.
        dtype: dtype of the evaluations that find ``y_shape`` and examine the adjoint.
        device: device of these evaluations.

    Raises:
        TypeError: the physics returns anything but real or complex tensors.
        ValueError: ``x_shape`` is missing, or the physics does not take it.

    Example:
        >>> import deepinv
        >>> as_operator(deepinv.physics.Denoising(), (8, 8)).y_shape
        (1, 8, 8)
        >>> as_operator(deepinv.physics.MRI(img_size=(2, 8, 8)), (1, 8, 8)).y_shape  # a real image
        (2, 8, 8)
    """
    if not isinstance(physics, Physics):
        return None
    name = type(physics).__name__
    x_shape = getattr(physics, "img_size", None) if x_shape is None else x_shape
    if x_shape is None:
        raise InputError(f"{name} says nothing of its input: pass x_shape")
    x_shape = check_shape(x_shape, "x_shape")
    example = torch.zeros((1, *x_shape), dtype=dtype, device=device)
    first: Exception | None = None
    for way in ways(physics, x_shape):
        try:
            return PhysicsOperator(physics, x_shape, example, way)
        except (RuntimeError, IndexError, AssertionError) as error:
            first = first or error
    raise InputError(
        f"{name} does not take a {example.dtype} batch {tuple(with_channel(example).shape)} on "
        f"{example.device} ({first}); if its own tensors are of another kind, physics.to(...)"
    ) from first


# Operators as physics ----------------------------------------------------------------------------


class OperatorPhysics(Physics):  # type: ignore[misc]
    """A forward operator as a deepinv physics; see :func:`as_physics`."""

    def __init__(self, operator: ForwardOperator, noise_model: Any = None, **options: Any) -> None:
        super().__init__(noise_model=noise_model, **options)
        self.operator = operator
        self.img_size = tuple(operator.x_shape)
        if len(self.img_size) == 2:
            self.img_size = (1, *self.img_size)

    def A(self, x: Tensor, **options: Any) -> Tensor:
        """Apply the operator to images ``(B, C, H, W)``; ``options`` are those of other physics."""
        return with_channel(self.operator.A(self._unknown(x)))

    def A_jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """The derivative at ``x`` applied to ``v``, both of shape ``(B, C, H, W)``."""
        return with_channel(self.operator.A_jvp(self._unknown(x), self._unknown(v)))

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """The adjoint of the derivative at ``x``, applied to measurements ``v``."""
        u = v.reshape(len(v), *self.operator.y_shape)
        return self.operator.A_vjp(self._unknown(x), u).reshape(x.shape)

    def _unknown(self, x: Tensor) -> Tensor:
        if tuple(x.shape[1:]) != self.img_size:
            expected = ", ".join(["B", *map(str, self.img_size)])
            raise InputError(f"x has shape {tuple(x.shape)}, expected ({expected})")
        return x.reshape(len(x), *self.operator.x_shape)


class LinearOperatorPhysics(OperatorPhysics, LinearPhysics):  # type: ignore[misc]
    """A linear operator as a deepinv ``LinearPhysics``; see :func:`as_physics`."""

    def A_adjoint(self, y: Tensor, **options: Any) -> Tensor:
        """The adjoint: measurements to images ``(B, C, H, W)``."""
        return self.A_vjp(y.new_zeros(len(y), *self.img_size), y)


_OPTIONS = ("sensor_model", "solver", "max_iter", "tol")
_LINEAR_OPTIONS = (*_OPTIONS, "implicit_backward_solver")


def as_physics(
    operator: OperatorLike,
    x_shape: tuple[int, ...] | None = None,
    noise_model: Any = None,
    **options: Any,
) -> OperatorPhysics:
    """An operator as a deepinv physics, a ``LinearPhysics`` if it is linear.

    Args:
        operator: anything that ``onmanifold.as_operator`` takes; its derivatives are used, not deepinv's.
        x_shape: shape of one unknown, if the operator does not know it.
        noise_model: such as ``deepinv.physics.GaussianNoise(0.1)``; none by default.
        options: of deepinv's physics: ``solver``, ``max_iter``, ``tol`` of its pseudoinverse,
            ``sensor_model``; for a linear operator also ``implicit_backward_solver``.

    Returns:
        The physics; ``.to(device)`` moves the operator if that is a torch module.

    Raises:
        TypeError: ``operator`` is none, or an option is unknown.

    Example:
        >>> import torch
        >>> from onmanifold.operators import Blur, gaussian_kernel
        >>> physics = as_physics(Blur(gaussian_kernel(5, std=1.0), (16, 16)))
        >>> physics.A_adjoint(torch.ones(2, 1, 16, 16)).shape
        torch.Size([2, 1, 16, 16])
    """
    adapted = as_forward_operator(operator, x_shape)
    known = _LINEAR_OPTIONS if adapted.linear else _OPTIONS
    unknown = ", ".join(sorted(set(options) - set(known)))
    if unknown:  # deepinv would ignore them
        raise InputTypeError(f"as_physics: unknown option {unknown}; known: {', '.join(known)}")
    kind = LinearOperatorPhysics if adapted.linear else OperatorPhysics
    return kind(adapted, noise_model, **options)


# Manifolds as priors -----------------------------------------------------------------------------


class ManifoldIndicator(Prior):  # type: ignore[misc]
    """The indicator function of a learned manifold; see :func:`as_deepinv_prior`."""

    def __init__(self, prior: ManifoldPrior) -> None:
        super().__init__()
        self.prior = prior

    @torch.no_grad()
    def prox(self, x: Tensor, *options: Any, **more: Any) -> Tensor:
        """Project images ``(B, C, H, W)`` onto the manifold, whatever the step length."""
        unknown = x.reshape(len(x), *self.prior.x_shape)
        # The encoder's point is close to the nearest one, but need not be it.
        point = nearest(self.prior, locate(self.prior, unknown), unknown, steps=_REFINEMENTS)
        return self.prior.decode(point).reshape(x.shape)


def as_deepinv_prior(prior: ManifoldPrior) -> ManifoldIndicator:
    """A learned manifold as a deepinv prior: 0 on it, infinite elsewhere; its ``prox`` is the projection.

    It is made for methods that call ``prox`` and nothing else, such as ``deepinv.optim.PGD``. Their iterates
    lie on the manifold. A manifold is not convex, so the result depends on the initial image.

    Args:
        prior: the manifold, of the dtype of the images.

    Raises:
        TypeError: ``prior`` is not a ``ManifoldPrior``.

    Example:
        >>> import torch
        >>> from onmanifold import load_prior
        >>> ring = as_deepinv_prior(load_prior("ring"))
        >>> ring.prox(torch.tensor([[3.0, 0.0]])).shape
        torch.Size([1, 2])
    """
    if not isinstance(prior, ManifoldPrior):
        raise InputTypeError(f"prior has to be a ManifoldPrior, got {type(prior).__name__}")
    return ManifoldIndicator(prior)
