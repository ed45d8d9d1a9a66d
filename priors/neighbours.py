"""Which examples are nearest to each: the graph that methods for plain examples start from."""

from __future__ import annotations

import torch
from torch import Tensor

from onmanifold.checks import check_count
from onmanifold.errors import InputError

EXACT = 20_000  # up to so many examples all distances are computed
CHUNK = 500  # examples whose distances are computed at once


def nearest_neighbours(
    x: Tensor, k: int, seed: int = 0, name: str = "neighbours"
) -> tuple[Tensor, Tensor]:
    """The nearest others of each example, by the Euclidean distance of their entries.

    Exact for up to 20 000 examples; beyond, by nearest neighbour descent (pynndescent), which finds
    nearly all of them.

    Args:
        x: examples ``(n, *x_shape)``.
        k: number of neighbours, below n.
        seed: of the descent.
        name: what messages call k.

    Returns:
        Distances ``(n, k)``, nearest first, and the numbers of the neighbours ``(n, k)``; no example is its
        own neighbour.

    Raises:
        ValueError: k below 1 or not below n, or NaN.

    Reference:
        W. Dong, M. Charikar, K. Li, *Efficient k-nearest neighbor graph construction for generic similarity
        measures*, WWW 2011, for the descent.

    Example:
        >>> nearest_neighbours(torch.tensor([[0.0], [1.0], [3.0], [7.0]]), 2)[1]
        tensor([[1, 2],
                [0, 2],
                [1, 0],
                [2, 1]])
    """
    check_count(k, name)
    if k >= len(x):
        raise InputError(f"{name} has to be below the number of examples, {len(x)}; got {k}")
    points = x.flatten(1)
    if not bool(torch.isfinite(points).all()):
        raise InputError("data: examples hold NaN or infinite values")
    if len(points) > EXACT:
        return _by_descent(points, k, seed)
    found = [_exact(points, rows, k) for rows in torch.arange(len(points)).split(CHUNK)]
    return torch.cat([distance for distance, _ in found]), torch.cat([row for _, row in found])


def check_different(distances: Tensor, numbers: Tensor) -> None:
    """Raise where neighbours are at distance zero: that is no neighbourhood.

    Raises:
        ValueError: naming two examples that are the same.
    """
    same = (distances <= 0).any(dim=1).nonzero()
    if len(same):
        row = int(same[0])
        raise InputError(
            f"data: {len(same)} of {len(distances)} examples repeat others (such as {row} and "
            f"{int(numbers[row, 0])}), so that neighbours are at distance zero; keep one of each "
            "(torch.unique, numpy.unique)"
        )


def _exact(points: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Of all examples, the nearest to ``rows``; in 64 bits, for near points far from the origin."""
    here = points[rows].double()
    every = torch.cdist(here, points.double())
    every[torch.arange(len(rows)), rows] = torch.inf  # not itself
    numbers = every.topk(k, largest=False).indices
    # once more for these few: what cdist computes by inner products is not exact for close points
    distances, order = (points[numbers].double() - here[:, None]).norm(dim=2).sort(dim=1)
    return distances.to(points), numbers.gather(1, order)


def _by_descent(points: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor]:
    from pynndescent import NNDescent  # importing it compiles for half a minute

    found = NNDescent(points.cpu().numpy(), n_neighbors=k + 1, random_state=seed)
    numbers, distances = (torch.from_numpy(part).to(points.device) for part in found.neighbor_graph)
    # each example finds itself, first or, where the descent lost it, not at all
    others = numbers != torch.arange(len(points), device=points.device)[:, None]
    order = others.int().argsort(dim=1, descending=True, stable=True)[:, :k]
    return distances.gather(1, order), numbers.long().gather(1, order)
