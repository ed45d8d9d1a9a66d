"""Drawings of a geometry, of its electrodes, mesh and conductivity, and of voltages."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onmanifold.errors import InputError
from onmanifold.operators.eit.arguments import doubles
from onmanifold.operators.eit.fem.discretization import Discretization
from onmanifold.operators.eit.geometry.base import Geometry
from onmanifold.operators.eit.mesh.mesh import EDGES, Mesh, boundary_facets

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

Array = NDArray[np.float64]
Index = NDArray[np.int32]

_ELECTRODE, _SHUNTED = "tab:red", "tab:purple"
_HEIGHTS = np.array([1, 3, 5]) / 6  # of the cuts, in parts of the body's


def plot_eit(
    geometry: Geometry,
    mesh: Mesh | Discretization,
    conductivity: ArrayLike | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the boundary, the electrodes with their numbers, and the conductivity of the cells or their edges.

    In three dimensions: the electrodes on the surface, and the conductivity on three horizontal cuts.

    Args:
        geometry: what was meshed.
        mesh: its mesh, or what :func:`assemble` made of that.
        conductivity: of each cell, S/m, ``(C,)``; if ``None``, the cells' edges are drawn.
        ax: axes to draw on, three-dimensional ones for a three-dimensional body; new ones if ``None``.

    Returns:
        The axes; ``ax.figure`` is the figure, not shown and not saved.

    Raises:
        ValueError: a conductivity for another number of cells, or not finite.

    Example:
        >>> from onmanifold.operators.eit import Tank, load_discretization
        >>> tank = Tank(radius=0.115)
        >>> plot_eit(tank, load_discretization("coarse", tank)).get_xlabel()
        'x (m)'
    """
    dim = mesh.points.shape[1]
    points, cells = mesh.points, mesh.cells[:, : dim + 1]
    values = None if conductivity is None else _check_values(conductivity, len(cells))
    ax = _new_axes(dim) if ax is None else ax
    if dim == 2:
        drawn = _draw_plane(ax, points, cells, values)
    else:
        low, high = geometry.extent[0][-1], geometry.extent[1][-1]
        drawn = _draw_cuts(ax, points, cells, values, low + (high - low) * _HEIGHTS)
    _draw_surface(ax, geometry, points, cells, _owner(mesh), lines=values is None)
    if drawn is not None:
        ax.figure.colorbar(drawn, ax=ax, label="conductivity (S/m)", shrink=0.8)
    return ax


def draw_image(
    ax: Axes,
    geometry: Geometry,
    image: Array,
    inside: NDArray[np.bool_],
    *,
    min: float | None = None,
    max: float | None = None,
    cmap: str = "gray",
) -> AxesImage:
    """Draw an image where the body is, and its electrodes as dots.

    Args:
        ax: where to draw.
        geometry: the body, in two dimensions.
        image: ``(H, W)``, over the body's ``extent``.
        inside: pixels that the body reaches into, ``(H, W)``.
        min: value of the darkest shade; by default the smallest.
        max: value of the lightest shade; by default the largest.
        cmap: name of the colour map.
    """
    (left, bottom), (right, top) = geometry.extent
    shown = np.where(inside, image, np.nan)
    drawn = ax.imshow(shown, cmap=cmap, vmin=min, vmax=max, extent=(left, right, bottom, top))
    ax.plot(*geometry.centres.T, ".", color=_ELECTRODE, markersize=5, clip_on=False)
    ax.set_axis_off()
    return drawn


def draw_voltages(ax: Axes, voltages: Array) -> AxesImage:
    """Draw voltages of each injection in a row, ``(I, M)``, V; grey where one is NaN.

    The largest, near the electrodes that drive, are beyond the shades.
    """
    from matplotlib import colormaps

    shades: Any = colormaps["RdBu_r"].copy()
    shades.colorbar_extend = "both"
    most = float(np.nanquantile(np.abs(voltages), 0.98)) or 1.0
    drawn = ax.imshow(voltages, cmap=shades, vmin=-most, vmax=most, aspect="auto")
    ax.set(xlabel="pattern", ylabel="injection", facecolor="0.9")
    return drawn


def _owner(mesh: Mesh | Discretization) -> Index:
    """The electrode that each point is on, -1 for none, ``(V,)``."""
    owner = np.full(len(mesh.points), -1, np.int32)
    if isinstance(mesh, Mesh):
        owner[mesh.facets] = mesh.electrode[:, None]
    else:
        vertex = mesh.rows < len(owner)  # other degrees of freedom follow the vertices
        owner[mesh.rows[vertex]] = mesh.electrode[vertex]
    return owner


def _draw_plane(ax: Any, points: Array, cells: Index, values: Array | None) -> Any:
    """Triangles in colour, or their edges; returns what the colours belong to."""
    x, y = points.T
    ax.set(aspect="equal", xlabel="x (m)", ylabel="y (m)")
    if values is not None:
        return ax.tripcolor(x, y, cells, facecolors=values)
    ax.triplot(x, y, cells, color="0.6", linewidth=0.3)
    return None


