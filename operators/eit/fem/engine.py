"""One factorization per conductivity, one solve per source; everything else is linear combination.

With ``w_a`` the potential of source a and ``q_b`` that of sensor b, for sources and sensors that are
columns of one matrix K's right-hand sides,

    Z_ab = sensor_b . w_a,        dZ_ab / ds_c = - int_c grad w_a . grad q_b.

In the complete electrode model sources and sensors are the same unit currents, so that every injection,
measurement, derivative and adjoint follows from ``L - 1`` solves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from onmanifold.errors import InputError
from onmanifold.operators.eit.fem.directions import Directions
from onmanifold.operators.eit.fem.discretization import Discretization
from onmanifold.operators.eit.fem.threads import each, one_thread
from onmanifold.operators.eit.models.system import (
    SLAB,
    ForwardModel,
    Slab,
    gradient_slabs,
    linear_assembly,
    pair_slabs,
)
from onmanifold.operators.eit.solvers import Factor, Solver, make_solver
from onmanifold.operators.sparse import SparseMatrix

Array = NDArray[np.float64]
_COLUMNS = 128  # combinations of the sensors that are held at a time


class Field(NamedTuple):
    """Potentials at one conductivity: of the sources, ``(n, k)``, and of the sensors, ``(n, m)``."""

    w: Tensor
    q: Tensor


@dataclass(frozen=True, eq=False)
class Fields:
    """Potentials at a batch of conductivities.

    Attributes:
        w: potentials of the sources, V, ``(B, n, k)``.
        factor: the matrices' factorizations; None where the sensors are the sources.
        sensors: right-hand sides of the sensors, ``(n, m)`` or ``(B, n, m)``; None likewise.
    """

    w: Tensor
    factor: Factor | None = None
    sensors: Tensor | None = None

    @cached_property
    def q(self) -> Tensor:
        """Potentials of the sensors, ``(B, n, m)``, solved for when they are first asked for."""
        if self.factor is None or self.sensors is None:
            return self.w
        q = self.factor.solve(self.sensors)
        with one_thread():
            return q.contiguous()

    @property
    def solved(self) -> bool:
        """Whether the potentials of the sensors are known."""
        return self.factor is None or "q" in vars(self)

    def __len__(self) -> int:
        return len(self.w)

    def __getitem__(self, member: int) -> Field:
        w = self.w[member]
        return Field(w, w if self.factor is None else self.q[member])

    def members(self) -> list[Field]:
        """All members one by one."""
        return [self[k] for k in range(len(self))]

    def select(self, rows: Tensor) -> Fields:
        """The members ``rows``, a mask or an index."""
        if self.factor is None:
            return Fields(self.w[rows])
        part = Fields(self.w[rows], self.factor.select(rows), self.sensors)
        if self.solved:
            vars(part)["q"] = self.q[rows]
        return part


class Engine:
    """A model on one discretization.

    Args:
        discretization: element matrices and electrode blocks.
        model: such as :class:`CompleteElectrodes` or :class:`Continuum`.
        solver: of the linear systems: ``"auto"``, ``"mumps"``, ``"superlu"`` or ``"torch"``, or what
            makes one, as :meth:`Share.solver` on the ranks of an MPI run.
        device: where to compute; only ``"torch"`` solves on a GPU.

    Example:
        >>> from onmanifold.operators.eit import Protocol, Tank, load_discretization
        >>> from onmanifold.operators.eit.models.electrodes import CompleteElectrodes
        >>> tank = Tank.unit()
        >>> model = CompleteElectrodes(tank.impedances, Protocol.adjacent(32))
        >>> engine = Engine(load_discretization("coarse", tank), model)
        >>> engine.voltages(engine.fields(torch.ones(1, engine.cells, dtype=torch.float64))).shape
        torch.Size([1, 32, 32])
    """

    def __init__(
        self,
        discretization: Discretization,
        model: ForwardModel,
        solver: str | Callable[..., Solver] = "auto",
        device: torch.device | str = "cpu",
    ) -> None:
        self.discretization = discretization
        self.device = torch.device(device)
        self.cells = len(discretization.cells)
        self.system = system = model.system(discretization)
        assembly, indptr, indices = linear_assembly(discretization, system)
        self._assembly = SparseMatrix(assembly, self.device)
        self._solver: Solver = make_solver(solver, indptr, indices, system.places, self.device)
        self._sources = self._tensor(system.sources.toarray())
        read = system.sources if system.sensors is None else system.sensors
        read_at = np.unique(read.nonzero()[0])
        self._read, self._read_at = self._tensor(read[read_at].toarray()), self._tensor(read_at)
        self._drive, self._sense = self._tensor(system.drive), self._tensor(system.sense)
        self._measured = None if system.measured is None else self._tensor(system.measured)
        injections, measurements = system.drive.shape[1], system.sense.shape[1]
        self.y_shape: tuple[int, ...] = (
            (injections, measurements) if system.measured is None else (int(system.measured.sum()),)
        )

    # Solutions ------------------------------------------------------------------------------------

    def fields(self, s: Tensor, impedances: Tensor | None = None) -> Fields:
        """Potentials of the sources: one factorization and k solves for each member.

        Args:
            s: conductivity of each cell, S/m, ``(B, C)``, float64; positive.
            impedances: contact impedances instead of the model's own, Ohm m^2, ``(L,)`` or ``(B, L)``.
        """
        factor = self._solver.factorize(self._entries(s, impedances))
        w = factor.solve(self._sources)
        with one_thread():
            w = w.contiguous()
        if self.system.sensors is None:  # the factorization has done its work
            return Fields(w)
        return Fields(w, factor, self._sensors)

    @cached_property
    def _sensors(self) -> Tensor:
        """Right-hand sides of the sensors, ``(n, m)``."""
        return self._driven(torch.eye(len(self._sense), dtype=torch.float64, device=self.device))

    def _driven(self, weights: Tensor) -> Tensor:
        """Right-hand sides of combinations of the sensors: ``(..., r, m)`` to ``(..., n, r)``."""
        right = weights.new_zeros(*weights.shape[:-2], self.system.size, weights.shape[-2])
        right[..., self._read_at, :] = self._read @ weights.mT
        return right

    def voltages(self, fields: Fields) -> Tensor:
        """Measured voltages, V, ``(B, *y_shape)``."""
        with one_thread():
            return self._measure(torch.stack([self.transfer(w) for w in fields.w]))

    def transfer(self, w: Tensor) -> Tensor:
        """What the sensors read for each source, V/A: ``(n, k)`` to ``(k, m)``."""
        return (self._read.T @ w[self._read_at]).T

    # Derivatives: cells are shared out among torch's threads -----------------------------------------

    def jvp(self, field: Field, ds: Tensor | csr_array) -> Tensor:
        """Change of the voltages in T directions ``ds`` of ``(T, C)``: ``(T, *y_shape)``, in their dtype.

        Directions that move few cells cost little; on the CPU they may be sparse.

        On several ranks what this one's cells contribute: :meth:`sum` adds them up.
        """
        change = self._directions.change(*field, ds)
        read = change @ self._sense.to(change)
        return read if self._measured is None else read[:, self._measured]

    @cached_property
    def _directions(self) -> Directions:
        return Directions(self.discretization, self.system, self.device)

    def vjp(self, fields: Fields, du: Tensor) -> Tensor:
        """Adjoint of :meth:`jvp` for all members: cotangents ``(B, T, *y_shape)`` to ``(B, C, T)``.

        Where the sensors' potentials are not known, and are more, by a solve for each source and cotangent.
        """
        (k, m), count = self._shape, du.shape[1]
        weights = self._spread(du).flatten(1, 2)  # (B, T k, m)
        by_cells = partial(self._by_cells, self._pairs)  # made once, not in each thread
        if self.system.sensors is None or fields.solved or count * k >= m:
            members = fields.members()
            parts = each(lambda b: self._vjp(by_cells, members[b], weights[b]), len(members))
        else:
            assert fields.factor is not None
            with one_thread():
                driven = fields.factor.solve(self._driven(weights)).contiguous()
            parts = each(lambda b: by_cells(fields.w[b], driven[b]), len(du))
        return torch.stack(parts)

    def _vjp(
        self, by_cells: Callable[[Tensor, Tensor], Tensor], field: Field, weights: Tensor
    ) -> Tensor:
        """Of one member, for cotangents as combinations of the sensors, ``(T k, m)``."""
        step = self._shape[0] * max(1, _COLUMNS // self._shape[0])
        parts = [by_cells(field.w, field.q @ part.T) for part in weights.split(step)]
        return torch.cat(parts, dim=1)

    def _by_cells(self, pairs: tuple[list[Slab], SparseMatrix], w: Tensor, q: Tensor) -> Tensor:
        """``- sum_a int_c grad w_a . grad q_ta`` of ``(n, k)`` and ``(n, T k)``: ``(C, T)``."""
        slabs, by_cell = pairs
        products = w.new_empty(by_cell.shape[1], q.shape[1] // w.shape[1])
        ones = w.new_ones(w.shape[1])

        def fill(share: list[Slab]) -> Tensor:
            for start, count, differences in share:
                part = (differences @ q).view(count, -1, w.shape[1])
                part *= (differences @ w).unsqueeze(1)
                products[start : start + count] = part @ ones  # faster than a sum
            return products

        self._in_shares(fill, slabs)
        return by_cell @ products

    def jacobian(self, field: Field, average: SparseMatrix | None = None) -> Tensor:
        """Derivative of the voltages by the conductivity of each cell, ``(*y_shape, C)``.

        Args:
            field: potentials.
            average: pixels to cells, ``(C, P)``: the derivative by each pixel, ``(*y_shape, P)``; on
                several ranks what this one's cells contribute.
        """
        if average is not None:
            return self._pixel_jacobian(field, average)
        full = field.w.new_empty(*self.y_shape, self.cells)

        def fill(share: list[Slab]) -> Tensor:
            for i, products in self._products(field, share, 1024):
                full[..., i : i + len(products)] = -self._measure(products).movedim(0, -1)
            return full

        self._in_shares(fill, self._slabs)
        return full

    def _pixel_jacobian(self, field: Field, average: SparseMatrix) -> Tensor:
        k, m = self._shape

        def change(share: list[Slab]) -> Tensor:
            total = field.w.new_zeros(average.shape[1], k * m)
            for i, products in self._products(field, share, SLAB):
                total -= average.rows(i, i + len(products)).adjoint(products.flatten(1))
            return total

        return self._measure(self._total(change).unflatten(1, (k, m))).movedim(0, -1)

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all parts of a mesh that is distributed over several processes."""
        return self._solver.sum(value)

    # Inside ---------------------------------------------------------------------------------------

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self._drive), len(self._sense)

    def _tensor(self, array: NDArray[np.generic]) -> Tensor:
        return torch.tensor(array, device=self.device)

    def _impedances(self, given: Tensor | None) -> Tensor:
        if given is None:
            return self._tensor(self.system.impedances)
        bad = (~(torch.isfinite(given) & (given > 0))).nonzero()
        if len(bad):
            worst = float(given[tuple(bad[0])])
            raise InputError(
                f"the contact impedance of electrode {int(bad[0, -1]) + 1} has to be positive and finite, "
                f"got {worst:g}"
            )
        return given.to(self.device, torch.float64)

    def _entries(self, s: Tensor, impedances: Tensor | None) -> Tensor:
        """Entries of the matrices, ``(B, nnz)``."""
        z = self._impedances(impedances).expand(len(s), -1)
        with one_thread():
            parameters = torch.cat([s.to(self.device), 1 / z, z.new_ones(len(s), 1)], dim=1)
            return (self._assembly @ parameters.T.contiguous()).T.contiguous()

    def _measure(self, z: Tensor) -> Tensor:
        """Voltages for readings of the sensors: ``(..., k, m)`` to ``(..., *y_shape)``."""
        voltages = self._drive.T @ z @ self._sense
        return voltages if self._measured is None else voltages[..., self._measured]

    def _spread(self, du: Tensor) -> Tensor:
        """Adjoint of :meth:`_measure`: ``(..., *y_shape)`` to ``(..., k, m)``."""
        if self._measured is not None:
            full = du.new_zeros(*du.shape[:-1], *self._measured.shape)
            full[..., self._measured] = du
            du = full
        return self._drive @ du @ self._sense.T

    @cached_property
    def _slabs(self) -> list[Slab]:
        return gradient_slabs(self.discretization, self.system, self.device)

    @cached_property
    def _pairs(self) -> tuple[list[Slab], SparseMatrix]:
        return pair_slabs(self.discretization, self.system, self.device)

    def _in_shares(self, work: Callable[[list[Slab]], Tensor], slabs: list[Slab]) -> list[Tensor]:
        """Call ``work`` with the slabs of each thread."""
        count = torch.get_num_threads() if self.device.type == "cpu" else 1
        shares = [slabs[k::count] for k in range(min(count, len(slabs)))]
        if len(shares) == 1:
            with one_thread():
                return [work(shares[0])]
        return each(lambda k: work(shares[k]), len(shares))

    def _total(self, work: Callable[[list[Slab]], Tensor]) -> Tensor:
        parts = self._in_shares(work, self._slabs)
        for part in parts[1:]:
            parts[0] += part
        return parts[0]

    def _gradients(self, field: Field, share: list[Slab]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """First cell and ``g``, ``h`` with ``int_c grad w_a . grad q_b = sum_r g[c, r, a] h[c, r, b]``."""
        w, q = field
        for start, count, gradient in share:
            g = (gradient @ w).view(count, -1, w.shape[1])
            yield start, g, g if q is w else (gradient @ q).view(count, -1, q.shape[1])

    def _products(self, field: Field, share: list[Slab], size: int) -> Iterator[tuple[int, Tensor]]:
        """``int_c grad w_a . grad q_b`` of ``size`` cells at a time: first cell, ``(c, k, m)``."""
        for start, g, h in self._gradients(field, share):
            for i in range(0, len(g), size):
                yield start + i, torch.bmm(g[i : i + size].transpose(1, 2), h[i : i + size])
