"""What every geometry says of itself, and the checks that all of them share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


class Geometry(Protocol):
    """A body with electrodes on its surface, in two or three dimensions D.

    :class:`Tank`, :class:`Outline`, :class:`Cylinder` and :class:`MeshGeometry` are geometries.
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
        """Lower and upper corner of the box that a picture covers, m, D numbers each."""
        ...


def check_contacts(
    contact_impedance: ArrayLike, shunted: Sequence[int], electrodes: int
) -> tuple[int, ...]:
    """Refuse contact impedances that are not positive and shunted electrodes that do not exist.

    Returns:
        The shunted electrodes, ascending.
    """
    z = np.atleast_1d(np.asarray(contact_impedance, np.float64))
    if z.ndim != 1 or len(z) not in (1, electrodes):
        raise ValueError(
            f"contact_impedance has to be one number or {electrodes} (one for each electrode), "
            f"got shape {z.shape}"
        )
    bad = np.flatnonzero(~(np.isfinite(z) & (z > 0)))
    if len(bad):
        raise ValueError(
            f"the contact impedance of electrode {bad[0] + 1} has to be positive, got {z[bad[0]]}"
        )
    for number in shunted:
        if int(number) != number or not 0 <= number < electrodes:
            raise ValueError(
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
            raise ValueError(f"{name.replace('_', ' ')} has to be positive, got {value}")
