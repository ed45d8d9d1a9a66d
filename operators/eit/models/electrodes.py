"""The complete electrode model, as equations that are linear in conductivity and contact conductance.

With conductivity ``s``, contact impedances ``z_l`` and electrodes ``e_l`` the model (Somersalo, Cheney,
Isaacson, SIAM J. Appl. Math. 52, 1992) asks for ``u`` and ``U`` with, for all ``v`` and ``V``,

    int s grad u . grad v + sum_l 1/z_l int_{e_l} (u - U_l) (v - V_l) = sum_l I_l V_l.

A node off the electrodes is grounded, which makes the matrix positive definite however poor the contacts
are. On the electrodes the unknowns are not the potentials ``u`` but the drops ``u - U_l`` over the
contacts: ``1/z_l`` then multiplies the drops alone, and good contacts, whose ``1/z_l`` is large, cost
no digits. A shunted electrode, whose contact is perfect, has no drops at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from onmanifold.errors import InputError
from onmanifold.operators.eit.arguments import doubles
from onmanifold.operators.eit.fem.discretization import Discretization
from onmanifold.operators.eit.models.protocol import Protocol
from onmanifold.operators.eit.models.system import System

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CompleteElectrodes:
    """The complete electrode model.

    Attributes:
        impedances: contact impedance z of each electrode, Ohm m^2 (Ohm m in two dimensions), ``(L,)``.
        protocol: injections and measurement patterns.
        shunted: electrodes with perfect contact, from 0; a z of theirs is not used.

    Raises:
        ValueError: (on use) contact impedances, protocol and mesh are for different numbers of electrodes.

    Example:
        >>> from onmanifold.operators.eit import Tank, load_discretization
        >>> model = CompleteElectrodes(Tank.unit().impedances, Protocol.adjacent(32))
        >>> mesh = load_discretization("coarse", Tank.unit())
        >>> model.system(mesh).size - mesh.size  # the potentials of the electrodes
        32
    """

    impedances: Array
    protocol: Protocol
    shunted: Sequence[int] = ()

    def system(self, discretization: Discretization) -> System:
        d, count = discretization, len(self.impedances)
        if not d.electrodes == count == self.protocol.electrodes:
            raise InputError(
                f"the mesh has {d.electrodes} electrodes; {count} contact impedances and a protocol "
                f"for {self.protocol.electrodes} electrodes came"
            )
        n = d.size
        unknowns = np.stack([np.arange(n), np.full(n, -1)], axis=1)
        unknowns[d.rows, 1] = n + d.electrode
        live = ~np.isin(d.electrode, self.shunted)
        unknowns[d.rows[~live], 0] = -1
        if d.ground is not None:
            unknowns[d.ground] = -1
        sources = np.zeros((n + count, count - 1))  # from each electrode to the last
        sources[n:] = np.eye(count)[:, :-1] - np.eye(count)[:, -1:]
        centred = self.protocol.patterns - self.protocol.patterns.mean(axis=0)
        return System(
            size=n + count,
            unknowns=unknowns,
            rows=d.rows[live].astype(np.int64),
            columns=d.columns[live].astype(np.int64),
            mass=d.mass[live],
            contact=d.electrode[live].astype(np.int64),
            impedances=doubles(self.impedances, "impedances"),
            sources=csr_array(sources),
            sensors=None,
            drive=self.protocol.injections[:-1].copy(),
            sense=centred[:-1].copy(),
            measured=self.protocol.measured,
            places=np.concatenate([d.nodes, np.full((count, d.nodes.shape[1]), np.nan)]),
        )
