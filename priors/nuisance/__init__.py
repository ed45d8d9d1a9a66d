"""Nuisance parameters: unknowns beside the image that are estimated along with it."""

from onmanifold.priors.nuisance.background import BackgroundOffset
from onmanifold.priors.nuisance.base import NuisanceParameters, without_nuisance
from onmanifold.priors.nuisance.measurement import MeasurementParameters

__all__ = [
    "BackgroundOffset",
    "MeasurementParameters",
    "NuisanceParameters",
    "without_nuisance",
]
