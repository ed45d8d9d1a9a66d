"""The continuum model: currents flow through the whole boundary, potentials are measured along it.

With current density ``g`` on the boundary the model asks for ``u`` with ``div(s grad u) = 0``, ``s
du/dn = g`` and zero mean on the boundary; the data are the traces of ``u``. It has no electrodes and no
contact impedances.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import hadamard
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import depth_first_order

from onmanifold.checks import check_callable, check_count, check_field
from onmanifold.errors import InputError, InputTypeError
from onmanifold.operators.eit.arguments import doubles
from onmanifold.operators.eit.fem.discretization import Discretization
from onmanifold.operators.eit.mesh.mesh import boundary_facets, facet_keys
from onmanifold.operators.eit.models.system import System

Array = NDArray[np.float64]
Index = NDArray[np.int64]
_GAUSS = np.polynomial.legendre.leggauss(4)


@dataclass(frozen=True, eq=False)
class Continuum:
    """Current patterns on the boundary of a two-dimensional tank, and where its potential is measured.

    The place on the boundary is ``t`` in [0, 1), the part of its length that lies between the positive x axis
    (from the middle of the tank's box) and the point, counterclockwise.

    Attributes:
        currents: ``t`` of ``(P,)`` to currents per unit of t, A, ``(I, P)``; the integral over t is zero. The
            current density is that divided by the length of the boundary.
        breaks: where the currents jump, in [0, 1).
        points: number of measured potentials P, evenly spaced, the first at ``t = 0``.

    Example:
        >>> patterns = Continuum.walsh(16)
        >>> patterns.currents(np.array([0.1, 0.6]))[0]
        array([ 1., -1.])
    """

    currents: Callable[[Array], Array]
    breaks: tuple[float, ...] = ()
    points: int = 128

    def __post_init__(self) -> None:
        if self.currents is None:
            raise InputTypeError("currents has to be a function, got None")
        check_callable(self.currents, "currents", "lambda t: np.cos(2 * np.pi * t)[None]")
        check_field(self, "points", check_count, at_least=2)
        object.__setattr__(self, "breaks", tuple(doubles(self.breaks, "breaks").ravel().tolist()))
        if any(not 0 <= b < 1 for b in self.breaks):
            raise InputError(f"breaks have to lie in [0, 1), got {self.breaks}")
        values = doubles(self.currents(np.zeros(1)), "the values of currents")
        if values.ndim != 2 or values.shape[1] != 1 or len(values) == 0:
            raise InputError(
                f"currents has to map (P,) to (I, P); for one place it gave shape {values.shape}"
            )

    @classmethod
    def walsh(cls, arcs: int = 16, points: int = 128) -> Continuum:
        """The ``arcs - 1`` Walsh functions: +1 or -1 on equal arcs, of total mass 1 A, orthogonal.

        The patterns of Alberti, Hertrich, Santacesaria, Sciutto, JMLR 25 (2024): halves, quarters,
        eighths and sixteenths of the boundary with alternating signs, and their products.

        Args:
            arcs: a power of two.
            points: measured potentials.
        """
        if check_count(arcs, "arcs", at_least=2) & (arcs - 1):
            raise InputError(f"arcs has to be a power of two, got {arcs}")
        signs = hadamard(arcs, float)
        changes = (np.diff(signs, axis=1) != 0).sum(axis=1)
        return cls.piecewise(signs[np.argsort(changes)][1:], points)

    @classmethod
    def piecewise(cls, values: Array, points: int = 128) -> Continuum:
        """Currents that are constant on equal arcs.

        Args:
            values: for each pattern and arc, A per unit of t, ``(I, arcs)``.
            points: measured potentials.

        Raises:
            ValueError: a pattern that does not sum to zero (its number is given).
        """
        table = doubles(values, "values")
        if table.ndim != 2 or 0 in table.shape or not np.isfinite(table).all():
            raise InputError(
                f"values has to be a finite matrix (patterns, arcs), got shape {table.shape}"
            )
        arcs = table.shape[1]
        _check_balance(table.sum(axis=1), np.abs(table).sum(axis=1))
        return cls(_Piecewise(table), tuple(np.arange(arcs) / arcs), points)

    @classmethod
    def trigonometric(cls, order: int = 8, points: int = 128) -> Continuum:
        """``cos(2 pi n t)`` and ``sin(2 pi n t)`` for n from 1 to ``order``, A: 2 order patterns."""
        check_count(order, "order")
        return cls(_Waves(order), (), points)

    def system(self, discretization: Discretization) -> System:
        """Pose the equations.

        Raises:
            ValueError: the mesh is not two-dimensional, its boundary is not one closed curve, or the currents
                of a pattern do not sum to zero.
        """
        loop = boundary_loop(discretization)
        n = discretization.size
        loads = self._loads(loop, n)
        unknowns = np.stack([np.arange(n), np.full(n, -1)], axis=1)
        unknowns[0] = -1  # one potential is free to choose
        none = np.zeros(0, np.int64)
        trace = self._traces(loop, n).tolil()
        trace[0] = 0
        loads[0] = 0
        return System(
            size=n,
            unknowns=unknowns,
            rows=none,
            columns=none,
            mass=np.zeros(0),
            contact=none,
            impedances=np.zeros(0),
            sources=csr_array(loads),
            sensors=trace.tocsr(),
            drive=np.eye(loads.shape[1]),
            sense=np.eye(int(self.points)),
            measured=None,
            places=discretization.nodes,
        )

    def _loads(self, loop: BoundaryLoop, size: int) -> Array:
        """Integrals of the currents times each shape function, ``(N, I)``; pieces end at the jumps."""
        cuts = np.unique(np.concatenate([loop.start, np.asarray(self.breaks), [0.0, 1.0]]))
        t, step = _quadrature(cuts)
        values = doubles(self.currents(t), "the values of currents")
        if not np.isfinite(values).all():
            bad = np.flatnonzero(~np.isfinite(values).all(axis=1))[0]
            raise InputError(f"the currents of pattern {bad + 1} are not finite")
        _check_balance(values @ step, np.abs(values) @ step)
        shapes = loop.shapes(t, size)
        loads: Array = shapes.T @ (values * step).T
        return loads

    def _traces(self, loop: BoundaryLoop, size: int) -> csr_array:
        """Potential at the measured places, counted from the boundary's mean, ``(N, P)``."""
        places = np.arange(self.points) / self.points
        t, step = _quadrature(np.append(loop.start, loop.start[0] + 1))
        mean = coo_array(loop.shapes(t % 1, size).T @ step[:, None])
        everywhere = mean @ coo_array(np.ones((1, len(places))))
        return csr_array(loop.shapes(places, size).T - everywhere)


# Currents as classes, since functions within functions cannot be pickled.


@dataclass(frozen=True, eq=False)
class _Piecewise:
    """Constant on equal arcs, ``(I, arcs)``."""

    table: Array

    def __call__(self, t: Array) -> Array:
        arcs = self.table.shape[1]
        return self.table[:, np.floor((t % 1) * arcs).astype(int).clip(0, arcs - 1)]


@dataclass(frozen=True)
class _Waves:
    """Cosines and sines of up to ``order`` waves around the boundary."""

    order: int

    def __call__(self, t: Array) -> Array:
        angle = 2 * np.pi * np.arange(1, self.order + 1)[:, None] * t
        return np.stack([np.cos(angle), np.sin(angle)], axis=1).reshape(2 * self.order, -1)


@dataclass(frozen=True, eq=False)
class BoundaryLoop:
    """Boundary edges in counterclockwise order.

    Places are ``t`` in [0, 1), the part of the boundary's length from the positive x axis.

    Attributes:
        dofs: degrees of freedom of each edge: start, end and, for second-order elements, middle, ``(F,
            2 or 3)``.
        start: t of each edge's start, ascending, ``(F,)``.
        length: of the boundary, m.
    """

    dofs: Index
    start: Array
    length: float

    def shapes(self, t: Array, size: int) -> csr_array:
        """The shape functions' values at ``t`` of ``(P,)``: ``(P, size)``."""
        # -1: the last edge, which reaches over t = 0
        edge = np.searchsorted(self.start, t, side="right") - 1
        width = np.diff(self.start, append=self.start[0] + 1)
        x = (t - self.start[edge] + (edge < 0)) / width[edge]
        if self.dofs.shape[1] == 2:
            values = np.stack([1 - x, x], axis=1)
        else:
            values = np.stack([(1 - x) * (1 - 2 * x), x * (2 * x - 1), 4 * x * (1 - x)], axis=1)
        rows = np.repeat(np.arange(len(t)), values.shape[1])
        entries = (values.ravel(), (rows, self.dofs[edge].ravel()))
        return coo_array(entries, shape=(len(t), size)).tocsr()


def boundary_loop(discretization: Discretization) -> BoundaryLoop:
    """Walk once around the boundary.

    Raises:
        ValueError: the mesh is not two-dimensional, or its boundary is not one closed curve.
    """
    d = discretization
    if d.cells.shape[1] != 3:
        raise InputError("the continuum model is for two-dimensional meshes")
    dofs = _walk(d)
    lengths = _lengths(d.nodes, dofs)
    total = float(lengths.sum())
    start = np.concatenate([[0.0], np.cumsum(lengths)[:-1]]) / total
    start = (start - _origin(d.nodes, dofs, start, lengths / total)) % 1
    first = int(np.argmin(start))
    return BoundaryLoop(np.roll(dofs, -first, axis=0), np.roll(start, -first), total)


def _walk(d: Discretization) -> Index:
    """Edges of one cell only as they follow each other counterclockwise: start, end, perhaps middle."""
    edges = boundary_facets(d.dofs, 2)[0]
    graph = coo_array((np.ones(len(edges)), edges[:, :2].T), shape=(d.size, d.size))
    nodes = depth_first_order(graph, edges[0, 0], directed=False, return_predecessors=False)
    if len(nodes) != len(edges):
        raise InputError(
            "the mesh's boundary falls into several curves; the continuum model needs one"
        )
    x, y = d.nodes[nodes].T
    if x @ np.roll(y, -1) < y @ np.roll(x, -1):  # the area inside is negative
        nodes = nodes[::-1]
    dofs = np.stack([nodes, np.roll(nodes, -1)], axis=1)
    keys, wanted = facet_keys(edges[:, :2], d.size), facet_keys(dofs, d.size)
    order = np.argsort(keys)
    middles = edges[order[np.searchsorted(keys[order], wanted)], 2:]
    return np.hstack([dofs, middles]).astype(np.int64)


def _lengths(nodes: Array, dofs: Index) -> Array:
    """Length of each edge, m, ``(F,)``; of second-order edges along their parabola."""
    a, b = nodes[dofs[:, 0]], nodes[dofs[:, 1]]
    if dofs.shape[1] == 2:
        return np.asarray(np.linalg.norm(b - a, axis=1))
    c = nodes[dofs[:, 2]]
    x, weight = np.polynomial.legendre.leggauss(5)
    x = ((x + 1) / 2)[:, None, None]
    speed = (4 * x - 3) * a + (4 * x - 1) * b + (4 - 8 * x) * c
    return np.asarray((weight / 2) @ np.linalg.norm(speed, axis=2))


def _origin(nodes: Array, dofs: Index, start: Array, width: Array) -> float:
    """Where the boundary crosses the positive x axis, seen from the middle of its box."""
    rim = nodes[dofs[:, 0]]
    middle = (rim.min(axis=0) + rim.max(axis=0)) / 2
    (x1, y1), (x2, y2) = (rim - middle).T, (nodes[dofs[:, 1]] - middle).T
    crossing = np.flatnonzero((y1 <= 0) & (y2 > 0) & (x1 + x2 > 0))
    if len(crossing) == 0:
        return 0.0
    k = crossing[np.argmax(x1[crossing] + x2[crossing])]
    return float(start[k] + width[k] * -y1[k] / (y2[k] - y1[k]))


def _quadrature(cuts: Array) -> tuple[Array, Array]:
    """Places and weights of Gauss' rule on each interval between neighbouring cuts, ``(P,)`` each."""
    x, weight = _GAUSS
    width = np.diff(cuts)[:, None]
    return (cuts[:-1, None] + width * (x + 1) / 2).ravel(), (width * weight / 2).ravel()


def _check_balance(total: Array, mass: Array) -> None:
    wrong = np.flatnonzero(np.abs(total) > 1e-6 * mass)
    if len(wrong):
        raise InputError(
            f"the currents of pattern {wrong[0] + 1} sum to {total[wrong[0]]:.6g} A; what flows in has "
            "to flow out"
        )
