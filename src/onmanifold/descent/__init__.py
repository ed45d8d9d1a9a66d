"""Descent on a manifold: problem, methods, stopping rules, and the loop that runs them."""

from onmanifold.descent.build import build_problem
from onmanifold.descent.first_order import LBFGS, ConjugateGradient, RiemannianGradientDescent
from onmanifold.descent.latent import Latent, LatentAdam
from onmanifold.descent.levenberg_marquardt import LevenbergMarquardt
from onmanifold.descent.loop import descend
from onmanifold.descent.method import Method, State
from onmanifold.descent.problem import Problem
from onmanifold.descent.run import Descent
from onmanifold.descent.stopping import (
    Discrepancy,
    GradientNorm,
    MaxSteps,
    SmallDecrease,
    StoppingRule,
)

__all__ = [
    "LBFGS",
    "ConjugateGradient",
    "Descent",
    "Discrepancy",
    "GradientNorm",
    "Latent",
    "LatentAdam",
    "LevenbergMarquardt",
    "MaxSteps",
    "Method",
    "Problem",
    "RiemannianGradientDescent",
    "SmallDecrease",
    "State",
    "StoppingRule",
    "build_problem",
    "descend",
]
