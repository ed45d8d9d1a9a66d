"""How many dimensions a manifold has, from examples of it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from onmanifold.errors import InputError
from onmanifold.priors.neighbours import nearest_neighbours

SCALES = (5, 10, 20, 50, 100)  # numbers of neighbours


def features(x: Tensor) -> Tensor:
    """What closeness of examples is measured in: vectors as they are, images coarsened."""
    if x.ndim == 4:
        x = functional.adaptive_avg_pool2d(x, 8)
    return x.flatten(1)


def intrinsic_dimension(x: Tensor, neighbours: int = 20) -> float:
    """Dimension of the manifold near which examples lie, from the distances of neighbours.

    The maximum likelihood estimate of Levina and Bickel: in d dimensions the numbers of neighbours within
    a distance r grow as r^d. Inverse estimates are averaged over the points. Noise counts where neighbours
    are no farther than it is strong, and curvature where they are far: look for the scale where estimates
    agree.
    Images are coarsened to 8 x 8 first: between images with sharp edges the distance grows like the root
    of a motion, which doubles the dimension.

    Args:
        x: examples ``(n, *x_shape)``, more than ``neighbours`` different ones.
        neighbours: k, the scale: how many neighbours of each point count.

    References:
        E. Levina, P. Bickel, NIPS 17 (2004); D. MacKay, Z. Ghahramani, comments on it (2005), for the mean.

    Example:
        >>> from onmanifold.priors.datasets import Sphere
        >>> x, _ = Sphere(noise=0.0).sample(2000, 0)
        >>> round(intrinsic_dimension(x), 1)
        2.0
    """
    points = features(x).double().unique(dim=0)
    if not 2 < neighbours < len(points):
        raise InputError(
            "intrinsic_dimension: neighbours has to be above 2 and below the number of different "
            f"examples, {len(points)}; got {neighbours}"
        )
    logs = nearest_neighbours(points, neighbours)[0].log()
    inverse = (logs[:, -1:] - logs[:, :-1]).sum(dim=1) / (neighbours - 1)
    return 1 / float(inverse.mean())


def dimension_by_scale(x: Tensor, scales: Sequence[int] = SCALES) -> dict[int, float]:
    """:func:`intrinsic_dimension` at several numbers of neighbours, as many as the examples allow."""
    return {k: intrinsic_dimension(x, k) for k in scales if k < len(x)}
