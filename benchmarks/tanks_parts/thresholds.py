"""Images cut into three classes by thresholds, as the challenge's organisers do it."""

import numpy as np
from numpy.typing import NDArray

BINS = 256


def otsu(image: NDArray[np.float64]) -> tuple[float, float]:
    """The two thresholds that cut an image's histogram into three classes of least variance.

    Example:
        >>> low, high = otsu(np.array([[0.0, 0.1, 1.0], [1.1, 2.0, 2.1]]))
        >>> 0.1 < low < 1.0, 1.1 < high < 2.0
        (True, True)
    """
    counts, edges = np.histogram(image, BINS)
    weight = np.concatenate([[0], np.cumsum(counts)])
    moment = np.concatenate([[0], np.cumsum(counts * (edges[:-1] + edges[1:]) / 2)])

    def between(start: NDArray[np.intp], stop: NDArray[np.intp]) -> NDArray[np.float64]:
        """Squared sum over weight of the bins from start to stop."""
        n = weight[stop] - weight[start]
        return (moment[stop] - moment[start]) ** 2 / np.maximum(n, 1)

    i, j = np.triu_indices(BINS - 1, 1)
    i, j = i + 1, j + 1
    total = between(0 * i, i) + between(i, j) + between(j, 0 * j + BINS)
    # empty bins make several places equally good: the middle one
    best = np.flatnonzero(total >= total.max() * (1 - 1e-12))
    return float(edges[i[best]].mean()), float(edges[j[best]].mean())


def water_is_most(image: NDArray[np.float64], low: float, high: float) -> tuple[float, float]:
    """The values below which a pixel is resistive and above which it is conductive.

    Of the three classes the one with most pixels is water. Lower ones are resistive, higher ones conductive.
    """
    below, above = (image < low).sum(), (image > high).sum()
    water = int(np.argmax((below, image.size - below - above, above)))
    return (-np.inf, low, high)[water], (low, high, np.inf)[water]
