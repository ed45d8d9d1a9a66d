"""Measured water tanks: which objects are where, by electrical impedance tomography.

The pipeline of the Kuopio Tomography Challenge 2023, one step a function; ``onmanifold tank`` runs it.

    from onmanifold.applications import tanks
    from onmanifold.operators.eit import calibrate_tank, ktc

    tank = calibrate_tank(ktc.tank(), ktc.read("ref.mat"))
    found = tanks.reconstruct(tank, ktc.read("data1.mat"))
    found.labels, found.counts, found.consistent
"""

from onmanifold.applications.tanks.cases import Case, cut, read_cases
from onmanifold.applications.tanks.error_scale import probability_of_scale, scaled_posterior
from onmanifold.applications.tanks.figures import figure_of, page_of
from onmanifold.applications.tanks.initial_points import (
    initial_points,
    linear_objects,
    single_objects,
)
from onmanifold.applications.tanks.reconstruction import (
    Reconstruction,
    class_probabilities,
    describe,
    reconstruct,
    tank_operators,
    tank_posterior,
    tank_prior,
    tank_search,
)

__all__ = [
    "Case",
    "Reconstruction",
    "class_probabilities",
    "cut",
    "describe",
    "figure_of",
    "initial_points",
    "linear_objects",
    "page_of",
    "probability_of_scale",
    "read_cases",
    "reconstruct",
    "scaled_posterior",
    "single_objects",
    "tank_operators",
    "tank_posterior",
    "tank_prior",
    "tank_search",
]
