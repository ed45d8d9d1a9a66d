"""X-ray computed tomography: line integrals along the rays of a parallel or a fan beam."""

from onmanifold.operators.ct.calibration import CalibratedScanner, calibrate_disk, fit_attenuation
from onmanifold.operators.ct.disk import Attenuation, Disk, SeenFromDisk, locate_disk, without_air
from onmanifold.operators.ct.faults import UnreliableData
from onmanifold.operators.ct.geometry import Beam, FanBeam, ParallelBeam
from onmanifold.operators.ct.holes import HolesInDisk
from onmanifold.operators.ct.operator import Tomography, from_options
from onmanifold.operators.ct.sinogram import Sinogram
from onmanifold.operators.ct.total_variation import (
    binary_total_variation,
    total_variation,
    total_variation_of,
)

__all__ = [
    "Attenuation",
    "Beam",
    "CalibratedScanner",
    "Disk",
    "FanBeam",
    "HolesInDisk",
    "ParallelBeam",
    "SeenFromDisk",
    "Sinogram",
    "Tomography",
    "UnreliableData",
    "binary_total_variation",
    "calibrate_disk",
    "fit_attenuation",
    "from_options",
    "locate_disk",
    "total_variation",
    "total_variation_of",
    "without_air",
]
