"""X-ray computed tomography: line integrals along the rays of a parallel or a fan beam."""

from onmanifold.operators.ct.geometry import Beam, FanBeam, ParallelBeam
from onmanifold.operators.ct.operator import Tomography, from_options

__all__ = ["Beam", "FanBeam", "ParallelBeam", "Tomography", "from_options"]
