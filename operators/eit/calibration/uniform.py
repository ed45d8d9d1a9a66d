"""A tank of one conductivity, condensed onto its contacts: what a calibration evaluates many times.

With one conductivity s the matrix of the complete electrode model is ``s K + C(z)``. Contacts and currents
touch few of its unknowns only: the drops over the contacts and the potentials of the electrodes. Let S be the
Schur complement of K on them. Then

    (s S + C(z)) w = sources

is all that is left of the model, a small dense system, whatever s and z are. S costs one sparse
factorization.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_array
from torch import Tensor

from onmanifold.operators.eit.fem.discretization import Discretization
from onmanifold.operators.eit.geometry.base import Geometry
from onmanifold.operators.eit.models.electrodes import CompleteElectrodes
from onmanifold.operators.eit.models.protocol import Protocol
from onmanifold.operators.eit.models.system import stiffness_entries
from onmanifold.operators.eit.solvers import make_solver
from onmanifold.operators.eit.solvers.base import not_positive_definite

_COLUMNS = 256  # of the Schur complement at a time: in three dimensions contacts have many nodes


class UniformTank:
    """The potentials of all electrodes in each injection, for any conductivity and contact impedances.

    Args:
        geometry: the tank; shunted electrodes have no contact.
        protocol: its injections.
        discretization: of the tank.

    Example:
        >>> from onmanifold.operators.eit import Tank, load_discretization
        >>> tank = Tank.unit()
        >>> model = UniformTank(tank, Protocol.adjacent(32), load_discretization("coarse", tank))
        >>> w = model.solve(2.0, torch.from_numpy(tank.impedances))
        >>> model.read(model.transfer(w)).shape
        torch.Size([32, 32])
    """

    def __init__(
        self, geometry: Geometry, protocol: Protocol, discretization: Discretization
    ) -> None:
        full = Protocol(protocol.injections, np.eye(protocol.electrodes))
        model = CompleteElectrodes(geometry.impedances, full, geometry.shunted)
        self.discretization = discretization
        self.system = system = model.system(discretization)
        row, column, _, value = stiffness_entries(discretization, system)
        shape = (system.size, system.size)
        matrix = coo_array((value, (row, column)), shape=shape).tocsr()
        kept = np.union1d(system.rows, system.sources.nonzero()[0])
        inner = np.setdiff1d(row, kept)
        block = matrix[inner][:, inner]
        block.sort_indices()
        solver = make_solver("auto", block.indptr, block.indices, system.places[inner])
        self._kept, self._inner = torch.from_numpy(kept), torch.from_numpy(inner)
        self._factor = solver.factorize(torch.from_numpy(block.data)[None])
        self._coupling = matrix[inner][:, kept]
        self._schur = torch.from_numpy(matrix[kept][:, kept].toarray())
        for start in range(0, len(kept), _COLUMNS):
            part = slice(start, start + _COLUMNS)
            right = torch.from_numpy(self._coupling[:, part].toarray())
            inside = self._factor.solve(right)[0].numpy()
            self._schur[:, part] -= torch.from_numpy(self._coupling.T @ inside)
        self._sources = torch.from_numpy(system.sources[kept].toarray())
        self._mass, self._contact = torch.from_numpy(system.mass), torch.from_numpy(system.contact)
        self._rows, self._columns = (
            torch.from_numpy(np.searchsorted(kept, index))
            for index in (system.rows, system.columns)
        )
        self._drive, self._sense = torch.from_numpy(system.drive), torch.from_numpy(system.sense)

    def solve(self, s: float, z: Tensor) -> Tensor:
        """Drops and potentials at the contacts for unit currents from each electrode to the last.

        Args:
            s: conductivity, S/m.
            z: contact impedances, Ohm m^2, ``(L,)``.

        Returns:
            ``w``, V/A, ``(b, L - 1)``.

        Raises:
            ValueError: the equations are singular to rounding, as with extreme contacts.
        """
        matrix = s * self._schur
        at = self._rows * len(matrix) + self._columns
        matrix.view(-1).index_add_(0, at, self._mass / z[self._contact])
        factor, info = torch.linalg.cholesky_ex(matrix)
        if int(info):
            raise not_positive_definite(0)
        return torch.cholesky_solve(self._sources, factor)

    def transfer(self, w: Tensor) -> Tensor:
        """What each unit current reads of each, V/A, ``(L - 1, L - 1)``."""
        return self._sources.T @ w

    def read(self, transfer: Tensor) -> Tensor:
        """Potentials of the electrodes in each injection, V, ``(..., L - 1, L - 1)`` to ``(..., I, L)``."""
        return self._drive.T @ transfer @ self._sense

    # Derivatives of the transfer impedances -------------------------------------------------------

    def by_conductivity(self, w: Tensor) -> Tensor:
        """By s, ``(L - 1, L - 1)``."""
        return -(w.T @ (self._schur @ w))

    def by_impedances(self, w: Tensor, z: Tensor) -> Tensor:
        """By each contact impedance, ``(L, L - 1, L - 1)``.

        Where the current density is j, the drop over the contact is ``z j``: only these drops count.
        """
        count = w.shape[1]
        change = w.new_zeros(len(z), count * count)
        weighted = self._mass[:, None] * w[self._columns]
        for part in torch.arange(len(weighted)).split(4096):
            drops = w[self._rows[part]].unsqueeze(2) * weighted[part].unsqueeze(1)
            change.index_add_(0, self._contact[part], drops.flatten(1))
        return (change / z[:, None] ** 2).view(-1, count, count)

    def potentials(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Potentials at all degrees of freedom, and drops over the contacts there: ``(N, L - 1)`` each."""
        full = w.new_zeros(self.system.size + 1, w.shape[1])  # the last row is what -1 refers to
        full[self._kept] = w
        full[self._inner] = -self._factor.solve(torch.from_numpy(self._coupling @ w.numpy()))[0]
        one, other = torch.from_numpy(self.system.unknowns).T
        drops = full[one].clone()
        drops[other < 0] = 0.0
        return full[one] + full[other], drops
