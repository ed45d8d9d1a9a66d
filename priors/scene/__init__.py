"""Scenes: images of several separate objects, each with a place, a size and a learned outline."""

from onmanifold.priors.scene.arrangement import Arrangement
from onmanifold.priors.scene.counting import count_probabilities, scene_of
from onmanifold.priors.scene.displacement import displaced_masks
from onmanifold.priors.scene.radial import RadialOutlines
from onmanifold.priors.scene.scene import Scene

__all__ = [
    "Arrangement",
    "RadialOutlines",
    "Scene",
    "count_probabilities",
    "displaced_masks",
    "scene_of",
]
