"""A prior of pictures of several objects: an atlas with a chart for each number of objects of each kind."""

from __future__ import annotations

from dataclasses import asdict
from itertools import product
from math import lgamma, log
from typing import Any, Self

import torch
from torch import Tensor

from onmanifold.checks import as_generator, check_batch
from onmanifold.geometry import nearest
from onmanifold.plugins import built, kind_of
from onmanifold.prior import ManifoldPrior, Point, by_chart, pad_to
from onmanifold.priors.scene import moves
from onmanifold.priors.scene.arrangement import Arrangement
from onmanifold.priors.scene.placement import Placement
from onmanifold.priors.scene.recognition import chart_of, recognize
from onmanifold.priors.scene.search import regrouped

_REFINED = 8  # Gauss-Newton steps of the encoder
_LOCATED = 50  # before objects are regrouped


class Scene(ManifoldPrior):
    """Pictures of up to N separate objects of C kinds, ``(C, size, size)``: a soft mask of each kind.

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

    def __init__(
        self,
        outlines: ManifoldPrior,
        kinds: int = 1,
        size: int = 96,
        arrangement: Arrangement | None = None,
        edge: float = 1.0,
    ) -> None:
        super().__init__()
        self.outlines, self.kinds, self.size, self.edge = outlines, kinds, size, edge
        self.arrangement = arrangement or Arrangement()
        self.most = most = len(self.arrangement.counts) - 1
        counts = [c for c in product(range(most + 1), repeat=kinds) if sum(c) <= most]
        self.counts: tuple[tuple[int, ...], ...] = tuple(sorted(counts, key=lambda c: (sum(c), c)))
        self.block = 3 + outlines.dim
        self.x_shape, self.dim = (kinds, size, size), most * self.block
        self.num_charts = len(self.counts)
        self.chart_dims = tuple(self.block * sum(c) for c in self.counts)
        self.inverse_error = 0.05
        self.locate_misses = 0.2  # where objects touch
        self._place = Placement(outlines.x_shape[-1], size, edge)
        code = torch.as_tensor(outlines.box, dtype=outlines.dtype).expand(outlines.dim)
        block = torch.cat([torch.tensor([1.0, 1.0, 3.0]).to(code), code])
        self.register_buffer("half_widths", block.repeat(most))
        self.register_buffer("log_weights", torch.tensor(self._weights()), persistent=False)

    half_widths: Tensor
    log_weights: Tensor

    @property
    def box(self) -> Tensor:  # type: ignore[override]
        """Half-widths of the latent box, ``(d,)``."""
        return self.half_widths

    def _weights(self) -> list[float]:
        """Log of each chart's weight, over what the energy leaves, times the number of orders."""
        total = sum(self.arrangement.counts)
        partition = [self.arrangement.log_partition(n) for n in range(len(self.arrangement.counts))]
        found = []
        for counts in self.counts:
            n = sum(counts)
            frequency = log(max(self.arrangement.counts[n], 1e-300) / total)
            # each object's kind is chosen evenly: n! / prod c! assignments; prod c! orders of the list
            shared = lgamma(n + 1) - n * log(self.kinds)
            found.append(frequency + shared - partition[n])
        return found

    # One chart ------------------------------------------------------------------------------------

    def masks(self, z: Tensor, chart: int) -> Tensor:
        """The soft mask of each object by itself, ``(B, n, size, size)``."""
        blocks = z.unflatten(1, (sum(self.counts[chart]), self.block))
        placed: Tensor = self._mask(blocks.flatten(0, 1)).unflatten(0, blocks.shape[:2])
        return placed

    def _mask(self, blocks: Tensor) -> Tensor:
        """Soft masks ``(N, size, size)`` of objects ``(N, 3 + d)``."""
        outline = self.outlines.decode_chart(blocks[:, 3:], 0).squeeze(1)
        return self._place(outline, blocks[:, :2], self.arrangement.size(blocks[:, 2]))

    def _mask_columns(self, blocks: Tensor) -> Tensor:
        """The same and their derivatives by the blocks' coordinates, ``(N, 1 + 3 + d, size, size)``."""
        outline = self.outlines.columns_chart(blocks[:, 3:], 0).squeeze(2)
        size = self.arrangement.size(blocks[:, 2])
        placed = self._place.with_derivatives(outline, blocks[:, :2], size)
        scale = torch.ones_like(placed[:, :, :1, :1])
        scale[:, 3, 0, 0] = self.arrangement.spread * size
        return placed * scale

    def decode_chart(self, z: Tensor, chart: int) -> Tensor:
        counts = self.counts[chart]
        if sum(counts) == 0:
            return z.new_zeros(len(z), *self.x_shape)
        absent = [(1 - m).prod(1) for m in self.masks(z, chart).split(counts, dim=1)]
        return _covered(torch.stack([1 - a for a in absent], dim=1))

    def columns_chart(self, z: Tensor, chart: int) -> Tensor:
        """An object's coordinates move its own mask alone: each mask is differentiated by its own block."""
        counts, n = self.counts[chart], sum(self.counts[chart])
        if n == 0:
            return z.new_zeros(len(z), 1, *self.x_shape)
        blocks = z.unflatten(1, (n, self.block)).flatten(0, 1)
        both = self._mask_columns(blocks).unflatten(0, (len(z), n))
        absent, slopes = 1 - both[:, :, 0], both[:, :, 1:]
        kinds = [kind for kind, count in enumerate(counts) for _ in range(count)]
        columns = z.new_zeros(len(z), 1 + n * self.block, *self.x_shape)
        for kind in range(self.kinds):
            # what is shown of a kind: not all its objects absent, those of later kinds absent
            own = [i for i in range(n) if kinds[i] == kind]
            later = [i for i in range(n) if kinds[i] > kind]
            hidden, free = absent[:, own].prod(1), absent[:, later].prod(1)
            columns[:, 0, kind] = (1 - hidden) * free
            for i in own + later:
                rest = absent[:, [j for j in (own if i in own else later) if j != i]].prod(1)
                factor = rest * free if i in own else -rest * (1 - hidden)
                rows = slice(1 + i * self.block, 1 + (i + 1) * self.block)
                columns[:, rows, kind] = slopes[:, i] * factor[:, None]
        return columns

    @torch.no_grad()
    def encode_chart(self, x: Tensor, chart: int) -> Tensor:
        """Objects read off the picture, then moved to where its masks are nearest."""
        start = Point(torch.full((len(x),), chart, device=x.device), self._read(x, chart))
        return nearest(self, start, x, _REFINED).z[:, : self.chart_dims[chart]]

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
        source = as_generator(generator)
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
        """Where else to look from one point: lists of objects by the move that makes them (``moves.py``)."""
        lists = moves.jumps(self, point.z[0], int(point.chart[0]))
        return {move: moves.points_of(self, some) for move, some in lists.items() if some}

    @torch.no_grad()
    def recognize(self, x: Tensor) -> Point:
        """The regions of pictures as objects, moved to where masks are nearest; regrouped if they touch."""
        return regrouped(self, nearest(self, self.read_regions(x), x, _LOCATED), x)

    def read_regions(self, x: Tensor) -> Point:
        """The regions of pictures ``(B, C, size, size)`` as objects, at a glance: to start from."""
        check_batch(x, self.x_shape, "x")
        chart = chart_of(self, x)
        return Point(chart, by_chart(self._read, x, chart, self.num_charts))

    def _read(self, x: Tensor, chart: int) -> Tensor:
        return pad_to(recognize(self, x, chart), self.dim)

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


def _covered(pictures: Tensor) -> Tensor:
    """What is seen of each kind's mask ``(B, C, size, size)``: later kinds lie on top."""
    shown = [pictures[:, -1]]
    free = torch.ones_like(pictures[:, 0])
    for kind in range(pictures.shape[1] - 2, -1, -1):
        free = free * (1 - pictures[:, kind + 1])
        shown.insert(0, pictures[:, kind] * free)
    return torch.stack(shown, dim=1)
