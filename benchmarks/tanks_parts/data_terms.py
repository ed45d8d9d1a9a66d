"""What an image of a tank costs in terms of its voltages, by several models of the tank."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Tensor

from onmanifold import Fidelity, Gaussian
from onmanifold.operators.eit import (
    EIT,
    CalibratedTank,
    ConductivityMap,
    Measurement,
    Saturating,
    calibrate_tank,
    flag_channels,
    ktc,
)

X_SHAPE = (1, 64, 64)
WATER = 0.79  # conductivity that explains the tank without objects, as the data's description finds
CONTRAST = 0.98  # objects conduct 50 times better or worse than water; more makes no difference


def saturating(water: float) -> ConductivityMap:
    """Of one number a pixel: -1 resistive, 0 water, 1 conductive."""
    return Saturating(water, conductive=CONTRAST, resistive=CONTRAST, reach=0.9)


@dataclass(frozen=True, eq=False)
class DataTerm:
    """What an image costs in terms of the voltages.

    Attributes:
        operator: makes the operator on images of a shape that have a conductivity.
        water: conductivity of the water, S/m.
        y: the measured voltages, V, ``(*y_shape,)``.
        fidelity: what their residual costs.
    """

    operator: Callable[[ConductivityMap, Sequence[int]], EIT]
    water: float
    y: Tensor
    fidelity: Fidelity


MakeDataTerm = Callable[[Measurement, Measurement], DataTerm]


def nominal(reference: Measurement, measurement: Measurement) -> DataTerm:
    """The tank as it is described; only the water's conductivity is that of the reference."""
    std = noise(reference, measurement.voltages, measurement.mask)
    fidelity = Gaussian(std, mask=measurement.mask)
    operator = EIT(ktc.tank(), reference.protocol)
    x = torch.full((1, *operator.x_shape), WATER, dtype=torch.float64)
    # up to the contacts, F(c s) = F(s) / c
    scale = float(operator.fit_scale(x, reference.voltages[None], mask=reference.mask))
    model = partial(nominal_operator, reference)
    return DataTerm(model, scale * WATER, measurement.voltages, fidelity)


def calibrated(reference: Measurement, measurement: Measurement) -> DataTerm:
    """The tank and the instrument as the reference shows them: width, common-mode errors, currents."""
    tank = _tank(reference)
    std = noise(reference, measurement.voltages, measurement.mask)
    fidelity = Gaussian(std.flatten(), mask=measurement.mask.flatten())
    return DataTerm(tank.operator, tank.background, measurement.voltages.flatten(), fidelity)


def transfer(reference: Measurement, measurement: Measurement) -> DataTerm:
    """The same tank with the approximation-error covariance of a model that is linear in the currents."""
    tank = _tank(reference)
    fidelity = tank.fidelity(measurement)
    return DataTerm(tank.operator, tank.background, measurement.voltages.flatten(), fidelity)


DATA_TERMS: dict[str, MakeDataTerm] = {
    "nominal": nominal,
    "calibrated": calibrated,
    "transfer": transfer,
}


def noise(reference: Measurement, voltages: Tensor, mask: Tensor) -> Tensor:
    """Standard deviation of voltage differences, V, mostly error of the model.

    A true image has a relative residual of about 0.1 in the difference signal, in proportion to the signal
    and spread over all electrodes. Channels that ``flag_channels`` finds bad (in the challenge's tank the
    patterns of electrode 31) have a sixteenth of the weight of the others.
    """
    difference = (voltages - reference.voltages) * mask
    typical = (difference.square().sum() / mask.sum()).sqrt()
    parts = 0.1 * difference, 0.05 * typical, 0.001 * reference.voltages
    std = sum(part**2 for part in parts).sqrt()
    std[:, list(flag_channels(reference).bad)] *= 4
    return std


def nominal_operator(
    reference: Measurement, conductivity: ConductivityMap, x_shape: Sequence[int]
) -> EIT:
    """The tank as it is described."""
    voltages = reference.voltages
    return EIT(
        ktc.tank(), reference.protocol, x_shape, conductivity=conductivity, reference=voltages
    )


@lru_cache(maxsize=1)  # for the levels of a tank, whose reference is one object
def _tank(reference: Measurement) -> CalibratedTank:
    return calibrate_tank(ktc.tank(), reference)
