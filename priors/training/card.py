"""The card of a trained prior, and the prior stored with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onmanifold.pretrained import save_prior
from onmanifold.prior import ManifoldPrior
from onmanifold.priors.training.evaluation import held_out_metrics
from onmanifold.priors.training.recipe import Recipe
from onmanifold.priors.training.run import Checkpoints


def store(recipe: Recipe, prior: ManifoldPrior, output: Path) -> None:
    """Write a trained prior and its card, in 16 bits; the card's metrics are those after rounding."""
    state = Checkpoints.read(output / "checkpoints")
    rounded = prior.half().float()
    run = {"seconds": round(state["seconds"]), "device": state["device"]} if state else None
    save_prior(rounded, output, card(recipe, rounded, run), half=True)


def card(recipe: Recipe, prior: ManifoldPrior, run: dict[str, Any] | None = None) -> dict[str, Any]:
    """The card of a trained prior: the recipe's texts, the recipe itself, held-out metrics.

    Args:
        recipe: what was trained.
        prior: the result.
        run: how it was trained (seconds, device), for the record.
    """
    return {
        "name": recipe.name,
        **recipe.card,
        "training_data": f"data set {recipe.data['name']!r}, split 'train'",
        "recipe": {
            "method": recipe.method,
            "data": recipe.data,
            "loss": recipe.loss,
            "schedule": recipe.schedule,
            "seed": recipe.seed,
            "precision": recipe.precision,
            "threads": recipe.threads,
        },
        "training": run or {},
        "metrics": held_out_metrics(prior, recipe.load_data(), recipe.seed),
    }
