"""Maps from pixel values to conductivity."""

from __future__ import annotations

import math
import typing
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from onmanifold.checks import check_field, check_number
from onmanifold.errors import InputError, InputTypeError
from onmanifold.operators.eit.arguments import check_flag

MATERIALS = ("resistive", "background", "conductive")


class ConductivityMap(typing.Protocol):
    """What :class:`EIT` asks of a map from pixel values to conductivity: torch operations, entry by entry.

    A map with further unknowns says how many ``channels`` its ``x`` has: it then takes
    ``(..., channels, P)`` for P pixels; the conductivity is ``(..., P)``.
    """

    def __call__(self, x: Tensor) -> Tensor:
        """Conductivity, S/m, at pixel values ``x``."""
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
        _require_numbers(self, "offset", "slope")
        if self.slope == 0:
            raise InputError("Affine needs a slope other than zero")

    def __call__(self, x: Tensor) -> Tensor:
        return self.offset + self.slope * x


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
        _require_positive(self, "background")
        _require_numbers(self, "rate")
        if self.rate == 0:
            raise InputError("Exponential needs a rate other than zero")

    def __call__(self, x: Tensor) -> Tensor:
        return self.background * torch.exp(self.rate * x)


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
            image to model a background drift.

    Example:
        >>> Saturating(0.8)(torch.tensor([-1.0, 0.0, 0.5]))
        tensor([0.0040, 0.8000, 1.5842])
    """

    background: float = 1.0
    resistive: float = 0.995
    conductive: float = 0.99
    reach: float = 1.0

    def __post_init__(self) -> None:
        _require_positive(self, "background", "reach")
        _require_numbers(self, "resistive", "conductive")
        for name in ("resistive", "conductive"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"Saturating takes {name} in [0, 1), got {getattr(self, name)}")
        if self.resistive < self.conductive / 2:
            raise InputError(
                f"Saturating takes resistive >= conductive / 2, got {self.resistive} and "
                f"{self.conductive}"
            )

    def __call__(self, x: Tensor) -> Tensor:
        t = (x / self.reach).clamp(-1, 1)
        a, b = self.resistive, self.conductive
        return self.background * torch.where(t < 0, 1 + b * t - (a - b) * t**2, 1 / (1 - b * t))


@dataclass(frozen=True)
class Labels:
    """Three materials, -1 resistive, 0 background, 1 conductive; their conductivities may be free.

    Between the labels the conductivity's logarithm follows a cubic in each half, monotone and with a
    continuous derivative; beyond -1 and 1 it stays.

    The conductivities named in ``free`` are estimated along with the image: ``x`` then has a further
    channel for each, in the order of ``free``, a constant image of the value theta, and the material
    conducts ``exp(theta)`` times what it is said to. ``MeasurementParameters`` adds them to a prior.

    Attributes:
        resistive: S/m.
        background: S/m; between the two others.
        conductive: S/m.
        free: some of "resistive", "background", "conductive".

    Example:
        >>> labels = Labels(0.5, 1.0, 2.0, free=("conductive",))
        >>> image = torch.tensor([[-1.0, 0.0, 1.0], [0.1, 0.1, 0.1]])
        >>> labels(image)
        tensor([0.5000, 1.0000, 2.2103])
    """

    resistive: float = 0.01
    background: float = 1.0
    conductive: float = 100.0
    free: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_positive(self, *MATERIALS)
        free = (self.free,) if isinstance(self.free, str) else self.free
        if not isinstance(free, Iterable):
            raise InputTypeError(f"Labels takes names as free, got {free!r}")
        object.__setattr__(self, "free", tuple(free))
        if not self.resistive < self.background < self.conductive:
            raise InputError(
                f"Labels takes resistive < background < conductive, got {self.resistive}, "
                f"{self.background}, {self.conductive}"
            )
        unknown = [name for name in self.free if name not in MATERIALS]
        if unknown or len(set(self.free)) < len(self.free):
            raise InputError(
                f"Labels takes some of {', '.join(MATERIALS)} as free, each once; got {self.free}"
            )

    @property
    def channels(self) -> int:
        """Number of channels of ``x``: the image and a parameter for each free conductivity."""
        return 1 + len(self.free)

    def __call__(self, x: Tensor) -> Tensor:
        image, (low, middle, high) = self._parts(x)
        down, up = middle - low, high - middle
        # The slope at 0 is the harmonic mean of both sides' (Fritsch and Butland): monotone cubics,
        # and no flat spot at the background, where descents start. At -1 and 1 it is zero.
        rises = (down > 0) & (up > 0)
        slope = torch.where(rises, 2 * down * up / torch.where(rises, down + up, 1.0), 0.0)
        right = image >= 0
        t = torch.where(right, image, -image).clamp(max=1.0)  # abs() has no derivative at 0
        step = t**2 * (3 - 2 * t)  # from 0 to 1, flat at 0 and 1
        bump = t * (1 - t) ** 2  # slope 1 at 0, flat at 1
        rise = step * torch.where(right, up, down) + bump * slope
        return (middle + torch.where(right, rise, -rise)).exp()

    def _parts(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The image, and the logarithm of each material's conductivity."""
        if self.free and (x.ndim < 2 or x.shape[-2] != self.channels):
            raise InputError(
                f"Labels with free {', '.join(self.free)} takes (..., {self.channels}, P): the image and "
                f"a channel for each; got {tuple(x.shape)}"
            )
        image = x[..., 0, :] if self.free else x
        levels = [torch.full_like(image, math.log(getattr(self, name))) for name in MATERIALS]
        for j, name in enumerate(self.free):
            k = MATERIALS.index(name)
            levels[k] = levels[k] + x[..., 1 + j, :]
        return image, levels


