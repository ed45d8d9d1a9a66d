"""Fidelities: the data term of the objective.

A fidelity compares predictions ``p = A(x)`` with measurements ``y``. The solver asks for its value,
its gradient in ``p`` and its curvature in ``p`` (a symmetric matrix, applied to tangents). A user's class
with the members of :class:`Fidelity`, or a function of ``p`` and ``y``, works as well.
"""

from onmanifold.fidelity.correlated import CorrelatedGaussian
from onmanifold.fidelity.estimated import EstimatedGaussian, EstimatedPoisson
from onmanifold.fidelity.function import FunctionFidelity, as_fidelity
from onmanifold.fidelity.independent import Gaussian, StudentT
from onmanifold.fidelity.joint import Joint
from onmanifold.fidelity.poisson import Poisson
from onmanifold.fidelity.protocol import Fidelity, p_value

__all__ = [
    "CorrelatedGaussian",
    "EstimatedGaussian",
    "EstimatedPoisson",
    "Fidelity",
    "FunctionFidelity",
    "Gaussian",
    "Joint",
    "Poisson",
    "StudentT",
    "as_fidelity",
    "p_value",
]
