"""The report of an atlas: one page that says what it has learned, and ``onmanifold atlas-report``."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from onmanifold.checks import check_count
from onmanifold.plugins import load_dataset
from onmanifold.pretrained import load_prior, prior_card
from onmanifold.prior import ManifoldPrior, Point
from onmanifold.priors.atlas import diagnostics, probes
from onmanifold.storage import check_folder, write_folder

COVERED = 0.99  # share within the tolerance that a good atlas reaches, both ways
EXACT = {"as stored": 1e-4, "float64": 1e-10}  # largest |E(D(z)) - z|
EXPLAINS = 0.01  # of the examples; a chart that explains fewer is dead
OUTSIDE = 0.1  # share of a chart's codes outside its box from which on the box is too small
SHOWN = 4000  # points in a scatter plot
PICTURES = 8  # of each chart


@dataclass(frozen=True)
class Check:
    """One line of the summary.

    Attributes:
        name: what was measured.
        value: what came out, as text.
        expected: what a good atlas gives, as text; empty where there is no such thing.
        passed: whether it does; None where nothing is expected.
    """

    name: str
    value: str
    expected: str = ""
    passed: bool | None = None


@dataclass(frozen=True)
class Report:
    """All that is known of an atlas, see :mod:`onmanifold.priors.atlas.diagnostics`.

    Attributes:
        name: name of the atlas.
        about: what its card says (description, data, sha256), and the seed of the report.
        prior: the atlas.
        examples: held-out examples ``(n, *x_shape)``.
        samples: samples of the atlas ``(m, *x_shape)``, to be looked at.
        sample_chart: their charts, ``(m,)``.
        overlap: which charts share how much.
        coverage: distances of data and atlas.
        distortion: of each chart.
        usage: of each chart's latent box.
        responsibilities: which charts explain the examples.
        exactness: of the encoders.
    """

    name: str
    about: dict[str, Any]
    prior: ManifoldPrior
    examples: Tensor
    samples: Tensor
    sample_chart: Tensor
    overlap: diagnostics.Overlap
    coverage: diagnostics.Coverage
    distortion: tuple[diagnostics.Distortion, ...]
    usage: tuple[diagnostics.LatentUsage, ...]
    responsibilities: diagnostics.Responsibilities
    exactness: diagnostics.Exactness

    @property
    def components(self) -> tuple[tuple[int, ...], ...]:
        """Connected components of the overlap graph."""
        return diagnostics.components(self.overlap.shares)

    def checks(self) -> list[Check]:
        """The main numbers, and whether they are what a good atlas gives."""
        return [*self._data_checks(), *self._chart_checks()]

    def _data_checks(self) -> list[Check]:
        found, lines = self.coverage, []
        shares = {"data near the atlas": found.covered, "atlas near the data": found.on_manifold}
        for name, share in shares.items():
            if share is not None:
                within = f"{_percent(share)} within {found.tolerance:.3g}"
                lines.append(Check(name, within, f"at least {COVERED:.0%}", share >= COVERED))
        middle, high = probes.quantiles(found.relative, (0.5, 0.95)).tolist()
        error = f"median {100 * middle:.2f} %, 95 % below {100 * high:.2f} %"
        return [*lines, Check("relative distance to the atlas", error)]

    def _chart_checks(self) -> list[Check]:
        usage = self.responsibilities.usage
        dead = [k for k, share in enumerate(usage.tolist()) if share < EXPLAINS]
        unused = [f"{i} of chart {k}" for k, own in enumerate(self.usage) for i in own.unused]
        total = self.prior.dim * self.prior.num_charts
        few = _listed(unused) if len(unused) < 4 else f"{len(unused)} of {total}"
        outside = max(own.outside for own in self.usage)
        condition = torch.cat([d.condition for d in self.distortion])
        exact = dict(zip(EXACT, (self.exactness.as_stored, self.exactness.float64), strict=True))
        groups = " | ".join(" ".join(map(str, group)) for group in self.components)
        charts = f"{len(self.components)}, of charts {groups}"
        return [
            Check("connected components", charts),
            Check("dead charts", _listed(dead), "none", not dead),
            Check("unused latent coordinates", few, "none", not unused),
            Check(
                "codes outside the box", f"at most {_percent(outside)} in a chart",
                f"at most {OUTSIDE:.0%}", outside <= OUTSIDE,
            ),
            Check("condition of J", f"median {_median(condition):.3g}"),
            *(
                Check(f"|E(D(z)) - z|, {how}", f"{exact[how]:.1e}", f"at most {limit:.0e}",
                      exact[how] <= limit)
                for how, limit in EXACT.items()
            ),
        ]  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """Every number, JSON-able."""
        found, explained = self.coverage, self.responsibilities
        levels = [str(level) for level in probes.QUANTILES]

        def spread(values: Tensor | None) -> Any:
            if values is None:
                return None
            return dict(zip(levels, probes.quantiles(values).tolist(), strict=True))

        charts = [
            {
                "weight": float(explained.weights[k]),
                "mean_responsibility": float(explained.usage[k]),
                "examples": len(own.codes),
                "codes_outside_box": own.outside,
                "code_std": own.std.tolist(),
                "latent_std": own.reference.tolist(),
                "code_quantiles": spread(own.codes),
                "effect": own.effect.tolist(),
                "unused_coordinates": list(own.unused),
                "largest_singular_value": spread(bend.singular_values[:, 0]),
                "smallest_singular_value": spread(bend.singular_values[:, -1]),
                "condition": spread(bend.condition),
                "log_volume_std": float(probes.deviation(bend.log_volume)),
            }
            for k, (own, bend) in enumerate(zip(self.usage, self.distortion, strict=True))
        ]
        return {
            "name": self.name,
            **self.about,
            "overlap": {
                "tolerance": self.overlap.tolerance,
                "shares": self.overlap.shares.tolist(),
                "components": [list(group) for group in self.components],
            },
            "coverage": {
                "tolerance": found.tolerance,
                "diameter": found.diameter,
                "data_near_atlas": found.covered,
                "atlas_near_data": found.on_manifold,
                "data_to_atlas": spread(found.to_atlas),
                "relative": spread(found.relative),
                "atlas_to_data": spread(found.to_data),
            },
            "responsibilities": {
                "mean_entropy": float(explained.entropy.mean()),
                "shared": float((explained.largest < 0.9).double().mean()),
            },
            "exactness": {
                "as_stored": self.exactness.as_stored,
                "float64": self.exactness.float64,
            },
            "charts": charts,
            "checks": [vars(check) for check in self.checks()],
        }


def atlas_report(
    prior: ManifoldPrior,
    data: Any,
    card: dict[str, Any] | None = None,
    *,
    samples: int | None = None,
    seed: int = 0,
) -> Report:
    """Measure an atlas against the data that it learned.

    Args:
        prior: the atlas.
        data: its data manifold.
        card: its card, for the texts.
        samples: number of held-out examples, and of samples of the atlas. Default: 10 000 points, or 1000
            pictures.
        seed: seed of all of them.

    Raises:
        ValueError: the data are not of the shape that the atlas decodes to.

    Example:
        >>> from onmanifold import load_dataset, load_prior
        >>> report = atlas_report(load_prior("two-circles"), load_dataset("two-circles"), samples=500)
        >>> report.components
        ((0, 3), (1, 2))
        >>> all(check.passed is not False for check in report.checks())
        True
    """
    points = len(prior.x_shape) == 1
    n = (10_000 if points else 1000) if samples is None else samples
    check_count(n, "samples")
    if tuple(data.x_shape) != tuple(prior.x_shape):
        raise ValueError(
            f"the data have shape {tuple(data.x_shape)}, the prior decodes to {prior.x_shape}: "
            "give the data that it learned"
        )
    card = card or {}
    x = probes.held_out(data, n, seed).to(prior.device, prior.dtype)
    shown = prior.sample(SHOWN, seed) if points else _pictures(prior, seed)
    few = min(n, 1000 if points else 200)
    source = str(data) if is_dataclass(data) else type(data).__name__
    told = {key: card[key] for key in ("description", "sha256") if key in card}
    return Report(
        name=card.get("name", type(prior).__name__),
        about=told | {"data": source, "samples": n, "seed": seed},
        prior=prior,
        examples=x,
        samples=probes.decoded(prior, shown),
        sample_chart=shown.chart,
        overlap=diagnostics.overlap_graph(
            prior, diagnostics.overlap_tolerance(prior, x), few, seed
        ),
        coverage=diagnostics.coverage(prior, data, n, seed),
        distortion=diagnostics.distortion(prior, few, seed),
        usage=diagnostics.latent_usage(prior, x, few),
        responsibilities=diagnostics.responsibilities(prior, x, seed),
        exactness=diagnostics.exactness(prior, few, seed),
    )


def _pictures(prior: ManifoldPrior, seed: int) -> Point:
    """Some samples of every chart, also of one that is seldom drawn."""
    codes = probes.chart_samples(prior, PICTURES, seed)
    chart = torch.tensor([k for k, z in enumerate(codes) for _ in z])
    return Point(chart.to(prior.device), torch.cat(codes))


def write_report(report: Report, folder: str | Path) -> list[str]:
    """Write ``report.html`` (one file with all in it), ``report.json`` and a PNG of each figure."""
    from onmanifold.priors.atlas.report_figures import figures
    from onmanifold.priors.atlas.report_page import page

    pictures = {}
    for name, figure in figures(report).items():
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=150)
        pictures[name] = stream.getvalue()
    numbers = json.dumps(report.as_dict(), indent=2, allow_nan=False) + "\n"
    files = {f"{name}.png": picture for name, picture in pictures.items()}
    files |= {"report.json": numbers.encode(), "report.html": page(report, pictures).encode()}
    write_folder(folder, files)
    return list(files)


def report_command(
    prior: Annotated[str, typer.Argument(help="Name of a pretrained prior, or its folder.")],
    data: Annotated[
        str | None, typer.Option(help="Name of the data manifold; default: the one it learned.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Examples; default: 10000 points, or 1000 pictures.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the page.")] = Path("atlas-report"),
    seed: Annotated[int, typer.Option(help="Seed of examples and samples.")] = 0,
) -> None:
    """Measure what an atlas has learned: coverage, overlap of charts, distortion; writes a page."""
    from rich.console import Console
    from rich.table import Table

    check_folder(output)
    card = prior_card(prior)
    learned = card.get("recipe", {}).get("data") if data is None else {"name": data}
    if not learned:
        raise ValueError(f"the card of {prior!r} does not say what it learned: give --data")
    report = atlas_report(
        load_prior(prior), load_dataset(**learned), card, samples=samples, seed=seed
    )
    write_report(report, output)
    table = Table("", "measured", "expected", "met", title=f"atlas report: {report.name}")
    for check in report.checks():
        mark = {True: "[green]yes", False: "[bold red]no", None: ""}[check.passed]
        table.add_row(check.name, check.value, check.expected, mark)
    Console().print(table)
    print(f"written to {output / 'report.html'}")


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _listed(things: list[Any]) -> str:
    return ", ".join(map(str, things)) or "none"


def _median(values: Tensor) -> float:
    return float(probes.quantiles(values, (0.5,)))
