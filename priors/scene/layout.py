"""How a scene's coordinates are laid out: objects, their blocks of coordinates, and their masks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import comb, lgamma, log

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, map_coordinates
from torch import Tensor

from onmanifold.checks import check_count, check_number
from onmanifold.errors import InputError
from onmanifold.prior import ManifoldPrior, Point, pad_to
from onmanifold.priors.scene.arrangement import Arrangement
from onmanifold.priors.scene.placement import REACH, Placement, Window

MOST_CHARTS = 10_000
Objects = list[tuple[int, Tensor]]
"""Objects, each its kind and its block of coordinates ``(3 + d,)``."""


class SceneCharts(ManifoldPrior):
    """The charts of a scene, and what their coordinates mean: lists of objects, and their masks."""

    log_weights: Tensor

    def __init__(
        self,
        outlines: ManifoldPrior,
        kinds: int = 1,
        size: int = 96,
        arrangement: Arrangement | None = None,
        edge: float = 1.0,
    ) -> None:
        super().__init__()
        self.outlines, self.kinds = outlines, check_count(kinds, "Scene: kinds")
        self.size, self.edge = check_count(size, "Scene: size"), check_number(edge, "Scene: edge")
        kinds, size, edge = self.kinds, self.size, self.edge
        self.arrangement = arrangement or Arrangement()
        self.placement = Placement(outlines.x_shape[-1], size, edge)
        self.most = len(self.arrangement.counts) - 1  # number of objects at most
        number = comb(self.most + kinds, kinds)
        if number > MOST_CHARTS:
            raise InputError(
                f"Scene: up to {self.most} objects of {kinds} kinds make {number} charts, more than "
                f"{MOST_CHARTS}"
            )
        counts = [c for c in product(range(self.most + 1), repeat=kinds) if sum(c) <= self.most]
        # number of objects of each kind, a tuple a chart
        self.counts = tuple(sorted(counts, key=lambda c: (sum(c), c)))
        self.block = 3 + outlines.dim  # number of coordinates of an object
        self.x_shape, self.dim = (kinds, size, size), self.most * self.block
        self.num_charts = len(self.counts)
        self.chart_dims = tuple(self.block * sum(c) for c in self.counts)
        self.register_buffer("log_weights", torch.tensor(self._weights()), persistent=False)

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

    @property
    def block_box(self) -> Tensor:
        """Half-widths of the latent box of an object's coordinates, ``(3 + d,)``."""
        code = torch.as_tensor(self.outlines.box, dtype=self.outlines.dtype)
        code = code.expand(self.outlines.dim)
        return torch.cat([code.new_tensor([1.0, 1.0, 3.0]), code])

    # Lists of objects -----------------------------------------------------------------------------

    def chart(self, counts: Sequence[int]) -> int:
        """The chart of so many objects of each kind."""
        return self.counts.index(tuple(counts))

    def kinds_of(self, chart: int) -> list[int]:
        """The kind of each object of a chart."""
        return [kind for kind, count in enumerate(self.counts[chart]) for _ in range(count)]

    def objects(self, z: Tensor, chart: int) -> Objects:
        """The objects of a point ``(dim,)``."""
        blocks = z.split(self.block)
        return list(zip(self.kinds_of(chart), blocks, strict=False))

    def points(self, lists: Sequence[Objects]) -> Point:
        """The points that lists of objects stand for."""
        charts, rows = [], []
        for objects in lists:
            ordered = sorted(objects, key=lambda o: o[0])
            charts.append(
                self.chart([sum(k == kind for k, _ in objects) for kind in range(self.kinds)])
            )
            rows.append(torch.cat([self.new_block()[:0], *(block for _, block in ordered)]))
        z = torch.stack([pad_to(row[None], self.dim)[0] for row in rows])
        return Point(torch.tensor(charts, device=z.device), z)

    def new_block(self, x: float = 0.0, y: float = 0.0, t: float | Tensor = 0.0) -> Tensor:
        """Coordinates of an object with the outline of code 0: its centre, its size coordinate."""
        block = torch.zeros(self.block, dtype=self.outlines.dtype, device=self.outlines.device)
        block[0], block[1], block[2] = x, y, t
        return block

    # Masks ----------------------------------------------------------------------------------------

    def masks(self, blocks: Tensor) -> Tensor:
        """Soft masks ``(..., size, size)`` of objects ``(..., 3 + d)``."""
        flat = blocks.reshape(-1, self.block)
        outline = self.outlines.decode_chart(flat[:, 3:], 0).squeeze(1)
        masks = self.placement(outline, flat[:, :2], self.arrangement.size(flat[:, 2]))
        return masks.view(*blocks.shape[:-1], self.size, self.size)

    def mask_columns(self, blocks: Tensor) -> tuple[Tensor, list[tuple[Window, Tensor]]]:
        """Masks of objects ``(N, 3 + d)``, ``(N, size, size)``, and their derivatives.

        These are 0 beyond windows: for each window of n objects ``(n, 3 + d, w, w)``.
        """
        outline = self.outlines.columns_chart(blocks[:, 3:], 0).squeeze(2)
        size, masks = self.arrangement.size(blocks[:, 2]), None
        slopes = []
        for window in self.placement.windows(blocks[:, :2], size):
            own = window.members
            placed = self.placement.with_derivatives(
                outline[own], blocks[own, :2], size[own], window
            )
            placed[:, 3] *= self.arrangement.spread * size[own, None, None]
            if masks is None:
                masks = placed.new_zeros(len(blocks), self.size, self.size)
            masks[(own[:, None, None], *window.where())] = placed[:, 0]
            slopes.append((window, placed[:, 1:]))
        assert masks is not None
        return masks, slopes

    @torch.no_grad()
    def fit(self, region: np.ndarray) -> Tensor:
        """Coordinates ``(3 + d,)`` of the object that fills a region of a square image."""
        pixel = 2 / len(region)
        row, column = np.nonzero(region)
        centre = np.array([(column.mean() + 0.5) * pixel - 1, 1 - (row.mean() + 0.5) * pixel])
        radius = max(np.sqrt(len(row) / np.pi) * pixel, 0.5 * pixel)
        side = self.outlines.x_shape[-1]
        around = ((np.arange(side) + 0.5) * (2 * REACH / side) - REACH) * radius
        rows = (1 - (centre[1] - around)) / pixel - 0.5
        columns = (centre[0] + around + 1) / pixel - 0.5
        # distances are asked for around the region alone, also beyond the image
        top, left = _first(rows, row), _first(columns, column)
        region = _window(region, (top, _last(rows, row)), (left, _last(columns, column)))
        distance = distance_transform_edt(region) - distance_transform_edt(~region)
        distance = (distance - 0.5 * np.sign(distance)) * pixel
        grid = np.stack(np.meshgrid(rows - top, columns - left, indexing="ij"))
        level = map_coordinates(distance, grid, order=1, mode="nearest") / radius
        box = self.block_box
        code = self.outlines.encode_chart(torch.from_numpy(np.tanh(level)).to(box)[None, None], 0)[
            0
        ]
        t = self.arrangement.size_coordinate(torch.tensor([radius]))
        block = torch.cat([torch.from_numpy(centre).to(code), t.to(code), code])
        return torch.clamp(block, -box, box)


def _first(places: np.ndarray, pixels: np.ndarray) -> int:
    """The first pixel of a window around places and pixels, with a margin."""
    return int(np.floor(min(places.min(), pixels.min()))) - 1


def _last(places: np.ndarray, pixels: np.ndarray) -> int:
    """The end of that window."""
    return int(np.floor(max(places.max(), pixels.max()))) + 3


def _window(region: np.ndarray, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
    """The pixels of a mask from the first to before the last; where it has none they are empty."""
    spans = list(zip((rows, columns), region.shape, strict=True))
    inner = tuple(slice(max(first, 0), min(last, n)) for (first, last), n in spans)
    beyond = [(max(-first, 0), max(last - n, 0)) for (first, last), n in spans]
    return np.pad(region[inner], beyond)
