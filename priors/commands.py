"""The subcommands ``train``, ``atlas-choose``, ``atlas-report``; what only one of them needs, it imports."""

from __future__ import annotations

import csv
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from onmanifold.errors import InputError
from onmanifold.plugins import load_dataset
from onmanifold.pretrained import load_prior, prior_card
from onmanifold.storage import check_folder


def train_command(
    recipe: Annotated[
        str | None, typer.Argument(help="A shipped recipe's name, or a recipe file; or none.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="A folder of images, .npy, .npz, .zarr, or a data set.")
    ] = None,
    method: Annotated[str, typer.Option(help="nrae-l, ae, atlas, ...; of --data.")] = "auto",
    dim: Annotated[int | None, typer.Option(help="Latent dimension; default: chosen.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the prior; default: DATA-prior.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps at most.")] = None,
    key: Annotated[str | None, typer.Option(help="The array in a file with several.")] = None,
    resize: Annotated[str | None, typer.Option(help="Size of all images, such as 64x64.")] = None,
    gray: Annotated[bool, typer.Option("--gray", help="Make coloured images gray.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of weights, examples and noise.")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the last checkpoint.")
    ] = False,
    charts: Annotated[
        int | None, typer.Option(help="Another number of charts than the recipe's.")
    ] = None,
    devices: Annotated[int, typer.Option(help="Number of devices on a machine.")] = 1,
    nodes: Annotated[int, typer.Option(help="Number of machines, with torchrun.")] = 1,
) -> None:
    """Learn a prior from your examples (--data), or by a recipe; store it with card and report."""
    if recipe is None:
        if data is None:
            raise InputError("train needs examples, --data FILE|FOLDER, or the name of a recipe")
        if charts is not None or devices * nodes > 1:
            raise InputError(
                "--charts, --devices and --nodes need a recipe: train first, then take OUTPUT/recipe.toml"
            )
        from onmanifold.priors.training.own import train_prior

        with _warnings_in_lines():
            train_prior(
                data, method, dim, output=output, steps=steps, key=key, resize=_pixels(resize),
                gray=gray, seed=seed, resume=resume,
            )  # fmt: skip
        return
    if (method, dim, steps, key, resize, gray, seed) != ("auto", None, None, None, None, False, 0):
        raise InputError(
            f"a recipe ({recipe}) says its own method, sizes and seed: leave out --method, --dim, --steps, "
            "--key, --resize, --gray and --seed, or the recipe"
        )
    with _warnings_in_lines():
        _train_recipe(recipe, data, output, resume, charts, devices, nodes)


@contextmanager
def _warnings_in_lines() -> Iterator[None]:
    """Print a warning as one line, as errors are; where it was raised says nothing to a user."""

    def say(message: Warning | str, *_: object) -> None:
        print(f"onmanifold: {' '.join(str(message).split())}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = say  # type: ignore[assignment]
        yield


def _train_recipe(
    recipe: str,
    data: str | None,
    output: Path | None,
    resume: bool,
    charts: int | None,
    devices: int,
    nodes: int,
) -> None:
    from onmanifold.priors.training.own import train_and_store
    from onmanifold.priors.training.recipe import Recipe, method_names

    if recipe in method_names():
        raise InputError(f"{recipe} is a method: onmanifold train --data DATA --method {recipe}")
    chosen = Recipe.read(recipe)
    chosen = chosen if data is None else chosen.with_data(data)
    if charts is not None and charts != chosen.model.get("charts"):
        chosen = chosen.with_charts(charts)
    folder = check_folder(Path(f"{chosen.name}-prior") if output is None else output)
    data_set = chosen.load_data()
    train_and_store(chosen, folder, data_set, resume=resume, devices=devices, nodes=nodes)


def _pixels(text: str | None) -> tuple[int, int] | None:
    """``64x48`` as height and width."""
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise InputError(f"--resize takes HEIGHTxWIDTH, such as 64x64; got {text!r}")
    return int(height), int(width)


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
