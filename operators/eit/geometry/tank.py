"""The tank: a disk with electrodes on its rim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onmanifold.checks import check_field, check_number
from onmanifold.errors import InputError
from onmanifold.operators.eit.arguments import check_flag, electrode_count
from onmanifold.operators.eit.geometry.base import Geometry, check_lengths


@dataclass(frozen=True)
class Tank(Geometry):
    """A disk of radius R with L evenly spaced electrodes of equal width.

    Coordinates are x to the right and y up, the origin at the centre; angles are counted
    counterclockwise from the x axis, in degrees.

    Attributes:
        radius: R, m.
        electrodes: number of electrodes L.
        width: angle that one electrode covers, degrees.
        first_angle: angle of the centre of the first electrode, degrees.
        clockwise: whether electrode numbers run clockwise.
        contact_impedance: z, Ohm m^2 (Ohm m for a tank that is treated as two-dimensional, with
            conductivities in S): one number, or one for each electrode.
        shunted: electrodes with perfect contact, from 0; their contact impedance is not used.

    Raises:
        ValueError: a size that is not positive, electrodes that overlap, a contact impedance that
            is not positive (its electrode is named) or not one for each electrode, a shunted
            electrode that does not exist.

    Example:
        >>> tank = Tank(radius=0.115, electrodes=4, width=30, first_angle=90)
        >>> tank.centres.round(3) + 0.0
        array([[ 0.   ,  0.115],
               [-0.115,  0.   ],
               [ 0.   , -0.115],
               [ 0.115,  0.   ]])
    """

    radius: float = 1.0
    electrodes: int = 32
    width: float = 5.625
    first_angle: float = 0.0
    clockwise: bool = False
    contact_impedance: float | Sequence[float] = 1e-2
    shunted: Sequence[int] = ()

    def __post_init__(self) -> None:
        check_lengths(self, "radius", "width")
        check_field(self, "electrodes", electrode_count)
        check_field(self, "first_angle", check_number, low=-np.inf)
        check_field(self, "clockwise", check_flag)
        if self.width >= self.spacing:
            raise InputError(
                f"electrodes 1 and 2 overlap: they are {self.width} degrees wide and "
                f"{self.spacing:g} degrees apart"
            )
        self._check_contacts()

    @classmethod
    def unit(cls, contact_impedance: float = 1e-2) -> Tank:
        """The unit disk with 32 electrodes of 5.625 degrees, the first at 3 o'clock."""
        return cls(contact_impedance=contact_impedance)

    @property
    def spacing(self) -> float:
        """Angle from one electrode's centre to the next, degrees."""
        return 360.0 / self.electrodes

    @property
    def angles(self) -> NDArray[np.float64]:
        """Angle of each electrode's centre, degrees, ``(L,)``."""
        step = -self.spacing if self.clockwise else self.spacing
        return np.asarray(self.first_angle + step * np.arange(self.electrodes), np.float64)

    @property
    def centres(self) -> NDArray[np.float64]:
        """Centre of each electrode, m, ``(L, 2)``."""
        phi = np.deg2rad(self.angles)
        return self.radius * np.stack([np.cos(phi), np.sin(phi)], axis=1)

    @property
    def extent(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Lower left and upper right corner of the square that an image covers, m."""
        return (-self.radius, -self.radius), (self.radius, self.radius)
