"""The angles of a tank's electrodes, from a measurement without objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onmanifold.checks import check_count, check_number
from onmanifold.operators.eit.calibration.calibrate import (
    Calibration,
    calibration,
    fit_reference,
)
from onmanifold.operators.eit.calibration.reference_fit import (
    Evaluation,
    Fitted,
    ReferenceFit,
)
from onmanifold.operators.eit.calibration.uniform import UniformTank
from onmanifold.operators.eit.channels.flags import flag_channels
from onmanifold.operators.eit.fem.assembly import Form, element_matrices, mass, stiffness
from onmanifold.operators.eit.geometry.tank import Tank
from onmanifold.operators.eit.measurements.measurement import Measurement
from onmanifold.operators.eit.measurements.noise import noise_std
from onmanifold.operators.eit.mesh.mesh import Mesh
from onmanifold.operators.eit.mesh.polar import (
    electrode_edges,
    polar_mesh,
    turned,
    with_electrode_edges,
)

Array = NDArray[np.float64]

_NUDGE = 1e-6  # degrees, of the difference quotients of element matrices
_UNRELIABLE = 20.0  # by how much the errors of bad channels are taken to be larger
_ROOM = 0.4  # share of an electrode or gap by which an edge may move into it


@dataclass(frozen=True, eq=False)
class ElectrodeFit:
    """Electrodes that fit a reference measurement.

    Attributes:
        edges: angles at which each electrode starts and ends, degrees, counterclockwise, ``(L, 2)``.
        calibration: of the tank with these electrodes.
        before: relative residual of the reference with evenly spaced electrodes.
    """

    edges: Array
    calibration: Calibration
    before: float


def calibrate_electrodes(
    tank: Tank,
    reference: Measurement,
    *,
    make_mesh: Callable[[Tank], Mesh] | None = None,
    fit: Sequence[str] = ("conductivity", "common", "currents"),
    spread: float = 0.3,
    error: float = 0.003,
    rounds: int = 2,
) -> ElectrodeFit:
    """:func:`calibrate` with the place and width of each electrode as further unknowns.

    Gauss-Newton steps in the angles at which electrodes start and end, together with everything in ``fit``.
    A weak normal prior holds the edges where the tank has them. The nodes of the mesh near the wall turn with
    the edges (:func:`with_electrode_edges`); it may be coarse inside, where no objects are. Channels that
    :func:`flag_channels` finds bad hardly count. A turn of all electrodes, and the shifts ``a cos + b sin``
    of their angles that come from conformal maps of the disk, change nothing in a tank without objects:
    there the prior decides.

    Args:
        tank: with the width that fits the reference best; see :func:`calibrate_width`.
        reference: a measurement of the tank without objects.
        make_mesh: of a tank; by default :func:`polar_mesh`, fine at the wall. How the wall is resolved
            acts like the electrodes' width: use the edges with meshes that are alike there.
        fit: as for :func:`calibrate`.
        spread: standard deviation of each edge, degrees.
        error: relative residual that the model leaves, of each voltage and of the typical one.
        rounds: steps.

    Raises:
        ValueError: as :func:`calibrate`.

    Example:
        >>> from onmanifold.operators.eit import EIT, Protocol
        >>> tank = Tank(radius=0.1, electrodes=8, width=20)
        >>> eit = EIT(tank, Protocol.skip(8, 2), (1, 4, 4), mesh=polar_mesh(tank, 8, 1.4))
        >>> water = Measurement.from_values(eit.protocol, eit.A(torch.ones(1, 1, 4, 4).double())[0])
        >>> found = calibrate_electrodes(tank, water, fit=("conductivity",), rounds=1)
        >>> bool(abs(found.edges - electrode_edges(tank)).max() < 0.05)
        True
    """
    check_count(rounds, "calibrate_electrodes: rounds")
    for value, name in ((spread, "spread"), (error, "error")):
        check_number(value, f"calibrate_electrodes: {name}")
    mesh = (make_mesh or fine_at_wall)(tank)
    problem = _EdgeProblem(tank, reference, mesh, fit, spread, _expected_errors(reference, error))
    room = _ROOM * min(tank.width, tank.spacing - tank.width)
    edges = nominal = electrode_edges(tank)
    here, found, plain = problem.fitted(edges)
    before = here.relative(found.at)
    for _ in range(rounds):
        moved = edges + problem.step(edges, here, found.at) - nominal
        edges = nominal + np.clip(moved, -room, room)
        here, found, plain = problem.fitted(edges)
    return ElectrodeFit(edges, calibration(tank, here, found, plain), before)


def fine_at_wall(tank: Tank, longest: float = 0.25) -> Mesh:
    """Eight edges along each electrode and each gap; inside no longer ones than ``longest``, in radii."""
    return polar_mesh(tank, 8, 1.4, longest)


def _expected_errors(reference: Measurement, error: float) -> Tensor:
    """Standard deviation of noise and model together, V, the protocol's shape."""
    voltages = reference.voltages
    typical = voltages[reference.mask].square().mean().sqrt()
    noise = noise_std(torch.where(reference.mask, voltages, typical))
    std = (noise.square() + error**2 * (voltages.square() + typical**2)).sqrt()
    factor = torch.ones(reference.protocol.full_shape, dtype=torch.float64)
    factor[:, list(flag_channels(reference).bad)] = _UNRELIABLE
    return std * reference.protocol.pick(factor)


