"""What every geometry says of itself, and the checks that all of them share."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onmanifold.errors import InputError
from onmanifold.operators.eit.mesh.mesh import Mesh

Array = NDArray[np.float64]


class Geometry(typing.Protocol):
    """A body with electrodes on its surface, in two or three dimensions D.

    :class:`Tank`, :class:`BoundaryCurve`, :class:`Cylinder` and :class:`MeshGeometry` are geometries.
    """

    @property
    def electrodes(self) -> int:
        """Number of electrodes L."""
        ...

    @property
    def impedances(self) -> Array:
        """Contact impedance of each electrode, Ohm m^2 (Ohm m in two dimensions), ``(L,)``."""
        ...

    @property
    def shunted(self) -> Sequence[int]:
        """Electrodes with perfect contact, from 0; their contact impedance is not used."""
        ...

    @property
    def centres(self) -> Array:
        """Centre of each electrode, m, ``(L, D)``."""
        ...

    @property
    def extent(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Lower and upper corner of the box that an image covers, m, D numbers each."""
        ...


@dataclass(frozen=True, eq=False)
class MeshGeometry:
    """The geometry of a mesh that came from elsewhere.

    Attributes:
        centres: centre of each electrode, m, ``(L, D)``.
        extent: lower and upper corner of the box that an image covers, m.
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

    centres: Array
    extent: tuple[tuple[float, ...], tuple[float, ...]]
    contact_impedance: float | Sequence[float] = 1e-2
    shunted: Sequence[int] = ()

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "shunted", check_contacts(self.contact_impedance, self.shunted, self.electrodes)
        )

    @classmethod
    def of(
        cls,
        mesh: Mesh,
        contact_impedance: float | Sequence[float] = 1e-2,
        shunted: Sequence[int] = (),
    ) -> MeshGeometry:
        """The geometry of ``mesh``; images cover the smallest square (in 3D the box) around it."""
        corners = mesh.points[mesh.facets[:, : mesh.dim]]
        sides = corners[:, 1:] - corners[:, :1]
        size = np.sqrt(np.linalg.det(sides @ sides.transpose(0, 2, 1)))
        weighted = corners.mean(axis=1) * size[:, None]
        sums = [np.bincount(mesh.electrode, axis) for axis in weighted.T]
        centres = np.stack(sums, axis=1) / np.bincount(mesh.electrode, size)[:, None]
        lower, upper = mesh.points.min(axis=0), mesh.points.max(axis=0)
        if mesh.dim == 2:
            middle, half = (lower + upper) / 2, (upper - lower).max() / 2
            lower, upper = middle - half, middle + half
        extent = tuple(lower.tolist()), tuple(upper.tolist())
        return cls(centres, extent, contact_impedance, shunted)

    @property
    def electrodes(self) -> int:
        """Number of electrodes L."""
        return len(self.centres)

    @property
    def impedances(self) -> Array:
        """Contact impedance of each electrode, ``(L,)``."""
        return one_each(self.contact_impedance, self.electrodes)


def check_contacts(
    contact_impedance: ArrayLike, shunted: Sequence[int], electrodes: int
) -> tuple[int, ...]:
    """Refuse contact impedances that are not positive and shunted electrodes that do not exist.

    Returns:
        The shunted electrodes, ascending.
    """
    z = np.atleast_1d(np.asarray(contact_impedance, np.float64))
    if z.ndim != 1 or len(z) not in (1, electrodes):
        raise InputError(
            f"contact_impedance has to be one number or {electrodes} (one for each electrode), "
            f"got shape {z.shape}"
        )
    bad = np.flatnonzero(~(np.isfinite(z) & (z > 0)))
    if len(bad):
        raise InputError(
            f"the contact impedance of electrode {bad[0] + 1} has to be positive, got {z[bad[0]]}"
        )
    for number in shunted:
        if int(number) != number or not 0 <= number < electrodes:
            raise InputError(
                f"shunted names electrodes by numbers 0 to {electrodes - 1}, got {number}"
            )
    return tuple(sorted({int(number) for number in shunted}))


def one_each(contact_impedance: ArrayLike, electrodes: int) -> Array:
    """Contact impedance of each electrode, ``(L,)``, from one number or one for each."""
    return np.broadcast_to(np.asarray(contact_impedance, np.float64), (electrodes,)).copy()


def check_positive(**lengths: float) -> None:
    """Refuse a length that is not positive and finite."""
    for name, value in lengths.items():
        if not (np.isfinite(value) and value > 0):
            raise InputError(f"{name.replace('_', ' ')} has to be positive, got {value}")
