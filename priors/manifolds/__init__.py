"""Data manifolds: what priors learn from, what operators are tested on."""

from onmanifold.priors.manifolds.bar import Bar
from onmanifold.priors.manifolds.base import DataManifold, part_of, pixel_grid, stream
from onmanifold.priors.manifolds.examples import Examples
from onmanifold.priors.manifolds.geodesic import GeodesicManifold, nearest_rendering
from onmanifold.priors.manifolds.outline import Outline
from onmanifold.priors.manifolds.ring import Ring
from onmanifold.priors.manifolds.rotating_object import RotatingObject
from onmanifold.priors.manifolds.sine import Sine
from onmanifold.priors.manifolds.sphere import Sphere
from onmanifold.priors.manifolds.spiral import Spiral
from onmanifold.priors.manifolds.sundial import Sundial
from onmanifold.priors.manifolds.swiss_roll import SwissRoll
from onmanifold.priors.manifolds.tank import Tank
from onmanifold.priors.manifolds.torus import Torus
from onmanifold.priors.manifolds.torus_disk import TorusDisk
from onmanifold.priors.manifolds.two_balls import TwoBalls
from onmanifold.priors.manifolds.two_circles import TwoCircles

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
