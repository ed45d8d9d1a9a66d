"""The subcommands ``train``, ``atlas-choose``, ``atlas-report``; what only one of them needs, it imports."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onmanifold.errors import InputError
from onmanifold.plugins import load_dataset
from onmanifold.pretrained import load_prior, prior_card
from onmanifold.storage import check_folder

if TYPE_CHECKING:
    from onmanifold.priors.training.recipe import Recipe


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
    from onmanifold.priors.training.evaluation import store
    from onmanifold.priors.training.run import train

    chosen = _chosen(recipe, data)
    if charts is not None and charts != chosen.model.get("charts"):
        chosen = chosen.with_charts(charts)
    prior = train(chosen, output / "checkpoints", resume=resume, devices=devices, nodes=nodes)
    if os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0":  # the first process
        store(chosen, prior, output)


def _chosen(recipe: str, data: str | None) -> Recipe:
    """The recipe that the arguments of the command line name."""
    from onmanifold.priors.training.recipe import Recipe, method_names

    if recipe in method_names():
        if data is None:
            raise InputError(f"method {recipe} needs data to learn from: --data NAME")
        return Recipe.default(recipe, data)
    chosen = Recipe.read(recipe)
    return chosen if data is None else chosen.with_data(data)


def choose_command(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe's name, or a recipe file.")],
    output: Annotated[Path, typer.Option(help="Folder for checkpoints and charts.csv.")],
    charts: Annotated[
        list[int] | None, typer.Option(help="A number of charts; repeat for more. None: 1, 2, 4.")
    ] = None,
    share: Annotated[float, typer.Option(help="Part of the recipe's steps to train.")] = 0.25,
    examples: Annotated[int, typer.Option(help="Held-out examples.")] = 2000,
) -> None:
    """Choose d and K: intrinsic dimension of the data, and short trainings compared on held-out examples."""
    from rich.console import Console
    from rich.table import Table

    from onmanifold.priors.atlas.selection import compare_charts
    from onmanifold.priors.datasets import part_of, stream
    from onmanifold.priors.training.dimension import dimension_by_scale
    from onmanifold.priors.training.recipe import Recipe

    chosen = Recipe.read(recipe)
    console = Console()
    x, _ = part_of(chosen.load_data(), "seeding").sample(2000, stream(chosen.seed, "seeding"))
    dimensions = dimension_by_scale(x)
    table = Table("neighbours", *map(str, dimensions), title="intrinsic dimension by scale")
    table.add_row("dimension", *(f"{d:.2f}" for d in dimensions.values()))
    console.print(table)
    found = compare_charts(chosen, charts or [1, 2, 4], output, share=share, examples=examples)
    table = Table(*(name.replace("_", " ") for name in found[0]), title="held-out examples")
    for candidate in found:
        table.add_row(*(f"{value:.4g}" for value in candidate.values()))
    console.print(table)
    with open(output / "charts.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(found[0]))
        writer.writeheader()
        writer.writerows(found)


def report_command(
    prior: Annotated[str, typer.Argument(help="Name of a pretrained prior, or its folder.")],
    data: Annotated[
        str | None, typer.Option(help="Name of the data set; default: the one it learned.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Examples; default: 10000 points, or 1000 images.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for numbers and figures.")] = Path(
        "atlas-report"
    ),
    seed: Annotated[int, typer.Option(help="Seed of examples and samples.")] = 0,
) -> None:
    """Measure what an atlas has learned: coverage, overlap of charts, distortion; writes figures."""
    from rich.console import Console
    from rich.table import Table

    from onmanifold.priors.atlas.report import AtlasReport
    from onmanifold.priors.atlas.report_figures import write_report

    check_folder(output)
    card = prior_card(prior)
    learned = card.get("recipe", {}).get("data") if data is None else {"name": data}
    if not learned:
        raise InputError(f"the card of {prior!r} does not say what it learned: give --data")
    report = AtlasReport(
        load_prior(prior), load_dataset(**learned), card, samples=samples, seed=seed
    )
    write_report(report, output)
    table = Table("", "measured", "expected", "met", title=f"atlas report: {report.name}")
    for finding in report.findings():
        mark = {True: "[green]yes", False: "[bold red]no", None: ""}[finding.passed]
        table.add_row(finding.name, finding.value, finding.expected, mark)
    Console().print(table)
    print(f"written to {output / 'report.json'}, with figures beside it")
