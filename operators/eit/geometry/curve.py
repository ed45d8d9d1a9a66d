"""Two-dimensional bodies with any boundary curve: a polygon, or a smooth curve through given points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import BSpline, CubicSpline, make_interp_spline

from onmanifold.checks import check_field, check_number
from onmanifold.errors import InputError
from onmanifold.operators.eit.arguments import check_flag, doubles, electrode_count
from onmanifold.operators.eit.geometry.base import Geometry

Array = NDArray[np.float64]

_SAME = 1e-6  # points this close are one, as a part of the curve's extent
_OFF = 0.01  # an electrode may be this far off the curve, as a part of the image's side
_DENSE = 16  # samples between two given points of a smooth curve


class Piece(NamedTuple):
    """A part of a boundary curve between two electrode edges.

    Attributes:
        electrode: the electrode that it is, from 0; -1 for a gap.
        points: its start, the corners or samples between, its end, m, ``(K, 2)``.
    """

    electrode: int
    points: Array


@dataclass(frozen=True, eq=False)
class BoundaryCurve(Geometry):
    """A polygon, or a smooth closed curve, with electrodes along it.

    Places along the curve are counted in arc length from the first point, in the order of the points.

    Attributes:
        points: corners of the polygon, or points of the curve, m, ``(K, 2)``; in either sense.
        electrodes: number of electrodes L, evenly spaced; may be left out where ``at`` is given.
        width: length of an electrode along the curve, m: one number, or one for each.
        at: centre of each electrode instead, as a part of the curve's length, ``(L,)``, or as a point on
            the curve, m, ``(L, 2)``.
        first: centre of the first of evenly spaced electrodes, as a part of the curve's length.
        smooth: whether the curve is the periodic cubic spline through the points.
        contact_impedance: Ohm m: one number, or one for each electrode.
        shunted: electrodes with perfect contact, from 0; their contact impedance is not used.

    Raises:
        ValueError: fewer than three points, points that coincide, a curve that crosses itself, electrodes
            that overlap, an electrode off the curve, a width or a contact impedance that is not
            positive (the electrode is named).

    Example:
        >>> square = BoundaryCurve([(0, 0), (1, 0), (1, 1), (0, 1)], electrodes=4, width=0.2, first=0.125)
        >>> square.centres
        array([[0.5, 0. ],
               [1. , 0.5],
               [0.5, 1. ],
               [0. , 0.5]])
    """

    points: ArrayLike
    electrodes: int = 0
    width: float | Sequence[float] = 0.01
    at: ArrayLike | None = None
    first: float = 0.0
    smooth: bool = False
    contact_impedance: float | Sequence[float] = 1e-2
    shunted: Sequence[int] = ()

    def __post_init__(self) -> None:
        points = _check_points(self.points)
        object.__setattr__(self, "points", points)
        check_field(self, "first", check_number, low=-np.inf)
        check_field(self, "smooth", check_flag)
        check_field(self, "electrodes", electrode_count, at_least=0)
        if self.at is not None:
            object.__setattr__(self, "at", np.atleast_1d(doubles(self.at, "at")))
            count = len(np.asarray(self.at))
            if self.electrodes not in (0, count):
                raise InputError(f"electrodes says {self.electrodes}, at has {count}")
            object.__setattr__(self, "electrodes", count)
        if self.electrodes < 2:
            raise InputError(f"a boundary curve needs at least 2 electrodes, got {self.electrodes}")
        _check_simple(self._curve.corners)
        self._check_widths()
        self._check_contacts()

    @property
    def length(self) -> float:
        """Length of the curve, m."""
        return self._curve.length

    @property
    def centres(self) -> Array:
        """Centre of each electrode, m, ``(L, 2)``."""
        return self._curve.place(self._middles)

    @property
    def extent(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Lower left and upper right corner of the smallest square around the curve, m."""
        corners = self._curve.corners
        middle, half = (corners.min(0) + corners.max(0)) / 2, np.ptp(corners, axis=0).max() / 2
        (left, low), (right, high) = (middle - half).tolist(), (middle + half).tolist()
        return (left, low), (right, high)

    def pieces(self) -> list[Piece]:
        """The curve cut at the edges of the electrodes: electrode, gap, electrode, gap, ..."""
        order = np.argsort(self._middles)
        start = (self._middles - self._widths / 2)[order]
        end = start + self._widths[order]
        pieces = []
        for k, number in enumerate(order.tolist()):
            after = start[k + 1] if k + 1 < len(order) else start[0] + self.length
            pieces.append(Piece(number, self._curve.between(start[k], end[k])))
            pieces.append(Piece(-1, self._curve.between(end[k], after)))
        return pieces

    @cached_property
    def _curve(self) -> _ArcLengthCurve:
        return (_smooth if self.smooth else _polygon)(np.asarray(self.points))

    @cached_property
    def _widths(self) -> Array:
        return np.broadcast_to(doubles(self.width, "width"), (self.electrodes,))

    @cached_property
    def _middles(self) -> Array:
        """Arc length of each electrode's centre, m, ``(L,)``."""
        if self.at is None:
            parts = self.first + np.arange(self.electrodes) / self.electrodes
            return np.asarray(parts % 1 * self.length)
        at = np.asarray(self.at, np.float64)
        if at.shape == (self.electrodes,) and np.isfinite(at).all():
            return np.asarray(at % 1 * self.length)
        if at.shape != (self.electrodes, 2) or not np.isfinite(at).all():
            raise InputError(
                f"at takes parts of the length (L,) or points (L, 2), all finite; got shape {at.shape}"
            )
        middles, distance = self._curve.project(at)
        side = self.extent[1][0] - self.extent[0][0]
        off = np.flatnonzero(distance > _OFF * side)
        if len(off):
            raise InputError(
                f"electrode {off[0] + 1} at {tuple(at[off[0]].tolist())} is {distance[off[0]]:.3g} m off "
                "the boundary curve"
            )
        return middles

    def _check_widths(self) -> None:
        if doubles(self.width, "width").shape not in ((), (1,), (self.electrodes,)):
            raise InputError(
                f"width has to be one number or {self.electrodes} (one for each electrode), got shape "
                f"{np.shape(self.width)}"
            )
        bad = np.flatnonzero(~(np.isfinite(self._widths) & (self._widths > 0)))
        if len(bad):
            raise InputError(
                f"the width of electrode {bad[0] + 1} has to be positive, got {self._widths[bad[0]]}"
            )
        order = np.argsort(self._middles)
        start = (self._middles - self._widths / 2)[order]
        gap = np.append(start[1:], start[0] + self.length) - (start + self._widths[order])
        bad = np.flatnonzero(gap <= 1e-9 * self.length)
        if len(bad):
            pair = sorted((order[bad[0]] + 1, order[(bad[0] + 1) % len(order)] + 1))
            raise InputError(
                f"electrodes {pair[0]} and {pair[1]} overlap or touch: from one to the other "
                f"there are {gap[bad[0]]:.3g} m"
            )