def _draw_cuts(ax: Any, points: Array, cells: Index, values: Array | None, heights: Array) -> Any:
    """Horizontal cuts through tetrahedra, in colour; returns what the colours belong to."""
    ax.set(xlabel="x (m)", ylabel="y (m)", zlabel="z (m)", aspect="equal")
    if values is None:
        return None
    cuts = [_cut(points, cells, z) for z in heights]
    polygons, cut = (np.concatenate(part) for part in zip(*cuts, strict=True))
    drawn = _polygons()(polygons, linewidth=0, antialiased=False, zorder=2)
    drawn.set_array(values[cut])
    return ax.add_collection3d(drawn)


def _cut(points: Array, cells: Index, z: float) -> tuple[Array, Index]:
    """Where tetrahedra meet a plane: quadrangles, m, ``(P, 4, 3)``, and their cells, ``(P,)``."""
    level = points[:, 2] - z
    above = level[cells] > 0
    cut = np.flatnonzero(above.any(axis=1) & ~above.all(axis=1))
    a, b = cells[cut][:, EDGES[3]].transpose(2, 0, 1)
    meets = (level[a] > 0) != (level[b] > 0)
    share = np.where(meets, level[a] / np.where(meets, level[a] - level[b], 1), np.nan)
    places = points[a] + share[..., None] * (points[b] - points[a])
    offset = places - np.nanmean(places, axis=1, keepdims=True)
    around = np.argsort(np.arctan2(offset[..., 1], offset[..., 0]), axis=1)[:, :4]  # NaN comes last
    corners = np.take_along_axis(places, around[..., None], axis=1)
    triangle = np.isnan(corners[:, 3, 0])
    corners[triangle, 3] = corners[triangle, 2]
    return corners, cut.astype(np.int32)


def _draw_surface(
    ax: Any, geometry: Geometry, points: Array, cells: Index, owner: Index, lines: bool
) -> None:
    """The boundary, the electrodes on it, and their numbers beside them."""
    from matplotlib.patheffects import withStroke

    facets, beside = boundary_facets(cells, points.shape[1])
    owner = np.where((owner[facets] == owner[facets[:, :1]]).all(axis=1), owner[facets[:, 0]], -1)
    corners = points[facets]
    outward = corners.mean(axis=1) - points[cells[beside]].mean(axis=1)
    _add_facets(ax, corners[owner < 0], "0.4", lines)
    apart = 0.06 * np.max(np.subtract(geometry.extent[1], geometry.extent[0]))
    for k, centre in enumerate(geometry.centres):
        colour = _SHUNTED if k in geometry.shunted else _ELECTRODE
        _add_facets(ax, corners[owner == k], colour, lines, electrode=True)
        normal = outward[owner == k].sum(axis=0)
        where = centre + apart * normal / np.linalg.norm(normal)
        text = ax.text(*where, f"{k + 1}", ha="center", va="center", fontsize=8, zorder=5)
        text.set_path_effects([withStroke(linewidth=2, foreground="white")])
    low, high = points.min(axis=0) - 2 * apart, points.max(axis=0) + 2 * apart
    ax.set(**{f"{axis}lim": limits for axis, *limits in zip("xyz", low, high, strict=False)})


def _add_facets(ax: Any, corners: Array, colour: str, lines: bool, electrode: bool = False) -> None:
    """Edges as lines; triangles as a surface, see-through unless it is an electrode."""
    if corners.shape[2] == 2:
        from matplotlib.collections import LineCollection

        ax.add_collection(
            LineCollection(
                list(corners), color=colour, linewidth=4 if electrode else 1, capstyle="round"
            )
        )
        return
    surface = _polygons()(corners, facecolor=colour, alpha=0.5 if electrode else 0.05)
    surface.set_zorder(4 if electrode else 3)
    surface.set_edgecolor("0.6" if lines else "none")
    surface.set_linewidth(0.2 if lines else 0)
    ax.add_collection3d(surface)


def _polygons() -> Any:
    """Matplotlib's polygons in three dimensions."""
    return import_module("mpl_toolkits.mplot3d.art3d").Poly3DCollection


def _new_axes(dim: int) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    if dim == 2:
        return figure.add_subplot()
    return figure.add_subplot(projection="3d", computed_zorder=False)


def _check_values(conductivity: ArrayLike, cells: int) -> Array:
    values = doubles(conductivity, "conductivity")
    if values.shape != (cells,):
        raise InputError(
            f"conductivity has to be one number for each of {cells} cells, got shape {values.shape}"
        )
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise InputError(
            f"the conductivity of cell {bad[0]} is {values[bad[0]]}; it has to be finite"
        )
    return values
