"""A prior of images of several objects: an atlas with a chart for each number of objects of each kind."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Self

import torch
from torch import Tensor

from onmanifold.checks import as_generator, check_batch, check_count
from onmanifold.geometry import nearest
from onmanifold.plugins import built, kind_of
from onmanifold.prior import Point, pad_to
from onmanifold.priors.scene.arrangement import Arrangement
from onmanifold.priors.scene.layout import SceneCharts
from onmanifold.priors.scene.moves import jumps
from onmanifold.priors.scene.placement import Window
from onmanifold.priors.scene.recognition import objects_in, regrouped, segment

_REFINED = 8  # Gauss-Newton steps of the encoder
_LOCATED = 50  # before objects are regrouped


class Scene(SceneCharts):
    """Images of up to N separate objects of C kinds, ``(C, size, size)``: a soft mask of each kind.

    A chart is a number of objects of each kind. In it a point is a list of objects, kind after kind, each a
    block of coordinates: its centre (2), its size (1), its code on a manifold of outlines (d). Charts
    do not overlap; a descent goes from one to another by jumps (:func:`onmanifold.posterior.explore`).

    Masks of different kinds are disjoint: where two objects are, that of the later kind is shown.

    The density is that of unordered scenes: a chart's is that of the list, times the number of orders.

    Args:
        outlines: manifold of single outlines, as :class:`Placement` takes them.
        kinds: C.
        size: pixels along each side of the unit disk's bounding square.
        arrangement: density of places and sizes.
        edge: width of the masks' edges, pixels.

    Example:
        >>> from onmanifold.priors.scene import RadialOutlines
        >>> scene = Scene(RadialOutlines(), kinds=2, size=48)
        >>> scene.num_charts, scene.counts[:4]
        (21, ((0, 0), (0, 1), (1, 0), (0, 2)))
    """

    inverse_error = 0.05
    locate_misses = 0.3  # where objects touch, and outlines with arms and notches

    @property
    def box(self) -> Tensor:  # type: ignore[override]
        """Half-widths of the latent box, ``(d,)``."""
        return self.block_box.repeat(self.most)

    # One chart ------------------------------------------------------------------------------------

    def decode_chart(self, z: Tensor, chart: int) -> Tensor:
        counts = self.counts[chart]
        if sum(counts) == 0:
            return z.new_zeros(len(z), *self.x_shape)
        masks = self.masks(z.unflatten(1, (sum(counts), self.block)))
        absent = torch.stack([(1 - own).prod(1) for own in masks.split(counts, dim=1)], dim=1)
        free = [absent[:, kind + 1 :].prod(1) for kind in range(self.kinds)]  # of later kinds
        return (1 - absent) * torch.stack(free, dim=1)

    def columns_chart(self, z: Tensor, chart: int) -> Tensor:
        """An object's coordinates move its own mask alone: each mask is differentiated by its own block."""
        kinds = self.kinds_of(chart)
        n = len(kinds)
        if n == 0:
            return z.new_zeros(len(z), 1, *self.x_shape)
        masks, slopes = self.mask_columns(z.unflatten(1, (n, self.block)).flatten(0, 1))
        absent = 1 - masks.unflatten(0, (len(z), n))
        columns = z.new_zeros(len(z), 1 + n * self.block, *self.x_shape)
        values, by_block = columns[:, 0], columns[:, 1:].unflatten(1, (n, self.block))
        for kind in range(self.kinds):
            # a kind is visible where not all its objects are absent and those of later kinds are
            own = [i for i in range(n) if kinds[i] == kind]
            later = [i for i in range(n) if kinds[i] > kind]
            hidden, free = absent[:, own].prod(1), absent[:, later].prod(1)
            values[:, kind] = (1 - hidden) * free
            effect = torch.zeros_like(absent)
            effect[:, own] = _others(absent[:, own]) * free[:, None]
            effect[:, later] = _others(absent[:, later]) * (hidden - 1)[:, None]
            _add_windows(by_block[:, :, :, kind], slopes, effect)
        return columns

    @torch.no_grad()
    def encode_chart(self, x: Tensor, chart: int) -> Tensor:
        """Objects read off the image, then moved to where its masks are nearest."""
        z = pad_to(segment(self, x, chart), self.dim)
        start = Point(torch.full((len(x),), chart, device=x.device), z)
        return nearest(self, start, x, _REFINED).z[:, : self.chart_dims[chart]]

    @torch.no_grad()
    def encode_near(self, x: Tensor, point: Point) -> Point:
        """Without reading objects off the image, which would give them in another order."""
        return nearest(self, point, x, _REFINED)

    def log_prob_chart(self, z: Tensor, chart: int) -> Tensor:
        blocks = z.unflatten(1, (sum(self.counts[chart]), self.block))
        present = torch.ones_like(blocks[..., 0], dtype=torch.bool)
        return self._log_prob(blocks, present) + self.log_weights[chart].to(z)

    def log_prob(self, point: Point) -> Tensor:
        """All charts at once: the density is that of a list of objects, in whatever chart they are."""
        present = self.active(point.chart).unflatten(1, (self.most, self.block))[..., 0]
        blocks = point.z.unflatten(1, (self.most, self.block))
        return self._log_prob(blocks, present) + self.log_weights[point.chart].to(point.z)

    def _log_prob(self, blocks: Tensor, present: Tensor) -> Tensor:
        """Of lists of objects ``(B, n, 3 + d)``, those that are there ``(B, n)``, in no order."""
        code = self.outlines.log_prob_chart(blocks[..., 3:].flatten(0, 1), 0)
        code = torch.where(present, code.unflatten(0, present.shape), 0.0).sum(1)
        total: Tensor = code + self.arrangement.log_prob(blocks[..., :2], blocks[..., 2], present)
        return total

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Point:
        n, source = check_count(n, "n"), as_generator(generator)
        number = torch.multinomial(
            torch.tensor(self.arrangement.counts, dtype=torch.float64),
            n,
            replacement=True,
            generator=source,
        )
        kind = torch.randint(0, self.kinds, (n, self.most), generator=source)
        z = torch.zeros(n, self.dim, dtype=self.dtype)
        chart = torch.zeros(n, dtype=torch.long)
        for count in set(number.tolist()):
            rows = (number == count).nonzero().squeeze(1)
            own = kind[rows, :count]
            held = torch.stack([(own == k).sum(1) for k in range(self.kinds)], dim=1)
            chart[rows] = torch.tensor([self.counts.index(tuple(c)) for c in held.tolist()])
            if count:
                centre, t = self.arrangement.sample(len(rows), count, source)
                code = self.outlines.sample(len(rows) * count, source).z.unflatten(0, (-1, count))
                # an encoder sees no order: kind after kind, the largest object first
                order = (own - 0.1 * t).argsort(dim=1)
                t = t.gather(1, order)
                centre = centre.gather(1, order[..., None].expand(-1, -1, 2))
                blocks = torch.cat([centre.to(code), t[..., None].to(code), code], dim=2)
                z[rows, : count * self.block] = blocks.flatten(1)
        return Point(chart.to(self.device), z.to(self.device))

    def jumps(self, point: Point) -> dict[str, Point]:
        """Candidates to descend from, for one point, by the move that makes them (``moves.py``)."""
        lists = jumps(self, point.z[0], int(point.chart[0]))
        return {move: self.points(some) for move, some in lists.items() if some}

    @torch.no_grad()
    def recognize(self, x: Tensor) -> Point:
        """The regions of images as objects, moved to where masks are nearest; regrouped if they touch."""
        start = nearest(self, self.segment(x), x, _LOCATED)
        return regrouped(self, start, x)

    def segment(self, x: Tensor) -> Point:
        """The connected regions of images ``(B, C, size, size)`` as objects: quick initial points."""
        check_batch(x, self.x_shape, "x")
        found = self.points(objects_in(self, x))
        return Point(found.chart.to(x.device), found.z.to(x))

    def responsibilities(self, x: Tensor) -> Tensor:
        return x.new_full((len(x), self.num_charts), 1 / self.num_charts)

    def config(self) -> dict[str, Any]:
        return {
            "outlines": {"kind": kind_of(type(self.outlines)), "config": self.outlines.config()},
            "kinds": self.kinds,
            "size": self.size,
            "edge": self.edge,
            "arrangement": asdict(self.arrangement),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build what :meth:`config` describes, with random weights of the outlines."""
        inner = built(config["outlines"]["kind"], config["outlines"]["config"])
        arrangement = Arrangement(**config["arrangement"])
        return cls(inner, config["kinds"], config["size"], arrangement, config["edge"])


def _others(absent: Tensor) -> Tensor:
    """For each of n objects, where all others are absent: ``(B, n, size, size)`` to the same."""
    ones = torch.ones_like(absent[:, :1])
    before = torch.cat([ones, absent[:, :-1]], dim=1).cumprod(1)
    after = torch.cat([ones, absent.flip(1)[:, :-1]], dim=1).cumprod(1).flip(1)
    return before * after


def _add_windows(columns: Tensor, slopes: list[tuple[Window, Tensor]], effect: Tensor) -> None:
    """Derivatives of masks in windows, times their effect ``(B, n, S, S)``, into ``(B, n, d, S, S)``."""
    n = effect.shape[1]
    for window, own in slopes:
        squares = zip(window.members.tolist(), window.rows, window.columns, own, strict=True)
        for i, rows, across, slope in squares:
            b, k = divmod(i, n)
            place = (
                slice(int(rows[0]), int(rows[-1]) + 1),
                slice(int(across[0]), int(across[-1]) + 1),
            )
            columns[(b, k, slice(None), *place)] = slope * effect[(b, k, *place)]
