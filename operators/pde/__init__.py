"""Parameters of partial differential equations: any residual in UFL, solved by dolfinx."""

from onmanifold.operators.pde.models import darcy, diffuse_optics
from onmanifold.operators.pde.operator import PDE, PDELinearization

__all__ = ["PDE", "PDELinearization", "darcy", "diffuse_optics"]
