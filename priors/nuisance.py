"""Nuisance parameters: unknowns beside the image that are estimated along with it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from math import isfinite, log, pi
from typing import Any, Self, cast

import torch
from torch import Tensor

from onmanifold.checks import as_generator, check_batch, check_count, check_number
from onmanifold.errors import InputError
from onmanifold.geometry import locate
from onmanifold.plugins import built, kind_of
from onmanifold.prior import ManifoldPrior, Point, ReachedByJumps, pad_to
from onmanifold.priors.atlas.chart import corners
from onmanifold.tensors import as_mask, real_array


class NuisanceParameters(ManifoldPrior):
    """A prior's images, changed by q parameters, which become the last q coordinates of each chart.

    The parameters are independent and normal with mean 0; a coordinate counts standard deviations. A
    subclass says how they change an image (:meth:`join`) and how they are read off it (:meth:`split`, an
    exact inverse).

    Args:
        prior: the manifold of images.
        std: standard deviation of each parameter, ``(q,)``.
        x_shape: shape of the changed images.
    """

    reach = 4.0  # a parameter stays within four standard deviations

    def __init__(
        self, prior: ManifoldPrior, std: Sequence[float], x_shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.prior, self.deviations = prior, tuple(std)
        self.x_shape, self.dim, self.num_charts = x_shape, prior.dim + len(std), prior.num_charts
        self.chart_dims = tuple(d + len(std) for d in prior.chart_dims)
        self.train(prior.training)

    @abstractmethod
    def join(self, image: Tensor, parameters: Tensor) -> Tensor:
        """Images of the inner prior and parameters ``(B, q)`` to ``(B, *x_shape)``, linear in both."""

    @abstractmethod
    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of :meth:`join`."""

    @property
    def box(self) -> Tensor:  # type: ignore[override]
        """Half-widths of the latent box, ``(d + q,)``, or ``(K, d + q)`` where charts differ."""
        inner, q = torch.as_tensor(self.prior.box, dtype=self.dtype), len(self.deviations)
        if inner.ndim < 2 and len(set(self.prior.chart_dims)) == 1:
            return torch.cat([inner.expand(self.prior.dim), inner.new_full((q,), self.reach)])
        box = pad_to(inner.expand(self.num_charts, self.prior.dim), self.dim)
        added = self._added(torch.arange(self.num_charts, device=inner.device))
        return torch.where(added, self.reach, box)

    @property
    def inverse_error(self) -> float:  # type: ignore[override]
        """That of the inner prior."""
        return self.prior.inverse_error

    @property
    def locate_misses(self) -> float:
        """That of the inner prior, 0 where it states none."""
        return float(getattr(self.prior, "locate_misses", 0.0))

    def _added(self, chart: Tensor) -> Tensor:
        """Which coordinates of charts ``(B,)`` are parameters, ``(B, d + q)``, boolean."""
        return self.active(chart) & ~pad_to(self.prior.active(chart), self.dim)

    def decode_chart(self, z: Tensor, chart: int) -> Tensor:
        d = self.prior.chart_dims[chart]
        return self.join(
            self.prior.decode_chart(z[:, :d], chart), z.new_tensor(self.deviations) * z[:, d:]
        )

    def columns_chart(self, z: Tensor, chart: int) -> Tensor:
        d, q = self.prior.chart_dims[chart], len(self.deviations)
        inner = self.prior.columns_chart(z[:, :d], chart)
        scale = z.new_tensor(self.deviations)
        image = torch.cat([inner, inner.new_zeros(len(z), q, *self.prior.x_shape)], dim=1)
        parameters = torch.cat([z.new_zeros(1 + d, q), torch.diag(scale)]).expand(len(z), -1, -1)
        parameters = torch.cat([(scale * z[:, d:]).unsqueeze(1), parameters[:, 1:]], dim=1)
        joined: Tensor = self.join(image.flatten(0, 1), parameters.flatten(0, 1))
        columns: Tensor = joined.unflatten(0, (len(z), 1 + d + q))
        return columns

    def encode_chart(self, x: Tensor, chart: int) -> Tensor:
        image, parameters = self.split(x)
        z = self.prior.encode_chart(image, chart)
        return torch.cat([z, parameters / z.new_tensor(self.deviations)], dim=1)

    def encode_near(self, x: Tensor, point: Point) -> Point:
        """As the inner prior does it."""
        image, parameters = self.split(x)
        inner = self.prior.encode_near(image, self._inner(point, self._added(point.chart)))
        return self.extend(inner, parameters / parameters.new_tensor(self.deviations))

    def log_prob_chart(self, z: Tensor, chart: int) -> Tensor:
        d = self.prior.chart_dims[chart]
        normal = -0.5 * (z[:, d:].square() + log(2 * pi)).sum(1)
        return self.prior.log_prob_chart(z[:, :d], chart) + normal

    def log_prob(self, point: Point) -> Tensor:
        """All charts at once, as the inner prior has it."""
        added = self._added(point.chart)
        normal = torch.where(added, -0.5 * (point.z.square() + log(2 * pi)), 0.0).sum(1)
        return self.prior.log_prob(self._inner(point, added)) + normal

    def _inner(self, point: Point, added: Tensor) -> Point:
        """The inner prior's point: without the parameters."""
        return point.at(torch.where(added, 0.0, point.z)[:, : self.prior.dim])

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Point:
        n, source = check_count(n, "n"), as_generator(generator)
        point = self.prior.sample(n, source)
        drawn = torch.randn((n, len(self.deviations)), generator=source)
        return self.extend(point, drawn.clamp(-self.reach, self.reach).to(point.z))

    @torch.no_grad()
    def recognize(self, x: Tensor) -> Point:
        """Where the inner prior locates the image."""
        check_batch(x, self.x_shape, "x")
        image, parameters = self.split(x)
        found = locate(self.prior, image)
        return self.clamp(self.extend(found, parameters / parameters.new_tensor(self.deviations)))

    @property
    def jumps(self) -> Callable[[Point], dict[str, Point]]:
        """Those of the inner prior, where it is reached by jumps; the parameters stay."""
        inner_jumps = cast(ReachedByJumps, self.prior).jumps  # AttributeError where it is not

        def jumps(point: Point) -> dict[str, Point]:
            added = self._added(point.chart)
            kept = point.z[added][None]
            return {
                name: self.extend(points, kept.expand(len(points), -1))
                for name, points in inner_jumps(self._inner(point, added)).items()
            }

        return jumps

    def extend(self, point: Point, parameters: Tensor | None = None) -> Point:
        """Points of the inner prior, with parameters in standard deviations ``(B, q)``, by default 0."""
        z, added = pad_to(point.z, self.dim), self._added(point.chart)
        return point.at(z if parameters is None else z.masked_scatter(added, parameters))

    def responsibilities(self, x: Tensor) -> Tensor:
        return self.prior.responsibilities(self.split(x)[0])

    def config(self) -> dict[str, Any]:
        return {"prior": {"kind": kind_of(type(self.prior)), "config": self.prior.config()}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build what :meth:`config` describes, with the inner prior's random weights."""
        inner = built(config["prior"]["kind"], config["prior"]["config"])
        build: Any = cls  # a subclass takes the prior and std
        return cast(Self, build(inner, config["std"]))


def without_nuisance(prior: ManifoldPrior) -> ManifoldPrior:
    """The prior of images alone: what :class:`NuisanceParameters` were added to, if they were."""
    while isinstance(prior, NuisanceParameters):
        prior = prior.prior
    return prior


class BackgroundOffset(NuisanceParameters):
    r"""A prior's images, each plus an unknown constant: :math:`D'(z, c) = D(z) + c\,\sigma`.

    For measurements whose background is not known exactly, as the conductivity of the water in a
    tank. The last latent coordinate ``c`` is standard normal and is estimated along with the image.

    Args:
        prior: the manifold of images on a known background.
        std: standard deviation :math:`\sigma` of the constant, in units of the image.
        known: pixels whose mean is the same in every image of the prior, boolean, ``x_shape``; the
            encoder reads the constant there. Default: the corners around the disk that fills the image.

    Raises:
        ValueError: if ``std`` is not positive and finite, or ``known`` has another shape or is empty.

    Example:
        >>> from onmanifold import load_prior
        >>> prior = BackgroundOffset(load_prior("two-balls"), std=0.05)
        >>> prior.dim - load_prior("two-balls").dim
        1
    """

    known: Tensor

    def __init__(self, prior: ManifoldPrior, std: float, known: Tensor | None = None) -> None:
        std = check_number(std, "BackgroundOffset: std")
        known = (
            corners(prior.x_shape) if known is None else as_mask(known, "BackgroundOffset: known")
        )
        if known.shape != prior.x_shape or known.dtype != torch.bool or not known.any():
            raise InputError(
                f"BackgroundOffset: known has to be a boolean {prior.x_shape} with a true entry, got "
                f"{known.dtype} {tuple(known.shape)}"
            )
        super().__init__(prior, (std,), prior.x_shape)
        self.std = std
        self.register_buffer("known", known)

    def join(self, image: Tensor, parameters: Tensor) -> Tensor:
        return image + parameters.reshape(-1, *[1] * len(self.x_shape))

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # the constant is what the known pixels show above what the prior itself shows there
        origin = self.prior.decode_chart(x.new_zeros(1, self.prior.chart_dims[0]), 0)
        constant = (x[:, self.known] - origin[:, self.known]).mean(dim=1)
        return x - constant.reshape(-1, *[1] * len(self.x_shape)), constant[:, None]

    def config(self) -> dict[str, Any]:
        return super().config() | {"std": self.std}


class MeasurementParameters(NuisanceParameters):
    r"""A prior's images, each with q unknown parameters as further, constant channels.

    For operators that take such channels, as ``EIT`` does with ``Labels(free=...)``: what the parameters
    stand for is estimated along with the image. They are independent and normal with mean 0; the last q
    latent coordinates hold them in units of their standard deviations.

    Args:
        prior: the manifold of images, of ``(C, H, W)`` (or ``(C, D, H, W)``).
        std: standard deviation of each parameter.

    Raises:
        ValueError: images without channels, or a standard deviation that is not positive.

    Example:
        >>> from onmanifold import load_prior
        >>> prior = MeasurementParameters(load_prior("two-balls"), std=(0.3, 0.3))
        >>> prior.x_shape
        (3, 128, 128)
    """

    def __init__(self, prior: ManifoldPrior, std: Sequence[float]) -> None:
        if len(prior.x_shape) < 2:
            raise InputError(
                f"MeasurementParameters: expected a prior of images (C, H, W), got x_shape {prior.x_shape}"
            )
        std = tuple(real_array(std, "MeasurementParameters: std").flatten().tolist())
        bad = [s for s in std if not (isfinite(s) and s > 0)]
        if bad or not std:
            raise InputError(
                "MeasurementParameters: std has to hold a positive number for each parameter, got "
                f"{bad[0] if bad else 'none'}"
            )
        super().__init__(prior, std, (prior.x_shape[0] + len(std), *prior.x_shape[1:]))
        self.std = std

    def join(self, image: Tensor, parameters: Tensor) -> Tensor:
        constant = parameters.reshape(*parameters.shape, *[1] * (image.ndim - 2))
        return torch.cat([image, constant.expand(-1, -1, *image.shape[2:])], dim=1)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        c = self.prior.x_shape[0]
        return x[:, :c], x[:, c:].flatten(2).mean(dim=2)

    def config(self) -> dict[str, Any]:
        return super().config() | {"std": list(self.std)}