@dataclass(frozen=True, eq=False)
class _EdgeProblem:
    """The least-squares problem of the edges; ``std`` is what is expected to be left of each voltage, V."""

    tank: Tank
    reference: Measurement
    mesh: Mesh
    fit: Sequence[str]
    spread: float
    std: Tensor

    def fitted(self, edges: Array) -> tuple[ReferenceFit, Fitted, Fitted]:
        """All but the edges."""
        mesh = with_electrode_edges(self.mesh, self.tank, edges)
        return fit_reference(self.tank, self.reference, mesh, self.fit)

    def step(self, edges: Array, here: ReferenceFit, state: Evaluation) -> Array:
        """The Gauss-Newton step of the edges ``(L, 2)``; that of all else is left to :meth:`fitted`."""
        instrument = here.instrument(state.theta)
        s, z = (here.part(state.theta, name).exp() for name in ("conductivity", "impedances"))
        change = here.model.read(self.by_edges(edges, here.model, float(s), z))
        own = self.reference.protocol.pick(instrument.read(change, offsets=False))
        both = torch.cat([own, here.jacobian(state)])
        mask, prior = self.reference.mask, torch.full((edges.size,), self.spread**-2).double()
        weight = torch.cat([prior, here.weight])
        shift = torch.from_numpy((edges - electrode_edges(self.tank)).ravel())
        off = torch.cat([shift, (state.theta - here.origin)[here.free]])
        rows = (both / self.std)[:, mask]
        gradient = rows @ (here.residual(state) / self.std[mask]) - weight * off
        step = torch.linalg.solve(rows @ rows.T + weight.diag(), gradient)
        return np.asarray(step[: edges.size].view(edges.shape).numpy())

    def by_edges(self, edges: Array, model: UniformTank, s: float, z: Tensor) -> Tensor:
        """Derivative of the transfer impedances by each edge, per degree, ``(2 L, L - 1, L - 1)``.

        With ``dK`` the change of the matrix it is ``-w^T dK w``; few cells change with an edge.

        Args:
            edges: where they are, degrees, ``(L, 2)``.
            model: with these edges.
            s: conductivity, S/m.
            z: contact impedances, Ohm m^2, ``(L,)``.
        """
        mesh, vertices = self.mesh, self.mesh.cells[:, : self.mesh.dim + 1]
        potentials, drops = model.potentials(model.solve(s, z))
        number = np.zeros(len(mesh.points), np.int64)  # of each vertex among the potentials
        number[vertices] = model.discretization.dofs
        nudges = _NUDGE * np.eye(edges.size).reshape(-1, *edges.shape)
        turn = partial(turned, mesh.points, self.tank)
        places = np.stack([turn(edges), *(turn(edges + nudge) for nudge in nudges)])
        inside = _changes(places, mesh.cells, mesh.dim, stiffness)
        contacts = _changes(places, mesh.facets, mesh.dim - 1, mass)
        by_cells = inside.summed(potentials, number[vertices], z.new_full((len(vertices),), s))
        corners = number[mesh.facets[:, : mesh.dim]]
        return -by_cells - contacts.summed(drops, corners, (1 / z)[mesh.electrode])


@dataclass(frozen=True, eq=False)
class _Changes:
    """How the matrices of cells, or facets, change with each of E edges; only those K that do.

    Attributes:
        count: how many change with each edge, ``(E,)``.
        cell: which, edge by edge, ``(K,)``.
        matrices: derivatives of their matrices, per degree, ``(K, n, n)``.
    """

    count: NDArray[np.int64]
    cell: NDArray[np.int64]
    matrices: Array

    def summed(self, values: Tensor, nodes: NDArray[np.int64], weight: Tensor) -> Tensor:
        """``u^T dE u`` of all that change with an edge: ``values`` ``(N, k)`` to ``(E, k, k)``.

        Args:
            values: at all nodes.
            nodes: of each cell, ``(C, n)``.
            weight: of each cell, ``(C,)``.
        """
        u = values[torch.from_numpy(nodes[self.cell])]
        weighted = weight[self.cell, None, None] * (torch.from_numpy(self.matrices) @ u)
        rows = (self.count * nodes.shape[1]).tolist()
        parts = (a.flatten(0, 1).split(rows) for a in (u, weighted))
        return torch.stack([a.T @ b for a, b in zip(*parts, strict=True)])


def _changes(places: Array, cells: NDArray[np.int32], dim: int, form: Form) -> _Changes:
    """Difference quotients between the first of ``places`` ``(1 + E, N, D)`` and the others."""
    moved = (places[1:] != places[0]).any(axis=2)[:, cells].any(axis=2)
    edge, cell = np.nonzero(moved)
    after = cells[cell] + (len(places[0]) * (1 + edge[:, None])).astype(np.int32)
    both = np.concatenate([cells, after])
    matrices = element_matrices(places.reshape(-1, places.shape[2]), both, dim, 1, form)
    before, after = matrices[: len(cells)][cell], matrices[len(cells) :]
    return _Changes(moved.sum(axis=1), cell, (after - before) / _NUDGE)
