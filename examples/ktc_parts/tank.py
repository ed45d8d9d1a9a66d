"""A measured tank as its reference shows it: the model of its voltages, and how far that is to be trusted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from onmanifold import CorrelatedGaussian
from onmanifold.operators.eit import (
    EIT,
    Calibration,
    ConductivityMap,
    Discretization,
    Measurement,
    Tank,
    assemble,
    calibrate_width,
    flag_channels,
    noise_std,
    polar_mesh,
    transfer_errors,
)

USUAL_WATER = 0.79  # S/m, to tell whether voltages have the right size
FITTED = ("conductivity", "common", "currents")  # with the electrodes' width, from the reference


@dataclass(frozen=True, eq=False)
class CalibratedTank:
    """The tank without objects, its electrodes and its instrument, as the reference's voltages show them.

    Attributes:
        reference: voltages of the tank without objects.
        calibration: geometry, protocol and conductivity that explain them.
        mesh: of that geometry.
        doubtful: measurement patterns that are bad already in the reference, from 0.
    """

    reference: Measurement
    calibration: Calibration
    mesh: Discretization
    doubtful: tuple[int, ...]

    @property
    def water(self) -> float:
        """Conductivity of the water, S."""
        return float(self.calibration.values.conductivity)

    def operator(self, conductivity: ConductivityMap, x_shape: Sequence[int]) -> EIT:
        """Pictures to voltages, corrected by what the model says wrongly of the tank without objects."""
        return EIT(
            self.calibration.geometry,
            self.calibration.protocol,
            x_shape,
            conductivity=conductivity,
            mesh=self.mesh,
            reference=self.reference.voltages.flatten(),
            background=self.water,
        )

    def fidelity(
        self, measurement: Measurement, doubtful: Sequence[int] = ()
    ) -> CorrelatedGaussian:
        """What a residual costs: noise, and errors of the model that are linear in the currents.

        Args:
            measurement: of the tank with objects.
            doubtful: measurement patterns that are bad in it, from 0; those of the reference are known.
        """
        change = torch.where(measurement.mask, measurement.voltages - self.reference.voltages, 0.0)
        difference = replace(measurement, voltages=change)
        bad = torch.tensor(sorted({*self.doubtful, *doubtful}), dtype=torch.long)
        noise = noise_std(self.reference.voltages)
        return transfer_errors(difference, noise, doubtful=bad)


def calibrated(
    reference: Measurement, make_mesh: Callable[[Tank], Discretization] | None = None
) -> CalibratedTank:
    """Fit what the reference shows of the challenge's tank: seconds, once for all its measurements."""
    make_mesh = make_mesh or mesh_of
    found = calibrate_width(Tank.ktc(), reference, make_mesh=make_mesh, fit=FITTED)
    assert isinstance(found.geometry, Tank)
    return CalibratedTank(reference, found, make_mesh(found.geometry), flag_channels(reference).bad)


def water_voltages(reference: Measurement) -> Tensor:
    """What the tank as it is described would show without objects, V, the reference's shape."""
    tank = Tank.ktc()
    eit = EIT(tank, reference.protocol, (8, 8), mesh=assemble(polar_mesh(tank, 4, 1.6, 0.1)))
    return eit.A(torch.full((1, 8, 8), USUAL_WATER, dtype=torch.float64))[0]


def mesh_of(tank: Tank) -> Discretization:
    """5184 linear cells: with more the voltages change by less than what no model of the tank explains."""
    return assemble(polar_mesh(tank, 8, 1.4, 0.05))