@dataclass(frozen=True)
class Inclusions:
    """Resistive and conductive objects in water, each kind a soft mask, and a background drift.

    ``x`` has three channels: p and q in [0, 1], how far a pixel belongs to resistive and to conductive
    objects, and t, the background drift, a constant image. Then

        s = background * exp(t) * (1 - a p) / (1 - b q),    a = resistive, b = conductive:

    conductivity is linear in p, resistivity in q, about as pixels that objects cover in part act on the
    currents around them. ``Scene`` makes the masks, ``MeasurementParameters(scene, [std])`` adds the drift.

    Where contrasts are not known, ``free=True``: two further channels, constant images u and v, are
    estimated along. The logarithm of the objects' conductivity, relative to water, is ``exp(u)`` and
    ``exp(v)`` times what a and b say: ``(1 - a) ** exp(u)`` for ``1 - a``, so that no sign changes.

    Attributes:
        background: conductivity of the water, S/m.
        resistive: a in [0, 1): objects conduct ``1 - a`` times as well as water.
        conductive: b in [0, 1): objects conduct ``1 / (1 - b)`` times as well as water.
        free: whether the contrasts are unknown.

    Example:
        >>> Inclusions(0.8)(torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]))
        tensor([0.8000, 0.0040])
        >>> twice = torch.tensor([[1.0], [0.0], [0.0], [math.log(2.0)], [0.0]])
        >>> Inclusions(1.0, 0.5, 0.5, free=True)(twice)
        tensor([0.2500])
    """

    background: float = 1.0
    resistive: float = 0.995
    conductive: float = 0.99
    free: bool = False

    masks = 2

    def __post_init__(self) -> None:
        _require_positive(self, "background")
        _require_numbers(self, "resistive", "conductive")
        check_field(self, "free", check_flag)
        for name in ("resistive", "conductive"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"Inclusions takes {name} in [0, 1), got {getattr(self, name)}")

    @property
    def channels(self) -> int:
        """Number of channels of ``x``: two masks, the drift, and a parameter for each free contrast."""
        return 5 if self.free else 3

    def __call__(self, x: Tensor) -> Tensor:
        p, q, t, *contrasts = x.unbind(-2)
        a, b = (torch.full_like(t, k) for k in (self.resistive, self.conductive))
        if self.free:
            a, b = (1 - (1 - k) ** w.exp() for k, w in zip((a, b), contrasts, strict=True))
        water = self.background * t.exp()
        return water * (1 - a * p) / (1 - b * q)


def channels_of(conductivity: ConductivityMap) -> int:
    """How many channels a map's ``x`` has: 1 unless it says otherwise."""
    return int(getattr(conductivity, "channels", 1))


def masks_of(conductivity: ConductivityMap) -> int:
    """How many of the channels are masks, resistive and conductive, that make one image; 0 for none."""
    return int(getattr(conductivity, "masks", 0))


def _require_numbers(options: object, *names: str) -> None:
    for name in names:
        check_field(options, name, check_number, low=-math.inf)


def _require_positive(options: object, *names: str) -> None:
    _require_numbers(options, *names)
    for name in names:
        if not getattr(options, name) > 0:
            raise InputError(f"{name} has to be positive, got {getattr(options, name)}")
