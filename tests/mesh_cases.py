"""What tests of EIT's meshes share."""

from __future__ import annotations

from math import factorial

import numpy as np

from onmanifold.operators.eit import Mesh
from onmanifold.operators.eit.mesh.mesh import _determinants


def volumes(mesh: Mesh) -> np.ndarray:
    """Area or volume of each straight or curved cell, by a rule that is exact."""
    eye = np.eye(mesh.dim + 1)
    places, weights = eye[:1], np.ones(1)
    if mesh.order == 2 and mesh.dim == 2:
        places, weights = 0.5 * (1 - eye), np.full(3, 1 / 3)
    elif mesh.order == 2:
        places = np.vstack([np.full((1, 4), 0.25), (1 + 2 * eye) / 6])
        weights = np.array([-0.8, 0.45, 0.45, 0.45, 0.45])
    return weights @ _determinants(mesh, places) / factorial(mesh.dim)
