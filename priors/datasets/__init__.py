"""Data sets: what priors learn from, what operators are tested on."""

from onmanifold.priors.datasets.bar import Bar
from onmanifold.priors.datasets.base import (
    Dataset,
    Examples,
    check_channels,
    check_differences,
    draw_examples,
    part_of,
    pixel_grid,
    stream,
)
from onmanifold.priors.datasets.curves import Sine, Spiral
from onmanifold.priors.datasets.geodesic import GeodesicDataset, nearest_rendering
from onmanifold.priors.datasets.lit_ball import LitBall
from onmanifold.priors.datasets.mnist import FashionMnist, Mnist
from onmanifold.priors.datasets.outline_images import OutlineImages
from onmanifold.priors.datasets.own import OwnExamples
from onmanifold.priors.datasets.points import Ring, Sphere, SwissRoll, Torus, TwoCircles
from onmanifold.priors.datasets.rotated_digit import RotatedDigit
from onmanifold.priors.datasets.rotating_object import RotatingObject
from onmanifold.priors.datasets.sundial import Sundial
from onmanifold.priors.datasets.tank_images import TankImages
from onmanifold.priors.datasets.torus_disk import TorusDisk
from onmanifold.priors.datasets.two_balls import TwoBalls

__all__ = [
    "OwnExamples",
    "Bar",
    "Dataset",
    "Examples",
    "FashionMnist",
    "GeodesicDataset",
    "LitBall",
    "Mnist",
    "OutlineImages",
    "Ring",
    "RotatedDigit",
    "RotatingObject",
    "Sine",
    "Sphere",
    "Spiral",
    "Sundial",
    "SwissRoll",
    "TankImages",
    "Torus",
    "TorusDisk",
    "TwoBalls",
    "TwoCircles",
    "check_channels",
    "check_differences",
    "draw_examples",
    "nearest_rendering",
    "part_of",
    "pixel_grid",
    "stream",
]
