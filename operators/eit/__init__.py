"""Electrical impedance tomography: complete electrode and continuum model, in two and three dimensions.

Importing this module does no work and needs neither dolfinx nor gmsh.
"""

from onmanifold.operators.eit.conductivity import (
    Affine,
    ConductivityMap,
    Exponential,
    Inclusions,
    Labels,
    Saturating,
    Scaled,
)
from onmanifold.operators.eit.fem.assembly import assemble
from onmanifold.operators.eit.fem.discretization import Discretization, load_discretization
from onmanifold.operators.eit.fem.engine import Engine
from onmanifold.operators.eit.geometry.base import Geometry, MeshGeometry
from onmanifold.operators.eit.geometry.cylinder import Cylinder
from onmanifold.operators.eit.geometry.outline import Outline
from onmanifold.operators.eit.geometry.tank import Tank
from onmanifold.operators.eit.linearization import EITLinearization
from onmanifold.operators.eit.measurements.calibration import (
    Calibration,
    calibrate,
    calibrate_width,
)
from onmanifold.operators.eit.measurements.channels import ChannelReport, flag_channels, reciprocity
from onmanifold.operators.eit.measurements.electrode_fit import ElectrodeFit, calibrate_electrodes
from onmanifold.operators.eit.measurements.files import read_measurement, save_measurement
from onmanifold.operators.eit.measurements.instrument import Instrument
from onmanifold.operators.eit.measurements.ktc import (
    ktc_classes,
    ktc_level_mask,
    ktc_picture,
    ktc_score,
    read_ktc,
    read_ktc_truth,
)
from onmanifold.operators.eit.measurements.ktc_labels import ktc_best_labels
from onmanifold.operators.eit.measurements.measurement import Measurement
from onmanifold.operators.eit.measurements.model_error import transfer_errors
from onmanifold.operators.eit.measurements.noise import channel_offsets, fit_noise, noise_std
from onmanifold.operators.eit.measurements.plausibility import (
    Implausible,
    check_against,
    check_reference,
)
from onmanifold.operators.eit.mesh.files import read_mesh
from onmanifold.operators.eit.mesh.generate import generate_mesh
from onmanifold.operators.eit.mesh.mesh import Mesh
from onmanifold.operators.eit.mesh.polar import polar_mesh
from onmanifold.operators.eit.mesh.warp import electrode_ends, with_ends
from onmanifold.operators.eit.models.continuum import Continuum
from onmanifold.operators.eit.models.electrodes import CompleteElectrodes
from onmanifold.operators.eit.models.protocol import Protocol
from onmanifold.operators.eit.operator import EIT
from onmanifold.operators.eit.options import from_options
from onmanifold.operators.eit.plot import plot_eit

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
    "ElectrodeFit",
    "Engine",
    "Exponential",
    "Geometry",
    "Implausible",
    "Inclusions",
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
    "calibrate_electrodes",
    "calibrate_width",
    "channel_offsets",
    "check_against",
    "check_reference",
    "electrode_ends",
    "fit_noise",
    "flag_channels",
    "from_options",
    "generate_mesh",
    "ktc_best_labels",
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
    "reciprocity",
    "save_measurement",
    "transfer_errors",
    "with_ends",
]
