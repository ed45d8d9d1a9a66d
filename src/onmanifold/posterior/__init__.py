"""How certain a solution is: the posterior over charts and latent coordinates, approximated and sampled."""

from onmanifold.posterior.exploration import explore
from onmanifold.posterior.laplace import Laplace, laplace
from onmanifold.posterior.sampler import sample_posterior
from onmanifold.posterior.samples import NotMixed, PosteriorSamples

__all__ = [
    "Laplace",
    "NotMixed",
    "PosteriorSamples",
    "explore",
    "laplace",
    "sample_posterior",
]
