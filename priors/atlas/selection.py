"""How many charts: what held-out examples say, and ``onmanifold atlas-choose``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from onmanifold.checks import check_number
from onmanifold.priors.atlas.atlas import Atlas
from onmanifold.priors.atlas.diagnostics import chart_distances, held_out, relative_to_norm
from onmanifold.priors.datasets import stream
from onmanifold.priors.training.evaluation import log_likelihood
from onmanifold.priors.training.recipe import Recipe
from onmanifold.priors.training.run import train


def compare_charts(
    recipe: Recipe,
    charts: Sequence[int],
    output: str | Path,
    *,
    share: float = 0.25,
    examples: int = 2000,
    progress: bool = True,
) -> list[dict[str, float]]:
    """Train an atlas for each number of charts and compare them on held-out examples.

    Args:
        recipe: what is trained otherwise.
        charts: the numbers of charts.
        output: folder for checkpoints, one for each number; finished ones are taken up again.
        share: part of the recipe's steps that each training takes.
        examples: held-out examples.
        progress: show a progress bar.

    Returns:
        Of each atlas ``charts``, their number; ``log_likelihood``, the mean lower bound of the held-out
        log-likelihood in nats, and its ``standard_error``; ``relative_error``, the median distance of
        held-out examples to the atlas, relative to their norm, and ``relative_error_95``, its 95th
        percentile; ``smallest_chart``, the share of them in the chart that explains the fewest.

    Raises:
        ValueError: a recipe that cannot be trained with one of the numbers.
    """
    short = shortened(recipe, share)
    for number in charts:  # before the first of them is trained
        short.with_charts(number).prepare()
    x = held_out(recipe.load_data(), examples, recipe.seed)
    found: list[dict[str, float]] = []
    for number in charts:
        variant = short.with_charts(number)
        atlas = train(variant, Path(output) / variant.name, resume=True, progress=progress)
        assert isinstance(atlas, Atlas)
        bound = log_likelihood(atlas, x, stream(recipe.seed, "held-out", 1)).double()
        best, chart = chart_distances(atlas, x).min(dim=1)
        relative = relative_to_norm(best, x)
        usage = torch.bincount(chart, minlength=number) / len(x)
        found.append(
            {
                "charts": number,
                "log_likelihood": float(bound.mean()),
                "standard_error": float(bound.std() / len(bound) ** 0.5),
                "relative_error": float(relative.median()),
                "relative_error_95": float(relative.quantile(0.95)),
                "smallest_chart": float(usage.min()),
            }
        )
    return found


def shortened(recipe: Recipe, share: float) -> Recipe:
    """The recipe with each phase ``share`` as long."""
    check_number(share, "share", high=1 + 1e-9)
    steps = {
        name: round(share * recipe.schedule.get(name, 0))
        for name in ("seeding", "joint", "overlap", "hidden_from")
    }
    return replace(recipe, schedule=recipe.schedule | steps)
