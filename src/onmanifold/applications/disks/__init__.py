"""Holes in a disk, by X-rays from few directions: limited-angle computed tomography.

The pipeline of the Helsinki Tomography Challenge 2022, one step a function; ``onmanifold disk`` runs it.

    from onmanifold.applications import disks
    from onmanifold.operators.ct import calibrate_disk, htc

    scanner = calibrate_disk(htc.read("solid.mat"))
    found = disks.reconstruct(scanner, htc.read("ta.mat"))
    found.material, found.probabilities, found.counts, found.consistent
"""

from onmanifold.applications.disks.cases import Case, read_cases
from onmanifold.applications.disks.figures import figure_of, page_of
from onmanifold.applications.disks.images import (
    Measured,
    binary_image,
    picture,
    prepare,
    refined_image,
    variation_image,
)
from onmanifold.applications.disks.reconstruction import (
    Reconstruction,
    disk_posterior,
    disk_prior,
    initial_points,
    reconstruct,
)

__all__ = [
    "Case",
    "Measured",
    "Reconstruction",
    "binary_image",
    "disk_posterior",
    "disk_prior",
    "figure_of",
    "initial_points",
    "page_of",
    "picture",
    "prepare",
    "read_cases",
    "reconstruct",
    "refined_image",
    "variation_image",
]
