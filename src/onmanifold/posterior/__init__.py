"""How certain a solution is: the posterior over charts and latent coordinates, approximated and sampled."""

from onmanifold.posterior.exploration import explore, find_posterior
from onmanifold.posterior.laplace import Laplace, laplace
from onmanifold.posterior.linear import LinearPosterior, linear_posterior, ray_reductions
from onmanifold.posterior.sampler import sample_posterior
from onmanifold.posterior.samples import NotMixed, PosteriorSamples

__all__ = [
    "Laplace",
    "LinearPosterior",
    "NotMixed",
    "PosteriorSamples",
    "explore",
    "find_posterior",
    "laplace",
    "linear_posterior",
    "ray_reductions",
    "sample_posterior",
]
