"""Methods of training side by side: ``python benchmarks/side_by_side.py [SET]...``

The sets are ``mnist``, ``fashion-mnist`` (32 dimensions, in ``$ONMANIFOLD_DATA``) and ``lit-ball``, images
drawn in colour (8 dimensions, those of a flat embedding). All methods learn from the same 5000 images for as
many steps, with the networks and numbers of ``train_prior``. ``atlas-K`` has K charts, each with networks of
that size; a step teaches all of them. ``flat`` takes distances of the graph of neighbours.

*Error*: median distance of 300 held-out images to the image of their best code, relative to their norm.
*Filled in*: mean PSNR of ``solve`` on 20 held-out images of which half of the pixels were seen, with noise of
0.05. *Trusted*: how many of these are called consistent. *Minutes* are the processor's.
"""

import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from onmanifold import (
    Gaussian,
    InconsistentWarning,
    InputError,
    ManifoldPrior,
    load_dataset,
    simulate,
    solve,
)
from onmanifold.geometry import measure_decoder_error
from onmanifold.operators import Mask
from onmanifold.priors.datasets import Dataset, OwnExamples, draw_examples, part_of, stream
from onmanifold.priors.training import train
from onmanifold.priors.training.choice import planned, shortened
from onmanifold.priors.training.evaluation import held_out_metrics
from onmanifold.priors.training.recipe import IN_MEMORY
from shared.tables import Table

DIMS = {"lit-ball": 8, "mnist": 32, "fashion-mnist": 32}
METHODS = ("ae", "nrae-l", "flat", "vae", "atlas-1", "atlas-2", "atlas-4")
EXAMPLES, MEASURED, SOLVED, NOISE, STARTS = 5000, 300, 20, 0.05, 8
COLUMNS = {
    "method": "<8", "error": "7.1%", "PCA": "7.1%", "PSNR": "6.1f", "filled in": "10.1f", "trusted": "8d",
    "minutes": "8.1f",
}  # fmt: skip


def learned(data: Dataset, name: str, method: str, steps: int, folder: Path) -> ManifoldPrior:
    """What a method learns; that of an atlas names its charts, as ``atlas-4``."""
    kind, _, charts = method.partition("-") if method.startswith("atlas") else (method, "", "")
    part = part_of(data, "train")
    if hasattr(part, "x"):  # of which draws would repeat some
        x = part.x[:EXAMPLES]
    else:
        x = draw_examples(data, "train", EXAMPLES, stream(0, "train"))
    few = OwnExamples.of(x, held_out=0.01, validation=0.01)
    recipe = planned(few, {"name": IN_MEMORY}, name=name, method=kind, dim=DIMS[name])
    schedule = shortened(recipe.schedule, steps)
    model = recipe.model | {"dim": DIMS[name]}  # flat embeddings are twice as wide by themselves
    if kind == "atlas":
        model["charts"] = int(charts)
    else:
        schedule["patience"] = 0
    return train(replace(recipe, schedule=schedule, model=model), folder, data=few, progress=False)


def filled_in(prior: ManifoldPrior, data: Dataset) -> tuple[float, int]:
    """Mean PSNR in dB of held-out images of which half was seen, and how many are consistent."""
    truth = draw_examples(data, "held-out", SOLVED, stream(1, "held-out"))
    seen = torch.rand(truth.shape[1:], generator=stream(1, "validation")) < 0.5
    operator = Mask(seen, tuple(truth.shape[1:]))
    y = simulate(operator, truth, NOISE, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentWarning)
        solution = solve(operator, y, prior, fidelity=Gaussian(NOISE), starts=STARTS)
    errors = (solution.x - truth).square().flatten(1).mean(dim=1)
    return float((-10 * errors.log10()).mean()), int(solution.consistent.sum())


def rows(name: str, methods: list[str], steps: int) -> Iterator[tuple[str | float, ...]]:
    """What each method reaches on a set."""
    data = load_dataset(name)
    for method in methods:
        began = time.process_time()
        try:
            with tempfile.TemporaryDirectory() as folder:
                prior = learned(data, name, method, steps, Path(folder))
        except InputError as error:
            print(f"{method}: {error}")
            continue
        minutes = (time.process_time() - began) / 60
        watched = draw_examples(data, "validation", MEASURED, stream(0, "validation"))
        prior.decoder_error = measure_decoder_error(prior, watched)
        found = held_out_metrics(prior, data, seed=0, n=MEASURED)
        psnr, trusted = filled_in(prior, data)
        yield (
            method,
            found["relative_error"],
            found["pca_relative_error"],
            found["psnr"],
            psnr,
            trusted,
            minutes,
        )


def main(
    sets: Annotated[list[str] | None, typer.Argument(help="Which sets; default: all.")] = None,
    methods: Annotated[str, typer.Option(help="Separated by commas.")] = ",".join(METHODS),
    steps: int = 2000,
) -> None:
    """Train, measure, print."""
    for name in sets or DIMS:
        print(f"\n{name}, {DIMS[name]} dimensions, {steps} steps", flush=True)
        table = Table(COLUMNS)
        for row in rows(name, methods.split(","), steps):
            table.row(*row)


if __name__ == "__main__":
    typer.run(main)