@dataclass(frozen=True, eq=False)
class _ArcLengthCurve:
    """A closed curve, piecewise linear or cubic, by arc length.

    Attributes:
        corners: the corners of a polygon, or dense samples of a smooth curve, ``(K, 2)``.
        arc: the arc length at each, and the whole length, ``(K + 1,)``.
        spline: the curve over arc length, of degree 1 for a polygon.
    """

    corners: Array
    arc: Array
    spline: BSpline | CubicSpline

    @property
    def length(self) -> float:
        return float(self.arc[-1])

    def place(self, arc: Array) -> Array:
        """The point at each arc length, ``(K,)`` to ``(K, 2)``."""
        return np.asarray(self.spline(arc % self.length))

    def between(self, start: float, end: float) -> Array:
        """Start, all corners between, and end, ``(K, 2)``; the arc lengths may exceed the curve's."""
        arcs = np.concatenate([self.arc[:-1] + turn * self.length for turn in (-1, 0, 1)])
        inside = arcs[(arcs > start + 1e-9 * self.length) & (arcs < end - 1e-9 * self.length)]
        if isinstance(self.spline, CubicSpline):  # evenly, at least as dense
            inside = np.linspace(start, end, max(9, len(inside) + 2))[1:-1]
        return self.place(np.concatenate([[start], inside, [end]]))

    def project(self, points: Array) -> tuple[Array, Array]:
        """Arc length of the nearest point of the curve, and the distance to it, ``(L,)`` each."""
        along = np.roll(self.corners, -1, axis=0) - self.corners
        offset = points[:, None] - self.corners
        share = ((offset * along).sum(axis=2) / (along**2).sum(axis=1)).clip(0, 1)
        distance = np.linalg.norm(offset - share[..., None] * along, axis=2)
        row, nearest = np.arange(len(points)), distance.argmin(axis=1)
        arc = self.arc[nearest] + share[row, nearest] * np.diff(self.arc)[nearest]
        return arc, distance[row, nearest]


