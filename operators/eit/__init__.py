"""Electrical impedance tomography with the complete electrode model.

Importing this module does no work and needs no dolfinx; making an :class:`EIT` does.
"""

from onmanifold.operators.eit.assembly import assemble
from onmanifold.operators.eit.conductivity import (
    Affine,
    ConductivityMap,
    Exponential,
    Saturating,
    Scaled,
)
from onmanifold.operators.eit.continuum import Continuum
from onmanifold.operators.eit.cylinder import Cylinder
from onmanifold.operators.eit.discretization import Discretization, load_discretization
from onmanifold.operators.eit.ktc import (
    KTCMeasurement,
    ktc_classes,
    ktc_level_mask,
    ktc_picture,
    ktc_score,
    noise_std,
    read_ktc,
    read_ktc_truth,
)
from onmanifold.operators.eit.linearization import EITLinearization
from onmanifold.operators.eit.mesh import Mesh
from onmanifold.operators.eit.meshing import generate_mesh
from onmanifold.operators.eit.operator import EIT
from onmanifold.operators.eit.options import from_options
from onmanifold.operators.eit.polar import polar_mesh
from onmanifold.operators.eit.protocol import Protocol
from onmanifold.operators.eit.tank import Tank

__all__ = [
    "EIT",
    "Affine",
    "ConductivityMap",
    "Continuum",
    "Cylinder",
    "Discretization",
    "EITLinearization",
    "Exponential",
    "KTCMeasurement",
    "Mesh",
    "Protocol",
    "Saturating",
    "Scaled",
    "Tank",
    "assemble",
    "from_options",
    "generate_mesh",
    "ktc_classes",
    "ktc_level_mask",
    "ktc_picture",
    "ktc_score",
    "load_discretization",
    "noise_std",
    "polar_mesh",
    "read_ktc",
    "read_ktc_truth",
]
