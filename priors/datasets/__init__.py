"""Data manifolds: what priors learn from, what operators are tested on."""

from onmanifold.priors.datasets.bar import Bar
from onmanifold.priors.datasets.base import DataManifold, part_of, pixel_grid, stream
from onmanifold.priors.datasets.examples import Examples
from onmanifold.priors.datasets.geodesic import GeodesicManifold, nearest_rendering
from onmanifold.priors.datasets.outline import Outline
from onmanifold.priors.datasets.ring import Ring
from onmanifold.priors.datasets.rotating_object import RotatingObject
from onmanifold.priors.datasets.sine import Sine
from onmanifold.priors.datasets.sphere import Sphere
from onmanifold.priors.datasets.spiral import Spiral
from onmanifold.priors.datasets.sundial import Sundial
from onmanifold.priors.datasets.swiss_roll import SwissRoll
from onmanifold.priors.datasets.tank import Tank
from onmanifold.priors.datasets.torus import Torus
from onmanifold.priors.datasets.torus_disk import TorusDisk
from onmanifold.priors.datasets.two_balls import TwoBalls
from onmanifold.priors.datasets.two_circles import TwoCircles

__all__ = [
    "Bar",
    "DataManifold",
    "Examples",
    "GeodesicManifold",
    "Outline",
    "Ring",
    "RotatingObject",
    "Sine",
    "Sphere",
    "Spiral",
    "Sundial",
    "SwissRoll",
    "Tank",
    "Torus",
    "TorusDisk",
    "TwoBalls",
    "TwoCircles",
    "nearest_rendering",
    "part_of",
    "pixel_grid",
    "stream",
]
