"""Pairs from examples alone, by their graph of nearest neighbours.

Where no formula says how far apart two examples are and what lies between them, the examples themselves do: a
way from x to y that passes through a third example m close to the straight line is about as long as its two
edges, and m divides it as they do. Which examples are opposite neighbours of m follows from the inner
products of the edges. Distances of examples far apart are lengths of shortest paths in the graph.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from torch import Tensor

from onmanifold.checks import check_number
from onmanifold.errors import InputError
from onmanifold.priors.flat.pairs import LANDMARKS, Pairs
from onmanifold.priors.neighbours import check_different, nearest_neighbours

_CHUNK = 500  # examples that are handled at once


class GraphPairs:
    """Pairs of a finite set of examples.

    Lengths are Euclidean, in units of the examples' spread: the root mean square of their distances to
    their mean. For each example m and each of its ``k`` nearest neighbours x the pair's other end y is the
    neighbour of m that is most nearly opposite, the one with the smallest ``|x + y - 2 m|``. The pair is
    kept if ``|x - y|`` is at least ``straight`` times the length ``|x - m| + |m - y|``, and m lies in the
    middle third. Each way is found from both its ends, and counts twice.

    Args:
        x: the examples, ``(n, *x_shape)``.
        k: number of neighbours.
        eps: largest length of a way; None: no limit.
        straight: how straight ways have to be, between 0 and 1.

    Raises:
        ValueError: ``k`` is not below the number of examples, examples that occur twice, NaN, or no pair
            is short and straight enough.

    Example:
        >>> from onmanifold.priors.datasets import Sphere
        >>> x, _ = Sphere(noise=0.0).sample(500, torch.Generator().manual_seed(0))
        >>> pairs = GraphPairs(x, k=12).draw(100, torch.Generator().manual_seed(0))
        >>> between = pairs.between.norm(dim=1)  # on the sphere, unlike the middle of a chord
        >>> bool((between - 1).abs().max() < 1e-5)
        True
    """

    def __init__(
        self, x: Tensor, k: int = 16, eps: float | None = None, straight: float = 0.95
    ) -> None:
        check_number(straight, "straight", high=1.0)
        if eps is not None:
            check_number(eps, "eps")
        points = x.flatten(1)
        points = points - points.mean(dim=0)
        self.x = x
        self.unit = float(points.square().sum(dim=1).mean().sqrt())
        distance, index = nearest_neighbours(points, k, name="k")
        check_different(distance, index)
        self._graph = distance / self.unit, index
        ways = [
            _ways(points, distance, index, rows, straight)
            for rows in torch.arange(len(x)).split(_CHUNK)
        ]
        self.start, self.between, self.end = torch.cat([way[0] for way in ways]).unbind(dim=1)
        halves = torch.cat([way[1] for way in ways]) / self.unit
        self.length, self.share = halves.sum(dim=1), halves[:, 0] / halves.sum(dim=1)
        if eps is not None:
            kept = self.length <= eps
            for name in ("start", "between", "end", "length", "share"):
                setattr(self, name, getattr(self, name)[kept])
        if len(self.length) == 0:
            limit = "" if eps is None else f" and at most eps = {eps:g} (of the spread) long"
            raise InputError(
                f"data: no way over {k} neighbours is straight to {straight:g}{limit}: take a larger k or "
                "eps, a smaller straight, or more examples"
            )

    def __len__(self) -> int:
        return len(self.length)

    @cached_property
    def far(self) -> Tensor:
        """Lengths of shortest paths from each example to the landmarks, ``(n, L)``."""
        return shortest_paths(*self._graph, self._marks)

    @property
    def landmarks(self) -> Tensor:
        """Those between landmarks, ``(L, L)``."""
        return self.far[self._marks]

    @property
    def _marks(self) -> Tensor:
        n = len(self.x)
        return torch.linspace(0, n - 1, min(LANDMARKS, n), device=self.x.device).long()

    def draw(self, n: int, generator: torch.Generator) -> Pairs:
        """``n`` random pairs."""
        return self.select(torch.randint(len(self), (n,), generator=generator))

    def draw_far(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """``n`` random examples, and their distances to the landmarks."""
        rows = torch.randint(len(self.x), (n,), generator=generator).to(self.x.device)
        return self.x[rows], self.far[rows]

    def select(self, rows: Tensor) -> Pairs:
        """The pairs numbered ``rows``."""
        x, y, m = (self.x[index[rows]] for index in (self.start, self.end, self.between))
        return Pairs(x, y, m, self.length[rows], self.share[rows])


def shortest_paths(distance: Tensor, index: Tensor, sources: Tensor) -> Tensor:
    """Lengths of shortest paths in the graph of neighbours.

    Args:
        distance: of neighbours, ``(n, k)``.
        index: their numbers, ``(n, k)``.
        sources: numbers of S examples.

    Returns:
        From each example to the sources, ``(n, S)``; where there is no path, as much as the longest one.
    """
    n, k = index.shape
    edges = (distance.flatten().cpu().numpy(), index.flatten().cpu().numpy())
    graph = csr_array((*edges, np.arange(0, n * k + 1, k)), shape=(n, n))
    paths = torch.from_numpy(dijkstra(graph, directed=False, indices=sources.cpu().numpy()).T)
    paths = torch.where(torch.isfinite(paths), paths, -torch.inf)
    return torch.where(paths < 0, paths.max(), paths).to(distance)


def _ways(
    points: Tensor, distance: Tensor, index: Tensor, rows: Tensor, straight: float
) -> tuple[Tensor, Tensor]:
    """Ways over the examples ``rows``: numbers of x, m, y ``(N, 3)``, lengths of both halves ``(N, 2)``."""
    near, far = index[rows], distance[rows]
    edges = points[near] - points[rows, None]  # (R, k, m)
    inner = edges @ edges.mT
    squares = far.square()
    both = squares[:, :, None] + squares[:, None, :]
    other = (both + 2 * inner).argmin(dim=2)  # |x + y - 2 m|^2
    chord = (both - 2 * inner).clamp(min=0.0).gather(2, other[:, :, None]).squeeze(2).sqrt()
    half = far.gather(1, other)
    share = far / (far + half)
    kept = (chord >= straight * (far + half)) & (share > 1 / 3) & (share < 2 / 3)
    middle = rows[:, None].expand_as(near)
    ways = torch.stack([near, middle, near.gather(1, other)], dim=2)
    return ways[kept], torch.stack([far, half], dim=2)[kept]
