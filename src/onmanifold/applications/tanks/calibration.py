"""A measured tank as its reference shows it: the model of its voltages, and how far that is to be trusted."""

from __future__ import annotations

from collections.abc import Sequence
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
    Mesh,
    Tank,
    assemble,
    calibrate,
    calibrate_electrodes,
    calibrate_width,
    flag_channels,
    noise_std,
    polar_mesh,
    transfer_errors,
    with_ends,
)

USUAL_WATER = 0.79  # S/m, to tell whether voltages have the right size
LONGEST = 0.02  # edge inside the mesh, radii: with shorter ones images hardly change
FITTED = ("conductivity", "common", "currents")  # with the electrodes' width, from the reference


@dataclass(frozen=True, eq=False)
class CalibratedTank:
    """The tank without objects, its electrodes and its instrument, as the reference's voltages show them.

    Attributes:
        reference: voltages of the tank without objects.
        calibration: geometry, protocol and conductivity that explain them.
        mesh: of that geometry.
        unreliable: measurement patterns that are bad already in the reference, from 0.
    """

    reference: Measurement
    calibration: Calibration
    mesh: Discretization
    unreliable: tuple[int, ...]

    @property
    def background(self) -> float:
        """Conductivity of the water, S."""
        return float(self.calibration.values.conductivity)

    def operator(self, conductivity: ConductivityMap, x_shape: Sequence[int]) -> EIT:
        """Images to voltages, corrected by what the model says wrongly of the tank without objects."""
        return EIT(
            self.calibration.geometry,
            self.calibration.protocol,
            x_shape,
            conductivity=conductivity,
            mesh=self.mesh,
            reference=self.reference.voltages.flatten(),
            background=self.background,
        )

    def fidelity(
        self, measurement: Measurement, unreliable: Sequence[int] = ()
    ) -> CorrelatedGaussian:
        """What a residual costs: noise, and errors of the model that are linear in the currents.

        Args:
            measurement: of the tank with objects.
            unreliable: measurement patterns that are bad in it, from 0; those of the reference are known.
        """
        change = torch.where(measurement.mask, measurement.voltages - self.reference.voltages, 0.0)
        difference = replace(measurement, voltages=change)
        bad = torch.tensor(sorted({*self.unreliable, *unreliable}), dtype=torch.long)
        noise = noise_std(self.reference.voltages)
        return transfer_errors(difference, noise, doubtful=bad)


def calibrate_ktc(reference: Measurement, longest: float = LONGEST) -> CalibratedTank:
    """Fit what the reference shows of the challenge's tank: seconds, once for all its measurements.

    Args:
        reference: of the tank without objects.
        longest: edge inside the mesh of reconstructions, radii.
    """
    wide = calibrate_width(Tank.ktc(), reference, make_mesh=mesh_of, fit=FITTED).geometry
    assert isinstance(wide, Tank)
    placed = calibrate_electrodes(wide, reference, make_mesh=mesh_of, fit=FITTED)
    mesh = assemble(with_ends(mesh_of(wide, longest), wide, placed.ends))
    found = calibrate(wide, reference, mesh=mesh, fit=FITTED)
    return CalibratedTank(reference, found, mesh, flag_channels(reference).bad)


def water_voltages(reference: Measurement) -> Tensor:
    """What the tank as it is described would show without objects, V, the reference's shape."""
    tank = Tank.ktc()
    eit = EIT(tank, reference.protocol, (8, 8), mesh=assemble(polar_mesh(tank, 4, 1.6, 0.1)))
    return eit.A(torch.full((1, 8, 8), USUAL_WATER, dtype=torch.float64))[0]


def mesh_of(tank: Tank, longest: float = 0.25) -> Mesh:
    """Fine along the wall; inside, a tank without objects needs next to no cells."""
    return polar_mesh(tank, 8, 1.4, longest)
