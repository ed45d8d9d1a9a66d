"""What a method of reconstruction is to the benchmark, and what data term they all share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.eit_parts.tanks import mesh_of
from onmanifold import Fidelity, Gaussian
from onmanifold.operators.eit import (
    EIT,
    Calibration,
    Discretization,
    Measurement,
    Saturating,
    Tank,
    calibrate_width,
)

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples"))

from ktc_tank import CONTRAST, WATER, noise, nominal_operator  # noqa: E402

X_SHAPE = (1, 64, 64)


@dataclass(frozen=True, eq=False)
class DataTerm:
    """What a picture costs in terms of the voltages.

    Attributes:
        operator: pictures ``(1, 64, 64)``, -1 resistive, 0 water, 1 conductive, to voltages.
        y: the measured ones, V, ``(*y_shape,)``.
        fidelity: what their residual costs.
    """

    operator: EIT
    y: Tensor
    fidelity: Fidelity


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What a method says of a tank.

    Attributes:
        labels: classes ``(256, 256)``: 0 water, 1 resistive, 2 conductive, row 0 on top.
        probabilities: of the three classes, ``(3, 256, 256)``, if the method knows.
        objects: how many there are, or how many resistive and conductive ones, if the method says so.
        seconds: how long it took, the data term included.
    """

    labels: NDArray[np.uint8]
    probabilities: NDArray[np.floating] | None = None
    objects: int | tuple[int, int] | None = None
    seconds: float = float("nan")


class Method(Protocol):
    """A method of reconstruction."""

    def __call__(self, reference: Measurement, measurement: Measurement) -> Reconstruction:
        """Reconstruct a tank from a complete reference and a measurement, of which some may be missing."""
        ...


MakeDataTerm = Callable[[Measurement, Measurement], DataTerm]

# name -> module:class; a class takes the data term and makes a Method
METHODS = {
    "linear": "benchmarks.tanks_parts.linear:Linear",
    "picture": "benchmarks.tanks_parts.picture:Picture",
}


def make_method(name: str, data_term: str) -> Method:
    """A method by its name, or as ``module:class``, with a data term of :data:`DATA_TERMS`.

    Raises:
        ValueError: an unknown name.
    """
    module, _, attribute = METHODS.get(name, name).partition(":")
    if not attribute:
        raise ValueError(f"methods are {', '.join(METHODS)} or MODULE:CLASS, got {name}")
    method: Method = getattr(import_module(module), attribute)(DATA_TERMS[data_term])
    return method


# Data terms -----------------------------------------------------------------------------------------


def nominal(reference: Measurement, measurement: Measurement) -> DataTerm:
    """The tank as it is described; only the water's conductivity is that of the reference."""
    operator = nominal_operator(reference, X_SHAPE, _water(reference))
    std = noise(reference, measurement.voltages, measurement.mask)
    return DataTerm(operator, measurement.voltages, Gaussian(std, mask=measurement.mask))


def calibrated(reference: Measurement, measurement: Measurement) -> DataTerm:
    """The tank and the instrument as the reference shows them: width, common-mode errors, currents."""
    calibration, mesh = _calibration(reference)
    operator = EIT(
        calibration.geometry,
        calibration.protocol,
        X_SHAPE,
        conductivity=Saturating(
            calibration.values.conductivity, conductive=CONTRAST, resistive=CONTRAST, reach=0.9
        ),
        mesh=mesh,
        reference=reference.voltages.flatten(),
    )
    std = noise(reference, measurement.voltages, measurement.mask)
    mask = measurement.mask.flatten()
    return DataTerm(operator, measurement.voltages.flatten(), Gaussian(std.flatten(), mask=mask))


DATA_TERMS: dict[str, MakeDataTerm] = {"nominal": nominal, "calibrated": calibrated}


def _water(reference: Measurement) -> float:
    """The conductivity that explains a tank without objects: up to the contacts, F(c s) = F(s) / c."""
    operator = EIT(Tank.ktc(), reference.protocol)
    water = torch.full((1, *operator.x_shape), WATER, dtype=torch.float64)
    return WATER * float(operator.fit_scale(water, reference.voltages[None], mask=reference.mask))


@lru_cache(maxsize=1)  # for the levels of a tank, whose reference is one object
def _calibration(reference: Measurement) -> tuple[Calibration, Discretization]:
    fit = ("conductivity", "common", "currents")
    found = calibrate_width(Tank.ktc(), reference, make_mesh=mesh_of, fit=fit)
    assert isinstance(found.geometry, Tank)
    return found, mesh_of(found.geometry)
