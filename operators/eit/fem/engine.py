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
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onmanifold.errors import InputError
from onmanifold.operators.eit.fem.discretization import Discretization
from onmanifold.operators.eit.fem.sparse import SparseMatrix
from onmanifold.operators.eit.fem.threads import each, one_thread
from onmanifold.operators.eit.models.system import (
    SLAB,
    ForwardModel,
    Slab,
    gradient_slabs,
    linear_assembly,
)
from onmanifold.operators.eit.solvers import Factor, Solver, make_solver

Array = NDArray[np.float64]
_CHUNK = 128  # cells whose products of gradients are formed at a time: they stay in the cache


class Field(NamedTuple):
    """Potentials at one conductivity.

    Attributes:
        w: of the sources, ``(n, k)``.
        q: of the sensors, ``(n, m)``; None where they were not needed so far.
    """

    w: Tensor
    q: Tensor | None


@dataclass(frozen=True, eq=False)
class Fields:
    """Potentials at a batch of conductivities.

    Attributes:
        w: potentials of the sources, V, ``(B, n, k)``.
        q: potentials of the sensors, ``(B, n, m)``; ``w`` where they are the sources, None if unknown so far.
        factor: the matrices' factorizations, where more solutions may be asked for; else None.
    """

    w: Tensor
    q: Tensor | None
    factor: Factor | None

    def __len__(self) -> int:
        return len(self.w)

    def __getitem__(self, member: int) -> Field:
        w = self.w[member]
        if self.q is self.w:
            return Field(w, w)
        return Field(w, None if self.q is None else self.q[member])

    def select(self, rows: Tensor) -> Fields:
        """The members ``rows``, a mask or an index."""
        w = self.w[rows]
        q = w if self.q is self.w else None if self.q is None else self.q[rows]
        return Fields(w, q, None if self.factor is None else self.factor.select(rows))


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
        self._slabs = gradient_slabs(discretization, system, self.device)
        self._solver: Solver = make_solver(solver, indptr, indices, system.places, self.device)
        self._sources = self._tensor(system.sources.toarray())
        self._sensors = None if system.sensors is None else SparseMatrix(system.sensors.T, device)
        self._reader = self._sensors or SparseMatrix(system.sources.T, device)
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
        if self._sensors is None:  # the factorization has done its work
            return Fields(w, w, None)
        return Fields(w, None, factor)

    def with_sensors(self, fields: Fields) -> Fields:
        """The same with the potentials of the sensors; solves only where they are not the sources."""
        if fields.q is not None or self._sensors is None or fields.factor is None:
            return fields
        eye = torch.eye(self._sensors.shape[0], dtype=torch.float64, device=self.device)
        right = self._sensors.adjoint(eye)
        return Fields(fields.w, fields.factor.solve(right), fields.factor)

    def voltages(self, fields: Fields) -> Tensor:
        """Measured voltages, V, ``(B, *y_shape)``."""
        with one_thread():
            return self._measure(torch.stack([self.transfer(w) for w in fields.w]))

    def transfer(self, w: Tensor) -> Tensor:
        """What the sensors read for each source, V/A: ``(n, k)`` to ``(k, m)``."""
        return (self._reader @ w).T

    # Derivatives: cells are shared out among torch's threads -----------------------------------------

    def jvp(self, field: Field, ds: Tensor) -> Tensor:
        """Change of the voltages in T directions ``ds`` of ``(C, T)``: ``(T, *y_shape)``."""
        return self.sum(self.own_jvp(field, ds))

    def own_jvp(self, field: Field, ds: Tensor) -> Tensor:
        """What this process's cells contribute to :meth:`jvp`; may run on threads beside others."""
        k, m = self._shape

        def change(share: list[Slab]) -> Tensor:
            total = ds.new_zeros(k * m, ds.shape[1])
            for start, products in self._products(field, share, _CHUNK):
                part = products.flatten(1)
                total.addmm_(part.T, ds[start : start + len(part)], alpha=-1.0)
            return total

        return self._measure(self._total(change).T.reshape(-1, k, m))

    def vjp(self, field: Field, du: Tensor) -> Tensor:
        """Adjoint of :meth:`jvp`: T cotangents ``(T, *y_shape)`` to ``(C, T)``."""
        weights = self._spread(du)
        result = du.new_empty(self.cells, len(du))

        def fill(share: list[Slab]) -> Tensor:
            for start, g, h in self._gradients(field, share):
                for t, weight in enumerate(weights):
                    part = ((g.flatten(0, 1) @ weight) * h.flatten(0, 1)).view(len(g), -1)
                    result[start : start + len(g), t] = -part.sum(dim=1)
            return result

        self._in_shares(fill)
        return result

    def vjp_by_solves(self, fields: Fields, du: Tensor) -> Tensor:
        """:meth:`vjp` of all members, by a solve for each source and cotangent.

        Args:
            fields: B members.
            du: cotangents ``(B, T, *y_shape)``.

        Returns:
            ``(B, C, T)``.
        """
        assert self._sensors is not None and fields.factor is not None
        batch, directions = du.shape[:2]
        with one_thread():
            weights = self._spread(du.flatten(0, 1)).flatten(0, 1)  # (B T k, m)
            right = self._sensors.adjoint(weights.T.contiguous())
            right = right.unflatten(1, (batch, -1)).transpose(0, 1).contiguous()
        adjoint = fields.factor.solve(right)
        with one_thread():
            adjoint = adjoint.contiguous()
        result = du.new_empty(batch, self.cells, directions)

        def fill(share: list[Slab]) -> Tensor:
            for b in range(batch):
                for start, g, h in self._gradients(Field(fields.w[b], adjoint[b]), share):
                    for t, part in enumerate(h.chunk(directions, dim=2)):
                        result[b, start : start + len(g), t] = -(g * part).sum(dim=(1, 2))
            return result

        self._in_shares(fill)
        return result

    def jacobian(self, field: Field, average: SparseMatrix | None = None) -> Tensor:
        """Derivative of the voltages by the conductivity of each cell, ``(*y_shape, C)``.

        Args:
            field: potentials.
            average: pixels to cells, ``(C, P)``: the derivative by each pixel, ``(*y_shape, P)``.
        """
        if average is not None:
            return self._pixel_jacobian(field, average)
        full = field.w.new_empty(*self.y_shape, self.cells)

        def fill(share: list[Slab]) -> Tensor:
            for i, products in self._products(field, share, 1024, self._drive, self._sense):
                part = products if self._measured is None else products[:, self._measured]
                full[..., i : i + len(part)] = -part.movedim(0, -1)
            return full

        self._in_shares(fill)
        return full

    def _pixel_jacobian(self, field: Field, average: SparseMatrix) -> Tensor:
        k, m = self._shape

        def change(share: list[Slab]) -> Tensor:
            total = field.w.new_zeros(average.shape[1], k * m)
            for i, products in self._products(field, share, SLAB):
                total -= average.rows(i, i + len(products)).adjoint(products.flatten(1))
            return total

        total = self.sum(self._total(change))
        return self._measure(total.unflatten(1, (k, m))).movedim(0, -1)

    def impedance_derivative(self, field: Field, impedances: Tensor | None = None) -> Tensor:
        """Derivative of the voltages by each contact impedance, V/(Ohm m^2), ``(L, *y_shape)``.

        Where the current density is j, the drop over the contact is ``z j``: only these drops count.
        """
        z, system = self._impedances(impedances), self.system
        k, m = self._shape
        change = z.new_zeros(len(z), k * m)
        mass, contact = self._tensor(system.mass), self._tensor(system.contact)
        w, q = _potentials(field)
        p, q = w[system.rows], q[system.columns]
        for rows in torch.arange(len(mass), device=self.device).split(4096):
            drops = p[rows].unsqueeze(2) * (mass[rows, None] * q[rows]).unsqueeze(1)
            change.index_add_(0, contact[rows], drops.flatten(1))
        return self._measure((self.sum(change) / z[:, None] ** 2).view(-1, k, m))

    def prefers_solves(self, fields: Fields, directions: int) -> bool:
        """Whether the adjoint in so many directions is cheaper by solves than by the sensors' potentials."""
        sources, sensors = self._shape
        return fields.q is None and sources * directions < sensors

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
        """Adjoint of :meth:`_measure`: ``(T, *y_shape)`` to ``(T, k, m)``."""
        if self._measured is not None:
            full = du.new_zeros(len(du), *self._measured.shape)
            full[:, self._measured] = du
            du = full
        return self._drive @ du @ self._sense.T

    def _in_shares(self, work: Callable[[list[Slab]], Tensor]) -> list[Tensor]:
        """Call ``work`` with the slabs of each thread."""
        count = torch.get_num_threads() if self.device.type == "cpu" else 1
        shares = [self._slabs[k::count] for k in range(min(count, len(self._slabs)))]
        return each(lambda k: work(shares[k]), len(shares))

    def _total(self, work: Callable[[list[Slab]], Tensor]) -> Tensor:
        parts = self._in_shares(work)
        for part in parts[1:]:
            parts[0] += part
        return parts[0]

    def _gradients(self, field: Field, share: list[Slab]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """First cell and ``g``, ``h`` with ``int_c grad w_a . grad q_b = sum_r g[c, r, a] h[c, r, b]``."""
        w, q = _potentials(field)
        for start, count, gradient in share:
            g = (gradient @ w).view(count, -1, w.shape[1])
            yield start, g, g if q is w else (gradient @ q).view(count, -1, q.shape[1])

    def _products(
        self,
        field: Field,
        share: list[Slab],
        size: int,
        left: Tensor | None = None,
        right: Tensor | None = None,
    ) -> Iterator[tuple[int, Tensor]]:
        """``int_c grad w_a . grad q_b`` of ``size`` cells at a time: first cell, ``(c, k, m)``.

        Of combinations of the sources and sensors, where ``left`` ``(k, I)`` and ``right`` ``(m, M)``
        are given.
        """
        for start, g, h in self._gradients(field, share):
            for i in range(0, len(g), size):
                a, b = g[i : i + size], h[i : i + size]
                a = a if left is None else a @ left
                b = b if right is None else b @ right
                yield start + i, torch.bmm(a.transpose(1, 2), b)


def _potentials(field: Field) -> tuple[Tensor, Tensor]:
    if field.q is None:
        raise InputError("the sensors' potentials are missing: call with_sensors first")
    return field.w, field.q
