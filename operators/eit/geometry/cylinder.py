"""Three-dimensional tanks: a cylinder with rings of electrodes on its mantle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onmanifold.errors import InputError
from onmanifold.operators.eit.arguments import doubles
from onmanifold.operators.eit.geometry.base import Geometry, check_lengths
from onmanifold.operators.eit.geometry.tank import Tank

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Cylinder(Geometry):
    """An upright cylinder with rings of rectangular electrodes, numbered ring by ring.

    The axis is the z axis, the bottom at z = 0; angles are counted counterclockwise, seen from above, from
    the x axis, in degrees.

    Attributes:
        radius: R, m.
        height: H, m.
        rings: height of each ring's centre, m.
        per_ring: number of evenly spaced electrodes in each ring.
        width: angle that one electrode covers, degrees.
        electrode_height: m.
        first_angle: angle of the centre of each ring's first electrode, degrees.
        clockwise: whether electrode numbers run clockwise, seen from above.
        contact_impedance: z, Ohm m^2: one number, or one for each electrode.
        shunted: electrodes with perfect contact, from 0; their contact impedance is not used.

    Raises:
        ValueError: a size that is not positive, electrodes that overlap or reach beyond the mantle (they are
            named), a contact impedance that is not positive or not one for each electrode.

    Example:
        >>> tank = Cylinder(0.14, 0.2, rings=(0.05, 0.15), per_ring=16, width=10, electrode_height=0.03)
        >>> tank.electrodes, tank.centres[16].tolist()
        (32, [0.14, 0.0, 0.15])
    """

    radius: float = 1.0
    height: float = 1.0
    rings: Sequence[float] = (0.5,)
    per_ring: int = 16
    width: float = 10.0
    electrode_height: float = 0.1
    first_angle: float = 0.0
    clockwise: bool = False
    contact_impedance: float | Sequence[float] = 1e-2
    shunted: Sequence[int] = ()

    def __post_init__(self) -> None:
        check_lengths(self, "height", "electrode_height")
        object.__setattr__(self, "rings", tuple(doubles(self.rings, "rings").ravel().tolist()))
        self._check_rings(self.base)  # the disk refuses what is wrong within a ring
        self._check_contacts()

    @property
    def electrodes(self) -> int:
        """Number of electrodes L."""
        return len(self.rings) * int(self.per_ring)

    @property
    def base(self) -> Tank:
        """The disk with one ring of electrodes, seen from above."""
        return Tank(
            self.radius, self.per_ring, self.width, self.first_angle, clockwise=self.clockwise
        )

    @property
    def centres(self) -> Array:
        """Centre of each electrode, m, ``(L, 3)``."""
        ring = np.tile(self.base.centres, (len(self.rings), 1))
        return np.column_stack([ring, np.repeat(np.asarray(self.rings), self.per_ring)])

    @property
    def extent(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Lower and upper corner of the box around the cylinder, m."""
        return (-self.radius, -self.radius, 0.0), (self.radius, self.radius, self.height)

    def _check_rings(self, base: Tank) -> None:
        if not len(self.rings):
            raise InputError("a cylinder needs at least one ring of electrodes")
        z, half = np.asarray(self.rings), self.electrode_height / 2
        off = np.flatnonzero(~((z - half >= 0) & (z + half <= self.height)))
        if len(off):
            raise InputError(
                f"electrodes {off[0] * base.electrodes + 1} to {(off[0] + 1) * base.electrodes} reach "
                f"beyond the mantle: they cover heights {z[off[0]] - half:.4g} to "
                f"{z[off[0]] + half:.4g} m of 0 to {self.height} m"
            )
        order = np.argsort(z)
        close = np.flatnonzero(np.diff(z[order]) <= self.electrode_height)
        if len(close):
            pair = sorted(order[[close[0], close[0] + 1]] * base.electrodes + 1)
            raise InputError(
                f"electrodes {pair[0]} and {pair[1]} overlap: their rings are "
                f"{np.diff(z[order])[close[0]]:.4g} m apart and {self.electrode_height} m high"
            )
