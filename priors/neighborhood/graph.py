"""The graph of nearest neighbours of a set of examples."""

from __future__ import annotations

import torch
from torch import Tensor

from onmanifold._checks import check_count

EXACT = 20_000  # up to so many examples all distances are computed
CHUNK = 1000  # examples whose distances are computed at once


def nearest_neighbours(x: Tensor, k: int, seed: int = 0) -> Tensor:
    """Which examples are nearest to each, by the Euclidean distance of their entries.

    Exact up to 20 000 examples; beyond, by nearest neighbour descent, which finds nearly all of them.

    Args:
        x: examples ``(n, *x_shape)``, all different.
        k: number of neighbours, below n.
        seed: of the descent.

    Returns:
        Their numbers ``(n, k)``, nearest first; no example is its own neighbour.

    Raises:
        ValueError: k below 1 or not below n, or examples that are repeated: neighbours at distance zero
            are no neighbourhood.

    Reference:
        W. Dong, M. Charikar, K. Li, *Efficient k-nearest neighbor graph construction for generic similarity
        measures*, WWW 2011, for the descent (pynndescent).

    Example:
        >>> nearest_neighbours(torch.tensor([[0.0], [1.0], [3.0], [7.0]]), 2)
        tensor([[1, 2],
                [0, 2],
                [1, 0],
                [2, 1]])
    """
    check_count(k, "loss: neighbours")
    if k >= len(x):
        raise ValueError(
            f"loss: neighbours has to be below the number of examples, {len(x)}; got {k}"
        )
    points = x.flatten(1).cpu()
    repeated = len(points) - len({row.tobytes() for row in points.numpy()})
    if repeated:
        raise ValueError(
            f"data: {repeated} of {len(x)} examples repeat others, so that neighbours are at "
            "distance zero; keep one of each (torch.unique, numpy.unique)"
        )
    found = _exact(points, k) if len(x) <= EXACT else _by_descent(points, k, seed)
    return found.to(x.device)


def _exact(points: Tensor, k: int) -> Tensor:
    """By all distances, a part of the rows at a time; in 64 bits, for near points far from the origin."""
    points = points.double()
    found = []
    for first in range(0, len(points), CHUNK):
        distance = torch.cdist(points[first : first + CHUNK], points)
        distance.diagonal(first).fill_(torch.inf)
        found.append(distance.topk(k, largest=False).indices)
    return torch.cat(found)


def _by_descent(points: Tensor, k: int, seed: int) -> Tensor:
    from pynndescent import NNDescent  # importing it compiles for half a minute

    search = NNDescent(points.numpy(), n_neighbors=k + 1, random_state=seed)
    found = torch.from_numpy(search.neighbor_graph[0]).long()
    # each example finds itself, first or, where the descent lost it, not at all
    others = found != torch.arange(len(points))[:, None]
    order = others.int().argsort(dim=1, descending=True, stable=True)[:, :k]
    return found.gather(1, order)
