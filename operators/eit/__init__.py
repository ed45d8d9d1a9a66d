"""Electrical impedance tomography: complete electrode and continuum model, in two and three dimensions.

What is here: the operator and its conductivity maps, bodies, meshes, protocols, measurements, channel
quality, calibration. :mod:`ktc` has what belongs to the Kuopio Tomography Challenge.

Importing this module does no work and needs neither dolfinx nor gmsh.
"""

from onmanifold.operators.eit.calibration.calibrate import (
    Calibration,
    TankParameters,
    calibrate,
    calibrate_width,
)
from onmanifold.operators.eit.calibration.electrode_fit import (
    ElectrodeFit,
    calibrate_electrodes,
    fine_at_wall,
)
from onmanifold.operators.eit.calibration.instrument import Instrument
from onmanifold.operators.eit.calibration.tank import (
    CalibratedTank,
    calibrate_tank,
    homogeneous_voltages,
)
from onmanifold.operators.eit.channels.convention import check_convention
from onmanifold.operators.eit.channels.flags import ChannelReport, flag_channels
from onmanifold.operators.eit.channels.plausibility import (
    Implausible,
    check_against,
    check_reference,
)
from onmanifold.operators.eit.channels.reciprocity import Reciprocity, reciprocity
from onmanifold.operators.eit.conductivity import (
    Affine,
    ConductivityMap,
    Exponential,
    Inclusions,
    Labels,
    Saturating,
)
from onmanifold.operators.eit.fem.assembly import assemble
from onmanifold.operators.eit.fem.discretization import Discretization, load_discretization
from onmanifold.operators.eit.fem.engine import Engine, Fields
from onmanifold.operators.eit.geometry.base import Geometry, MeshGeometry
from onmanifold.operators.eit.geometry.curve import BoundaryCurve
from onmanifold.operators.eit.geometry.cylinder import Cylinder
from onmanifold.operators.eit.geometry.tank import Tank
from onmanifold.operators.eit.linearization import EITLinearization
from onmanifold.operators.eit.measurements.approximation_error import approximation_error
from onmanifold.operators.eit.measurements.files import (
    frames_of,
    read_frames,
    read_measurement,
    save_measurement,
)
from onmanifold.operators.eit.measurements.measurement import Measurement
from onmanifold.operators.eit.measurements.noise import fit_noise, noise_std
from onmanifold.operators.eit.mesh.files import read_mesh
from onmanifold.operators.eit.mesh.generate import generate_mesh
from onmanifold.operators.eit.mesh.mesh import Mesh
from onmanifold.operators.eit.mesh.polar import electrode_edges, polar_mesh, with_electrode_edges
from onmanifold.operators.eit.models.continuum import Continuum
from onmanifold.operators.eit.models.electrodes import CompleteElectrodes
from onmanifold.operators.eit.models.presets import NamedProtocol, named_protocol
from onmanifold.operators.eit.models.protocol import Protocol
from onmanifold.operators.eit.models.system import ForwardModel
from onmanifold.operators.eit.one_step import one_step
from onmanifold.operators.eit.operator import EIT
from onmanifold.operators.eit.options import from_options
from onmanifold.operators.eit.plot import plot_eit

__all__ = [
    # the operator
    "EIT",
    "EITLinearization",
    "from_options",
    "one_step",
    "plot_eit",
    # conductivity maps
    "Affine",
    "ConductivityMap",
    "Exponential",
    "Inclusions",
    "Labels",
    "Saturating",
    # bodies
    "BoundaryCurve",
    "Cylinder",
    "Geometry",
    "MeshGeometry",
    "Tank",
    # meshes
    "Discretization",
    "Mesh",
    "assemble",
    "electrode_edges",
    "fine_at_wall",
    "generate_mesh",
    "load_discretization",
    "polar_mesh",
    "read_mesh",
    "with_electrode_edges",
    # what is driven and measured, and the equations
    "CompleteElectrodes",
    "Continuum",
    "Engine",
    "Fields",
    "ForwardModel",
    "NamedProtocol",
    "Protocol",
    "named_protocol",
    # measurements
    "Measurement",
    "approximation_error",
    "fit_noise",
    "frames_of",
    "noise_std",
    "read_frames",
    "read_measurement",
    "save_measurement",
    # channels
    "ChannelReport",
    "Implausible",
    "Reciprocity",
    "check_against",
    "check_convention",
    "check_reference",
    "flag_channels",
    "reciprocity",
    # calibration
    "CalibratedTank",
    "Calibration",
    "ElectrodeFit",
    "Instrument",
    "TankParameters",
    "calibrate",
    "calibrate_electrodes",
    "calibrate_tank",
    "calibrate_width",
    "homogeneous_voltages",
]
