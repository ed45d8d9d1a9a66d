"""The atlas of VAE charts."""

from onmanifold.priors.atlas.atlas import Atlas, AtlasConfig
from onmanifold.priors.atlas.chart import Chart
from onmanifold.priors.atlas.density import SoftBox
from onmanifold.priors.atlas.flow import LatentFlow

__all__ = ["Atlas", "AtlasConfig", "Chart", "LatentFlow", "SoftBox"]
