"""Draw one tensor: an image, a matrix, a volume or a curve."""

from __future__ import annotations

import math
from typing import Literal

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from torch import Tensor

from onmanifold.plot.style import MISSING, PALETTE

_LONG = 3  # matrices longer than that many times their width are stretched


def draw(
    ax: Axes,
    x: Tensor,
    *,
    min: float | None = None,
    max: float | None = None,
    cmap: str = "gray",
) -> ScalarMappable | None:
    """Draw one tensor: a vector as a curve, anything with rows and columns as an image.

    ``(3, H, W)`` is in colour; other channels or slices, ``(n, H, W)``, stand side by side. Entries
    that are NaN are left out, pale blue in an image.

    Args:
        ax: where to draw.
        x: values, of any shape; one unknown or one measurement, no batch.
        min: value drawn black, or the lower end of a curve's axis; by default the smallest.
        max: value drawn white, or the upper end of a curve's axis; by default the largest.
        cmap: name of the colour map of an image.

    Returns:
        What a colour bar is made from; ``None`` for curves and for images in colour.

    Example:
        >>> from matplotlib.figure import Figure
        >>> ax = Figure().add_subplot()
        >>> draw(ax, torch.rand(1, 8, 8), min=0.0, max=1.0).get_clim()
        (0.0, 1.0)
    """
    values = x.detach().cpu()
    values = values if values.is_floating_point() else values.float()
    while values.ndim > 2 and len(values) == 1:
        values = values[0]
    if values.ndim < 2:
        _draw_curve(ax, values.reshape(-1), min, max)
        return None
    short, long = sorted(values.shape[-2:])
    aspect: Literal["equal", "auto"] = "equal" if long <= _LONG * short else "auto"
    ax.set_axis_off()
    if values.ndim == 3 and len(values) == 3:
        ax.imshow(_colour(values, min, max).numpy(), aspect=aspect)
        return None
    image = values if values.ndim == 2 else _tiled(values.flatten(0, -3))
    shades = matplotlib.colormaps[cmap].with_extremes(bad=MISSING)
    return ax.imshow(image.numpy(), vmin=min, vmax=max, cmap=shades, aspect=aspect)


def limits(*values: Tensor | None) -> dict[str, float]:
    """One scale for several tensors: ``min`` and ``max`` of their finite entries, if there are any."""
    finite = [v[torch.isfinite(v)] for v in values if v is not None]
    finite = [v for v in finite if len(v)]
    if not finite:
        return {}
    return {
        "min": min(float(v.min()) for v in finite),
        "max": max(float(v.max()) for v in finite),
    }


def _draw_curve(ax: Axes, values: Tensor, low: float | None, high: float | None) -> None:
    ax.plot(values.numpy(), marker="." if len(values) < 50 else "", color=PALETTE[0])
    ends = limits(values) or {"min": 0.0, "max": 1.0}
    bottom, top = ends["min"] if low is None else low, ends["max"] if high is None else high
    margin = 0.05 * (top - bottom) or 1.0
    ax.set_ylim(bottom - margin, top + margin)


def _colour(values: Tensor, low: float | None, high: float | None) -> Tensor:
    """``(3, H, W)`` to ``(H, W, 3)`` between 0 and 1."""
    ends = limits(values) or {"min": 0.0, "max": 1.0}
    bottom, top = ends["min"] if low is None else low, ends["max"] if high is None else high
    scaled = (values - bottom) / ((top - bottom) or 1.0)
    return torch.nan_to_num(scaled).clamp(0, 1).movedim(0, -1)


def _tiled(slices: Tensor) -> Tensor:
    """``(n, H, W)`` as one image, row by row, with gaps of NaN."""
    count, height, width = slices.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    gap = 1 + max(height, width) // 32
    padded = slices.new_full((rows * columns, height + gap, width + gap), torch.nan)
    padded[:count, :height, :width] = slices
    grid = padded.view(rows, columns, height + gap, width + gap)
    return grid.transpose(1, 2).reshape(rows * (height + gap), -1)[:-gap, :-gap]
