"""Training: a recipe in, a prior with its card out.

The names below are imported when they are first used, so that ``import onmanifold.priors.training`` is cheap.

Example:
    >>> from onmanifold.priors.training import Recipe
    >>> Recipe.read("sphere").method
    'atlas'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onmanifold.priors.training.method import TrainingMethod as TrainingMethod
    from onmanifold.priors.training.own import train_prior as train_prior
    from onmanifold.priors.training.recipe import Recipe as Recipe
    from onmanifold.priors.training.run import Diverged as Diverged
    from onmanifold.priors.training.run import train as train

_HOME = {
    "Diverged": "run",
    "Recipe": "recipe",
    "TrainingMethod": "method",
    "train": "run",
    "train_prior": "own",
}

__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
