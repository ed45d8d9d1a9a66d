"""Autoencoders: one chart, with a learned inverse."""

from onmanifold.priors.autoencoder.autoencoder import Autoencoder, AutoencoderConfig
from onmanifold.priors.autoencoder.mixture import GaussianMixture

__all__ = ["Autoencoder", "AutoencoderConfig", "GaussianMixture"]
