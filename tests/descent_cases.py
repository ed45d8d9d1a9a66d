"""Problems on analytic manifolds, and the methods that solve them."""

import torch

from onmanifold import (
    LBFGS,
    ConjugateGradient,
    Gaussian,
    GradientNorm,
    Latent,
    LevenbergMarquardt,
    MaxSteps,
    RiemannianGradientDescent,
)
from onmanifold.descent import build_problem

METHODS = [
    LevenbergMarquardt(),
    LevenbergMarquardt(secant=3),
    RiemannianGradientDescent(),
    ConjugateGradient(),
    LBFGS(),
    Latent(LBFGS()),
]
TIGHT = MaxSteps(300) | GradientNorm(1e-7)


def randn(*shape, seed=0):
    source = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=source, dtype=torch.float64)


def warp(x):
    """A nonlinear operator for every analytic prior."""
    flat = x.flatten(1)
    return torch.cat([flat + 0.3 * flat.square(), flat.sum(1, keepdim=True).sin()], dim=1)


def simulated(prior, n=5, std=0.05, seed=0):
    truth = prior.sample(n, seed)
    y = warp(prior.decode(truth))
    return y + std * randn(*y.shape, seed=seed + 1)


def problem_for(prior, y, **options):
    options.setdefault("fidelity", Gaussian(0.05))
    return build_problem(warp, y, prior, **options)
