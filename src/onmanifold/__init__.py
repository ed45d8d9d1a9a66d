"""Inverse problems, solved on learned manifolds."""

from onmanifold.descent import (
    LBFGS,
    ConjugateGradient,
    Discrepancy,
    GradientNorm,
    Latent,
    LatentAdam,
    LevenbergMarquardt,
    MaxSteps,
    RiemannianGradientDescent,
    SmallDecrease,
)
from onmanifold.errors import InputError
from onmanifold.fidelity import (
    CorrelatedGaussian,
    Fidelity,
    FunctionFidelity,
    Gaussian,
    Poisson,
    StudentT,
    p_value,
)
from onmanifold.initial_points import InitialPoints
from onmanifold.operator import (
    Autodiff,
    ForwardOperator,
    Linearization,
    OutsideDomain,
    as_operator,
    linearize,
    simulate,
)
from onmanifold.plugins import load_dataset, load_operator
from onmanifold.pretrained import load_prior, prior_names
from onmanifold.prior import ManifoldPrior, Point
from onmanifold.relaxation import Relaxed, relax
from onmanifold.retraction import AveragedRetraction, ChartRetraction, ProjectionRetraction
from onmanifold.score import score_test
from onmanifold.solution import InconsistentWarning, Solution
from onmanifold.solve import solve
from onmanifold.status import Status
from onmanifold.weights import ByDiscrepancy, ByLCurve

__all__ = [
    "LBFGS",
    "Autodiff",
    "AveragedRetraction",
    "ByDiscrepancy",
    "ByLCurve",
    "ChartRetraction",
    "ConjugateGradient",
    "CorrelatedGaussian",
    "Discrepancy",
    "Fidelity",
    "ForwardOperator",
    "FunctionFidelity",
    "Gaussian",
    "GradientNorm",
    "InputError",
    "Latent",
    "LatentAdam",
    "LevenbergMarquardt",
    "Linearization",
    "ManifoldPrior",
    "MaxSteps",
    "InconsistentWarning",
    "OutsideDomain",
    "Point",
    "Poisson",
    "ProjectionRetraction",
    "Relaxed",
    "RiemannianGradientDescent",
    "SmallDecrease",
    "Solution",
    "InitialPoints",
    "Status",
    "StudentT",
    "as_operator",
    "linearize",
    "load_dataset",
    "load_operator",
    "load_prior",
    "p_value",
    "prior_names",
    "relax",
    "score_test",
    "simulate",
    "solve",
]
