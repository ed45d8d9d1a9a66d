"""Learned manifolds, how they are trained, and what they are trained on.

The names below are imported when they are first used, so that ``import onmanifold.priors`` is cheap.

Example:
    >>> from onmanifold.priors import Atlas, AtlasConfig
    >>> network = {"network": "dense", "options": {"hidden": 8}}
    >>> Atlas(AtlasConfig(x_shape=(2,), dim=1, charts=2, sigma_x=0.1, chart=network)).num_charts
    2
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onmanifold.priors.atlas import Atlas as Atlas
    from onmanifold.priors.atlas import AtlasConfig as AtlasConfig
    from onmanifold.priors.atlas import Chart as Chart
    from onmanifold.priors.atlas import LatentFlow as LatentFlow
    from onmanifold.priors.atlas import SoftBox as SoftBox
    from onmanifold.priors.autoencoder import Autoencoder as Autoencoder
    from onmanifold.priors.autoencoder import AutoencoderConfig as AutoencoderConfig
    from onmanifold.priors.autoencoder import GaussianMixture as GaussianMixture
    from onmanifold.priors.datasets import Dataset as Dataset
    from onmanifold.priors.datasets import Examples as Examples
    from onmanifold.priors.nuisance import BackgroundOffset as BackgroundOffset
    from onmanifold.priors.nuisance import MeasurementParameters as MeasurementParameters
    from onmanifold.priors.nuisance import NuisanceParameters as NuisanceParameters
    from onmanifold.priors.scene import Arrangement as Arrangement
    from onmanifold.priors.scene import RadialOutlines as RadialOutlines
    from onmanifold.priors.scene import Scene as Scene
    from onmanifold.priors.scene import count_probabilities as count_probabilities
    from onmanifold.priors.training.method import TrainingMethod as TrainingMethod
    from onmanifold.priors.training.own import train_prior as train_prior
    from onmanifold.priors.training.recipe import Recipe as Recipe
    from onmanifold.priors.training.run import Diverged as Diverged
    from onmanifold.priors.training.run import train as train

_MODULES = {
    "atlas": ("Atlas", "AtlasConfig", "Chart", "LatentFlow", "SoftBox"),
    "autoencoder": ("Autoencoder", "AutoencoderConfig", "GaussianMixture"),
    "datasets": ("Dataset", "Examples"),
    "nuisance": ("BackgroundOffset", "MeasurementParameters", "NuisanceParameters"),
    "scene": ("Arrangement", "RadialOutlines", "Scene", "count_probabilities"),
    "training.method": ("TrainingMethod",),
    "training.own": ("train_prior",),
    "training.recipe": ("Recipe",),
    "training.run": ("Diverged", "train"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
