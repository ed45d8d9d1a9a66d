"""Inverse problems, solved on learned manifolds."""

from importlib import import_module as _import_module
from importlib.metadata import version as _version
from typing import Any as _Any

from onmanifold.decoder_error import DecoderError
from onmanifold.descent import (
    LBFGS,
    ConjugateGradient,
    Discrepancy,
    GradientNorm,
    Latent,
    LatentAdam,
    LevenbergMarquardt,
    MaxSteps,
    Method,
    Problem,
    RiemannianGradientDescent,
    SmallDecrease,
    State,
    StoppingRule,
    build_problem,
)
from onmanifold.errors import InputError
from onmanifold.examination import DerivativeWarning
from onmanifold.fidelity import (
    CorrelatedGaussian,
    EstimatedGaussian,
    EstimatedPoisson,
    Fidelity,
    FunctionFidelity,
    Gaussian,
    Poisson,
    StudentT,
    p_value,
)
from onmanifold.geometry import locate, measure_decoder_error
from onmanifold.initial_points import InitialPoints
from onmanifold.numpy_operator import from_numpy
from onmanifold.operator import (
    Autodiff,
    ForwardOperator,
    Linear,
    Linearization,
    OperatorLike,
    OutsideDomain,
    as_operator,
    linearize,
    simulate,
)
from onmanifold.plugins import dataset_names, load_dataset, load_operator, operator_names
from onmanifold.pretrained import load_prior, prior_card, prior_names, save_prior
from onmanifold.prior import ManifoldPrior, Point, ReachedByJumps
from onmanifold.relaxation import Relaxed, relax
from onmanifold.retraction import (
    AveragedRetraction,
    ChartRetraction,
    ProjectionRetraction,
    Retraction,
)
from onmanifold.score import score_test
from onmanifold.solution import FinalPoints, InconsistentWarning, Solution
from onmanifold.solve import solve
from onmanifold.status import History, Status
from onmanifold.weights import ByDiscrepancy, ByLCurve, WeightRule

__version__ = _version("onmanifold")

__all__ = [
    "Autodiff",
    "AveragedRetraction",
    "ByDiscrepancy",
    "ByLCurve",
    "ChartRetraction",
    "ConjugateGradient",
    "CorrelatedGaussian",
    "DecoderError",
    "DerivativeWarning",
    "Discrepancy",
    "EstimatedGaussian",
    "EstimatedPoisson",
    "Fidelity",
    "FinalPoints",
    "ForwardOperator",
    "FunctionFidelity",
    "Gaussian",
    "GradientNorm",
    "History",
    "InconsistentWarning",
    "InitialPoints",
    "InputError",
    "LBFGS",
    "Latent",
    "LatentAdam",
    "LevenbergMarquardt",
    "Linear",
    "Linearization",
    "ManifoldPrior",
    "MaxSteps",
    "Method",
    "OperatorLike",
    "OutsideDomain",
    "Point",
    "Poisson",
    "Problem",
    "ProjectionRetraction",
    "ReachedByJumps",
    "Relaxed",
    "Retraction",
    "RiemannianGradientDescent",
    "SmallDecrease",
    "Solution",
    "State",
    "Status",
    "StoppingRule",
    "StudentT",
    "WeightRule",
    "__version__",
    "as_operator",
    "build_problem",
    "dataset_names",
    "from_numpy",
    "linearize",
    "load_dataset",
    "load_operator",
    "load_prior",
    "locate",
    "measure_decoder_error",
    "operator_names",
    "p_value",
    "prior_card",
    "prior_names",
    "relax",
    "save_prior",
    "score_test",
    "simulate",
    "solve",
    "train_prior",  # noqa: F822
]


def __getattr__(name: str) -> _Any:
    if name != "train_prior":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # by its name: what trains priors is a plugin, and is imported by those who train
    return _import_module("onmanifold.priors.training.own").train_prior


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
