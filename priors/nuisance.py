"""What priors share that add unknowns to the pictures of another: further normal coordinates."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from math import log, pi
from typing import Any, Self, cast

import torch
from torch import Tensor

from onmanifold.checks import as_generator, check_batch
from onmanifold.geometry import locate
from onmanifold.plugins import built, kind_of
from onmanifold.prior import ManifoldPrior, Point, ReachedByJumps, pad_to


class WithNuisance(ManifoldPrior):
    """A prior's pictures, changed by q parameters, which become the last q coordinates of each chart.

    The parameters are independent and normal; a coordinate counts standard deviations. A subclass says how
    they change a picture (:meth:`join`) and how they are read off it (:meth:`split`, an exact inverse).

    Args:
        prior: the manifold of pictures.
        std: standard deviation of each parameter, ``(q,)``.
        x_shape: shape of the changed pictures.
    """

    half_widths: Tensor
    reach = 4.0  # a parameter stays within four standard deviations

    def __init__(
        self, prior: ManifoldPrior, std: Sequence[float], x_shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.prior, self.deviations = prior, tuple(std)
        self.x_shape, self.dim, self.num_charts = x_shape, prior.dim + len(std), prior.num_charts
        self.chart_dims = tuple(d + len(std) for d in prior.chart_dims)
        inner = torch.as_tensor(prior.box, dtype=prior.dtype).cpu()
        if inner.ndim == 2 or len(set(prior.chart_dims)) > 1:  # each chart has a box of its own
            box = pad_to(inner.expand(prior.num_charts, prior.dim), self.dim)
            box = torch.where(self._added(torch.arange(prior.num_charts)), self.reach, box)
        else:
            box = torch.cat([inner.expand(prior.dim), inner.new_full((len(std),), self.reach)])
        self.register_buffer("half_widths", box)
        self.train(prior.training)

    @abstractmethod
    def join(self, picture: Tensor, parameters: Tensor) -> Tensor:
        """Pictures of the inner prior and parameters ``(B, q)`` to ``(B, *x_shape)``, linear in both."""

    @abstractmethod
    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of :meth:`join`."""

    @property
    def box(self) -> Tensor:  # type: ignore[override]
        """Half-widths of the latent box, ``(d + q,)``, or ``(K, d + q)`` where charts differ."""
        return self.half_widths

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
        picture = torch.cat([inner, inner.new_zeros(len(z), q, *self.prior.x_shape)], dim=1)
        parameters = torch.cat([z.new_zeros(1 + d, q), torch.diag(scale)]).expand(len(z), -1, -1)
        parameters = torch.cat([(scale * z[:, d:]).unsqueeze(1), parameters[:, 1:]], dim=1)
        joined: Tensor = self.join(picture.flatten(0, 1), parameters.flatten(0, 1))
        columns: Tensor = joined.unflatten(0, (len(z), 1 + d + q))
        return columns

    def encode_chart(self, x: Tensor, chart: int) -> Tensor:
        picture, parameters = self.split(x)
        z = self.prior.encode_chart(picture, chart)
        return torch.cat([z, parameters / z.new_tensor(self.deviations)], dim=1)

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
        source = as_generator(generator)
        point = self.prior.sample(n, source)
        drawn = torch.randn((n, len(self.deviations)), generator=source)
        drawn = drawn.clamp(-self.reach, self.reach).to(point.z)
        z = pad_to(point.z, self.dim)
        return Point(point.chart, z.masked_scatter(self._added(point.chart), drawn))

    @torch.no_grad()
    def recognize(self, x: Tensor) -> Point:
        """Where the inner prior locates the picture."""
        check_batch(x, self.x_shape, "x")
        picture, parameters = self.split(x)
        found = locate(self.prior, picture)
        return self.clamp(self._with(found, parameters / parameters.new_tensor(self.deviations)))

    @property
    def jumps(self) -> Callable[[Point], dict[str, Point]]:
        """Those of the inner prior, where it is reached by jumps; the parameters stay."""
        inner_jumps = cast(ReachedByJumps, self.prior).jumps  # AttributeError where it is not

        def jumps(point: Point) -> dict[str, Point]:
            added = self._added(point.chart)
            kept = point.z[added][None]
            return {
                name: self._with(points, kept.expand(len(points), -1))
                for name, points in inner_jumps(self._inner(point, added)).items()
            }

        return jumps

    def _with(self, points: Point, parameters: Tensor) -> Point:
        z, added = pad_to(points.z, self.dim), self._added(points.chart)
        return Point(points.chart, z.masked_scatter(added, parameters))

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
