"""Persistence in dimension 0: minimum spanning trees, and how two of them differ."""

from __future__ import annotations

import torch
from scipy.sparse.csgraph import minimum_spanning_tree
from torch import Tensor


def tree_edges(distances: Tensor) -> tuple[Tensor, Tensor]:
    """The edges at which components of a filtered complex merge, as rows and columns ``(B - 1,)``.

    A complex grows with a threshold, edge (i, j) entering at ``distances[i, j]``; the edges that join two
    components are those of a minimum spanning tree.

    Args:
        distances: symmetric ``(B, B)``.

    Example:
        >>> points = torch.tensor([0.0, 1.0, 3.0])
        >>> [edge.tolist() for edge in tree_edges((points[:, None] - points).abs())]
        [[0, 1], [1, 2]]
    """
    # to scipy a zero says that there is no edge; the same shift of all edges keeps the tree
    shifted = distances.detach().double().cpu().numpy() + 1.0
    rows, columns = minimum_spanning_tree(shifted).nonzero()
    return (
        torch.as_tensor(rows, dtype=torch.long, device=distances.device),
        torch.as_tensor(columns, dtype=torch.long, device=distances.device),
    )


def tree_loss(data: Tensor, latent: Tensor) -> Tensor:
    """Half the mean squared difference of two distances at the tree of each, added up.

    Args:
        data: distances of the examples ``(B, B)``.
        latent: distances of their codes ``(B, B)``.

    Example:
        >>> distances = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        >>> float(tree_loss(distances, 3 * distances))
        4.0
    """
    differences = (data - latent).square()
    found: Tensor = 0.5 * sum(
        (differences[tree_edges(distances)].mean() for distances in (data, latent)),
        start=data.new_zeros(()),
    )
    return found
