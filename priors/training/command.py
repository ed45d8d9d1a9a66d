"""``onmanifold train``: train a prior and store it with its card."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from onmanifold.errors import InputError
from onmanifold.pretrained import save_prior
from onmanifold.prior import ManifoldPrior
from onmanifold.priors.training.evaluation import held_out_metrics
from onmanifold.priors.training.recipe import Recipe, method_names
from onmanifold.priors.training.run import Checkpoints, train


def train_command(
    recipe: Annotated[
        str, typer.Argument(help="A shipped recipe's name, a recipe file, or a method.")
    ],
    output: Annotated[Path, typer.Option(help="Folder for the prior and its checkpoints.")],
    data: Annotated[str | None, typer.Option(help="The data set; a method needs one.")] = None,
    resume: Annotated[bool, typer.Option(help="Continue from the last checkpoint.")] = False,
    charts: Annotated[
        int | None, typer.Option(help="Another number of charts than the recipe's.")
    ] = None,
    devices: Annotated[int, typer.Option(help="Number of devices on a machine.")] = 1,
    nodes: Annotated[int, typer.Option(help="Number of machines, with torchrun.")] = 1,
) -> None:
    """Train a prior from a recipe, and store it with a card of held-out metrics."""
    chosen = _chosen(recipe, data)
    if charts is not None and charts != chosen.model.get("charts"):
        chosen = chosen.with_charts(charts)
    prior = train(chosen, output / "checkpoints", resume=resume, devices=devices, nodes=nodes)
    if os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0":  # the first process
        store(chosen, prior, output)


def _chosen(recipe: str, data: str | None) -> Recipe:
    """The recipe that the arguments of the command line name."""
    if recipe in method_names():
        if data is None:
            raise InputError(f"method {recipe} needs data to learn from: --data NAME")
        return Recipe.default(recipe, data)
    chosen = Recipe.read(recipe)
    return chosen if data is None else chosen.with_data(data)


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
