"""Electrical impedance tomography: complete electrode and continuum model, in two and three dimensions.

Importing this module does no work and needs neither dolfinx nor gmsh.
"""

from onmanifold.operators.eit.assembly import assemble
from onmanifold.operators.eit.calibration import Calibration, calibrate, calibrate_width
from onmanifold.operators.eit.channels import ChannelReport, flag_channels
from onmanifold.operators.eit.conductivity import (
    Affine,
    ConductivityMap,
    Exponential,
    Labels,
    Saturating,
    Scaled,
)
from onmanifold.operators.eit.continuum import Continuum
from onmanifold.operators.eit.cylinder import Cylinder
from onmanifold.operators.eit.discretization import Discretization, load_discretization
from onmanifold.operators.eit.engine import Engine
from onmanifold.operators.eit.files import read_measurement, save_measurement
from onmanifold.operators.eit.geometry import Geometry, MeshGeometry
from onmanifold.operators.eit.instrument import Instrument
from onmanifold.operators.eit.ktc import (
    ktc_classes,
    ktc_level_mask,
    ktc_picture,
    ktc_score,
    read_ktc,
    read_ktc_truth,
)
from onmanifold.operators.eit.linearization import EITLinearization
from onmanifold.operators.eit.measurement import Measurement
from onmanifold.operators.eit.mesh import Mesh
from onmanifold.operators.eit.mesh_files import read_mesh
from onmanifold.operators.eit.meshing import generate_mesh
from onmanifold.operators.eit.models import CompleteElectrodes
from onmanifold.operators.eit.noise import fit_noise, noise_std
from onmanifold.operators.eit.operator import EIT
from onmanifold.operators.eit.options import from_options
from onmanifold.operators.eit.outline import Outline
from onmanifold.operators.eit.plot import plot_eit
from onmanifold.operators.eit.polar import polar_mesh
from onmanifold.operators.eit.protocol import Protocol
from onmanifold.operators.eit.tank import Tank

__all__ = [
    "EIT",
    "Affine",
    "Calibration",
    "ChannelReport",
    "CompleteElectrodes",
    "ConductivityMap",
    "Continuum",
    "Cylinder",
    "Discretization",
    "EITLinearization",
    "Engine",
    "Exponential",
    "Geometry",
    "Instrument",
    "Labels",
    "Measurement",
    "Mesh",
    "MeshGeometry",
    "Outline",
    "Protocol",
    "Saturating",
    "Scaled",
    "Tank",
    "assemble",
    "calibrate",
    "calibrate_width",
    "fit_noise",
    "flag_channels",
    "from_options",
    "generate_mesh",
    "ktc_classes",
    "ktc_level_mask",
    "ktc_picture",
    "ktc_score",
    "load_discretization",
    "noise_std",
    "plot_eit",
    "polar_mesh",
    "read_ktc",
    "read_ktc_truth",
    "read_measurement",
    "read_mesh",
    "save_measurement",
]