def _polygon(points: Array) -> _ArcLengthCurve:
    closed = np.vstack([points, points[:1]])
    arc = _chords(closed)
    return _ArcLengthCurve(points, arc, make_interp_spline(arc, closed, k=1))


def _chords(closed: Array) -> Array:
    """Length of the polygon up to each of its corners, ``(K,)``."""
    return np.append(0.0, np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1)))


def _smooth(points: Array) -> _ArcLengthCurve:
    """The periodic cubic spline through the points, its parameter near the arc length."""
    closed = np.vstack([points, points[:1]])
    knots = _chords(closed)
    raw = CubicSpline(knots, closed, bc_type="periodic")
    fine = np.interp(np.arange(_DENSE * len(points) + 1) / _DENSE, np.arange(len(knots)), knots)
    x, weight = np.polynomial.legendre.leggauss(5)
    step = np.diff(fine)
    speed = np.linalg.norm(raw(fine[:-1, None] + 0.5 * (1 + x) * step[:, None], 1), axis=2)
    arc = np.concatenate([[0.0], np.cumsum(0.5 * step * (speed @ weight))])
    places = raw(fine)
    places[-1] = places[0]
    return _ArcLengthCurve(places[:-1], arc, CubicSpline(arc, places, bc_type="periodic"))


def _check_points(given: ArrayLike) -> Array:
    points = doubles(given, "points")
    if points.ndim != 2 or points.shape[1:] != (2,) or not np.isfinite(points).all():
        raise InputError(f"a boundary curve takes finite points (K, 2), got shape {points.shape}")
    near = _SAME * float(np.ptp(points, axis=0).max(initial=0.0))
    if len(points) > 1 and np.linalg.norm(points[0] - points[-1]) <= near:
        points = points[:-1]  # closed by hand, perhaps up to rounding
    if len(points) < 3:
        raise InputError(f"a boundary curve needs at least 3 points, got {len(points)}")
    same = np.flatnonzero(np.linalg.norm(points - np.roll(points, -1, axis=0), axis=1) <= near)
    if len(same):
        raise InputError(
            f"points {same[0] + 1} and {(same[0] + 1) % len(points) + 1} of the boundary curve coincide"
        )
    return points


def _check_simple(corners: Array) -> None:
    """Refuse a closed polygon two of whose sides meet other than at their common corner."""
    count = len(corners)
    side = np.roll(corners, -1, axis=0) - corners
    length = np.linalg.norm(side, axis=1)
    after, size = np.roll(side, -1, axis=0), length * np.roll(length, -1)
    flat = np.abs(_cross(side, after)) <= _SAME * size
    back = np.flatnonzero(flat & ((side * after).sum(axis=1) < 0))
    if len(back):
        x, y = corners[(back[0] + 1) % count]
        raise InputError(f"the boundary curve turns back on itself at ({x:.4g}, {y:.4g})")
    for k in range(count - 1):
        others = np.arange(k + 2, count if k else count - 1)
        offset, along = corners[others] - corners[k], side[others]
        cross = _cross(side[k], along)
        parallel = np.abs(cross) <= _SAME * length[k] * length[others]
        with np.errstate(divide="ignore", invalid="ignore"):
            t = _cross(offset, along) / cross
            u = _cross(offset, side[k]) / cross
        meet = ~parallel & (t >= 0) & (t <= 1) & (u >= 0) & (u <= 1)
        start, end = (v @ side[k] / length[k] ** 2 for v in (offset, offset + along))
        on = np.abs(_cross(side[k], offset)) <= _SAME * length[k] * length.max()
        overlap = parallel & on & (np.maximum(start, end) >= 0) & (np.minimum(start, end) <= 1)
        bad = np.flatnonzero(meet | overlap)
        if len(bad):
            share = t[bad[0]] if meet[bad[0]] else np.clip(start[bad[0]], 0, 1)
            x, y = corners[k] + share * side[k]
            raise InputError(f"the boundary curve crosses itself at ({x:.4g}, {y:.4g})")


def _cross(a: Array, b: Array) -> Array:
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])
