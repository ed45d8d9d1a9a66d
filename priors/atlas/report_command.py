"""``onmanifold atlas-report``: measure an atlas, print the summary, write numbers and figures."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Annotated

import typer

from onmanifold.errors import InputError
from onmanifold.plugins import load_dataset
from onmanifold.pretrained import load_prior, prior_card
from onmanifold.priors.atlas.report import AtlasReport, atlas_report
from onmanifold.storage import check_folder, write_folder


def write_report(report: AtlasReport, folder: str | Path) -> list[str]:
    """Write ``report.json``, which holds every number, and a PNG of each figure; returns their names."""
    from onmanifold.priors.atlas.report_figures import figures

    files = {
        "report.json": (json.dumps(report.as_dict(), indent=2, allow_nan=False) + "\n").encode()
    }
    for name, figure in figures(report).items():
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=150)
        files[f"{name}.png"] = stream.getvalue()
    write_folder(folder, files)
    return list(files)


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

    check_folder(output)
    card = prior_card(prior)
    learned = card.get("recipe", {}).get("data") if data is None else {"name": data}
    if not learned:
        raise InputError(f"the card of {prior!r} does not say what it learned: give --data")
    report = atlas_report(
        load_prior(prior), load_dataset(**learned), card, samples=samples, seed=seed
    )
    write_report(report, output)
    table = Table("", "measured", "expected", "met", title=f"atlas report: {report.name}")
    for finding in report.findings():
        mark = {True: "[green]yes", False: "[bold red]no", None: ""}[finding.passed]
        table.add_row(finding.name, finding.value, finding.expected, mark)
    Console().print(table)
    print(f"written to {output / 'report.json'}, with figures beside it")
