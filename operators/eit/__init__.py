"""Electrical impedance tomography with the complete electrode model.

Importing this module does no work and needs no dolfinx; making an :class:`EIT` does.
"""
from onmanifold.operators.eit.assembly import Discretization, assemble, load_discretization
from onmanifold.operators.eit.conductivity import Affine, ConductivityMap, Exponential, Saturating
from onmanifold.operators.eit.mesh import Mesh, disk_mesh, polar_mesh
from onmanifold.operators.eit.operator import EIT
from onmanifold.operators.eit.protocol import Protocol
from onmanifold.operators.eit.tank import Tank
