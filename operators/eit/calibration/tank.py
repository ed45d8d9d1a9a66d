"""A measured tank, calibrated: the operator and the data term of its measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from onmanifold.fidelity import CorrelatedGaussian
from onmanifold.operators.eit.calibration.calibrate import (
    Calibration,
    calibrate,
    calibrate_width,
)
from onmanifold.operators.eit.calibration.electrode_fit import calibrate_electrodes, fine_at_wall
from onmanifold.operators.eit.channels.flags import flag_channels
from onmanifold.operators.eit.conductivity import ConductivityMap
from onmanifold.operators.eit.fem.assembly import assemble
from onmanifold.operators.eit.fem.discretization import Discretization
from onmanifold.operators.eit.geometry.tank import Tank
from onmanifold.operators.eit.measurements.approximation_error import (
    ApproximationError,
    approximation_error,
)
from onmanifold.operators.eit.measurements.measurement import Measurement
from onmanifold.operators.eit.measurements.noise import noise_std
from onmanifold.operators.eit.mesh.polar import polar_mesh, with_electrode_edges
from onmanifold.operators.eit.models.protocol import Protocol
from onmanifold.operators.eit.operator import EIT

_COARSER = 2  # so many times as long edges has the mesh of drafts
_FITTED = ("conductivity", "common", "currents")  # with the electrodes' width and edges


@dataclass(frozen=True, eq=False)
class CalibratedTank:
    """A tank with its electrodes and instrument, as a measurement without objects shows them.

    Attributes:
        reference: voltages of the tank without objects.
        calibration: geometry, instrument and conductivity that fit them.
        mesh: of that geometry.
        coarse: a coarser one, for quick drafts; voltages differ by about 2 % of what objects change.
        unreliable: measurement patterns that are bad already in the reference, from 0.
        noise: relative and absolute part of the noise (:func:`noise_std`).
    """

    reference: Measurement
    calibration: Calibration
    mesh: Discretization
    coarse: Discretization
    unreliable: tuple[int, ...]
    noise: tuple[float, float] = (0.0005, 0.0001)

    @property
    def background(self) -> float:
        """Conductivity of the tank without objects, S/m."""
        return float(self.calibration.values.conductivity)

    def operator(
        self,
        conductivity: ConductivityMap,
        x_shape: Sequence[int],
        *,
        coarse: bool = False,
        absolute: bool = False,
    ) -> EIT:
        """Images to voltages, as differences to the reference: the model's error there cancels.

        Args:
            conductivity: map from pixel values.
            x_shape: of images.
            coarse: whether to take the coarser mesh, for a quick draft.
            absolute: whether to model the voltages themselves.
        """
        return EIT(
            self.calibration.geometry,
            self.calibration.protocol,
            x_shape,
            conductivity=conductivity,
            mesh=self.coarse if coarse else self.mesh,
            reference=None if absolute else self.reference.voltages.flatten(),
            background=self.background,
        )

    def fidelity(
        self, measurement: Measurement, unreliable: Sequence[int] = ()
    ) -> CorrelatedGaussian:
        """The data term: noise, and errors of the model of the expected size; see :meth:`errors`."""
        return self.errors(measurement, unreliable).fidelity()

    def errors(
        self, measurement: Measurement, unreliable: Sequence[int] = ()
    ) -> ApproximationError:
        """Noise, and errors of the model that are linear in the currents.

        Args:
            measurement: of the tank with objects.
            unreliable: measurement patterns that are bad in it, from 0; those of the reference are known.
        """
        both = measurement.mask & self.reference.mask
        change = torch.where(both, measurement.voltages - self.reference.voltages, 0.0)
        bad = torch.tensor(sorted({*self.unreliable, *unreliable}), dtype=torch.long)
        return approximation_error(
            replace(measurement, voltages=change, mask=both),
            noise_std(self.reference.voltages, *self.noise),
            unreliable=bad,
            shape=self.calibration.protocol.shape,
        )

    def absolute_errors(
        self, measurement: Measurement, unreliable: Sequence[int] = ()
    ) -> ApproximationError:
        """Errors of the voltages themselves, where the model's do not cancel.

        They are what the calibration leaves of the reference, and errors of the change as in
        :meth:`errors`.

        Args:
            measurement: of the tank with objects.
            unreliable: measurement patterns that are bad in it, from 0.
        """
        left = (self.calibration.voltages - self.reference.voltages)[self.reference.mask]
        size = float(left.square().mean().sqrt() / self.reference.voltages.square().mean().sqrt())
        relative, floor = self.noise
        wider = replace(self, noise=(relative + size, floor + 0.1 * size))
        return wider.errors(measurement, unreliable)


def calibrate_tank(tank: Tank, reference: Measurement, longest: float = 0.02) -> CalibratedTank:
    """Fit the electrodes' width, each electrode's edges and the instrument: seconds, once for a tank.

    Args:
        tank: as it is described.
        reference: a measurement of it without objects.
        longest: edge inside the mesh of reconstructions, in radii; with shorter ones images hardly change.

    Raises:
        ValueError: as :func:`calibrate`.

    Example:
        >>> from onmanifold.operators.eit import Inclusions
        >>> tank = Tank(radius=0.1, electrodes=8, width=20)
        >>> eit = EIT(tank, Protocol.skip(8, 2), (1, 4, 4), mesh=fine_at_wall(tank))
        >>> empty = Measurement.from_values(eit.protocol, eit.A(torch.ones(1, 1, 4, 4).double())[0])
        >>> found = calibrate_tank(tank, empty, longest=0.25)
        >>> found.operator(Inclusions(found.background), (3, 32, 32)).y_shape
        (64,)
    """
    wide = calibrate_width(tank, reference, make_mesh=fine_at_wall, fit=_FITTED).geometry
    assert isinstance(wide, Tank)
    placed = calibrate_electrodes(wide, reference, fit=_FITTED)
    mesh, coarse = (
        assemble(with_electrode_edges(fine_at_wall(wide, edge), wide, placed.edges))
        for edge in (longest, _COARSER * longest)
    )
    found = calibrate(wide, reference, mesh=mesh, fit=_FITTED)
    return CalibratedTank(reference, found, mesh, coarse, flag_channels(reference).bad)


def homogeneous_voltages(tank: Tank, protocol: Protocol, conductivity: float) -> Tensor:
    """What a tank of one conductivity would measure, V, the protocol's shape.

    Quick, on a coarse mesh: to tell whether measured voltages have the right size
    (:func:`check_reference`).

    Args:
        tank: as it is described.
        protocol: injections and measurement patterns.
        conductivity: S/m.
    """
    eit = EIT(tank, protocol, (8, 8), mesh=polar_mesh(tank, 4, 1.6, 0.1))
    return eit.A(torch.full((1, 8, 8), conductivity, dtype=torch.float64))[0]
