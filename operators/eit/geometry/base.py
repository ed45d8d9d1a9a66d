"""What every geometry says of itself, and the contacts that all of them have."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from onmanifold.checks import check_field, check_number
from onmanifold.errors import InputError, InputTypeError
from onmanifold.operators.eit.arguments import doubles, whole_numbers
from onmanifold.operators.eit.mesh.mesh import Mesh

Array = NDArray[np.float64]


class Geometry(ABC):
    """A body with electrodes on its surface, in two or three dimensions D.

    :class:`Tank`, :class:`BoundaryCurve`, :class:`Cylinder` and :class:`MeshGeometry` are geometries.

    Attributes:
        contact_impedance: Ohm m^2 (Ohm m in two dimensions): one number, or one for each electrode.
        shunted: electrodes with perfect contact, from 0; their contact impedance is not used.
    """

    contact_impedance: float | Sequence[float]
    shunted: Sequence[int]

    @property
    @abstractmethod
    def electrodes(self) -> int:
        """Number of electrodes L."""

    @property
    @abstractmethod
    def centres(self) -> Array:
        """Centre of each electrode, m, ``(L, D)``."""

    @property
    @abstractmethod
    def extent(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Lower and upper corner of the box that an image covers, m, D numbers each."""

    @property
    def impedances(self) -> Array:
        """Contact impedance of each electrode, Ohm m^2 (Ohm m in two dimensions), ``(L,)``."""
        given = doubles(self.contact_impedance, "contact_impedance")
        return np.broadcast_to(given, (self.electrodes,)).copy()

    def _check_contacts(self) -> None:
        """Refuse contact impedances that are not positive and shunted electrodes that do not exist."""
        count = self.electrodes
        z = np.atleast_1d(doubles(self.contact_impedance, "contact_impedance"))
        if z.ndim != 1 or len(z) not in (1, count):
            raise InputError(
                f"contact_impedance has to be one number or {count} (one for each electrode), "
                f"got shape {z.shape}"
            )
        bad = np.flatnonzero(~(np.isfinite(z) & (z > 0)))
        if len(bad):
            raise InputError(
                f"the contact impedance of electrode {bad[0] + 1} has to be positive, got {z[bad[0]]}"
            )
        numbers = tuple(sorted(set(whole_numbers(self.shunted, "shunted").ravel().tolist())))
        beyond = [number for number in numbers if not 0 <= number < count]
        if beyond:
            raise InputError(
                f"shunted names electrodes by numbers 0 to {count - 1}, got {beyond[0]}"
            )
        object.__setattr__(self, "shunted", numbers)


@dataclass(frozen=True, eq=False)
class MeshGeometry(Geometry):
    """The geometry of a mesh that came from elsewhere.

    Images cover the smallest square (in 3D the box) around it. :meth:`of` makes it.

    Attributes:
        mesh: the mesh, m.
        contact_impedance: Ohm m^2 (Ohm m in two dimensions): one number, or one for each electrode.
        shunted: electrodes with perfect contact, from 0; their contact impedance is not used.

    Raises:
        ValueError: a contact impedance that is not positive or not one for each electrode, a shunted
            electrode that does not exist.

    Example:
        >>> points = [[0, 0], [2, 0], [2, 1], [0, 1]]
        >>> mesh = Mesh(points, [[0, 1, 2], [0, 2, 3]], facets=[[0, 1], [2, 3]], electrode=[0, 1])
        >>> geometry = MeshGeometry.of(mesh, contact_impedance=0.1)
        >>> geometry.centres.tolist(), geometry.extent
        ([[1.0, 0.0], [1.0, 1.0]], ((0.0, -0.5), (2.0, 1.5)))
    """

    mesh: Mesh
    contact_impedance: float | Sequence[float] = 1e-2
    shunted: Sequence[int] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.mesh, Mesh):
            raise InputTypeError(f"mesh has to be a Mesh, got {type(self.mesh).__name__}")
        self._check_contacts()

    @classmethod
    def of(
        cls,
        mesh: Mesh,
        contact_impedance: float | Sequence[float] = 1e-2,
        shunted: Sequence[int] = (),
    ) -> Self:
        """The geometry of a mesh.

        Args:
            mesh: the mesh, m.
            contact_impedance: Ohm m^2 (Ohm m in two dimensions): one number, or one for each electrode.
            shunted: electrodes with perfect contact, from 0.
        """
        return cls(mesh, contact_impedance, shunted)

    @property
    def electrodes(self) -> int:
        """Number of electrodes L."""
        return self.mesh.electrodes

    @cached_property
    def centres(self) -> Array:
        """Centre of each electrode, m, ``(L, D)``."""
        mesh = self.mesh
        corners = mesh.points[mesh.facets[:, : mesh.dim]]
        sides = corners[:, 1:] - corners[:, :1]
        size = np.sqrt(np.linalg.det(sides @ sides.transpose(0, 2, 1)))
        weighted = corners.mean(axis=1) * size[:, None]
        sums = [np.bincount(mesh.electrode, axis) for axis in weighted.T]
        return np.stack(sums, axis=1) / np.bincount(mesh.electrode, size)[:, None]

    @property
    def extent(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Lower and upper corner of the box that an image covers, m."""
        lower, upper = self.mesh.points.min(axis=0), self.mesh.points.max(axis=0)
        if self.mesh.dim == 2:
            middle, half = (lower + upper) / 2, (upper - lower).max() / 2
            lower, upper = middle - half, middle + half
        return tuple(lower.tolist()), tuple(upper.tolist())


def check_lengths(owner: Geometry, *names: str) -> None:
    """Make floats of these fields; refuse those that are not positive and finite."""
    for name in names:
        check_field(owner, name, check_number, low=-np.inf)
        if not getattr(owner, name) > 0:
            raise InputError(
                f"{name.replace('_', ' ')} has to be positive, got {getattr(owner, name)}"
            )
