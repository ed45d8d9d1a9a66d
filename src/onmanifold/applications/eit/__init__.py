"""EIT from a file to an image: voltages in, images with their uncertainty out, one call.

    from onmanifold.applications import eit

    found = eit.reconstruct("reference.csv", "data.csv", "pyeit16")
    found.frames[0].image, found.frames[0].std, found.frames[0].p_value

On the command line: ``onmanifold eit reference.csv data.csv --protocol pyeit16``.
"""

from onmanifold.applications.eit.figures import figure_of, film_of
from onmanifold.applications.eit.measured import Measured, measure
from onmanifold.applications.eit.reconstruction import (
    Frame,
    Reconstruction,
    reconstruct,
    reconstruct_frames,
)

__all__ = [
    "Frame",
    "Measured",
    "Reconstruction",
    "figure_of",
    "film_of",
    "measure",
    "reconstruct",
    "reconstruct_frames",
]
