"""The report of an atlas: what it has learned, measured on held-out examples."""

from __future__ import annotations

from dataclasses import dataclass, is_dataclass
from typing import Any

import torch
from torch import Tensor

from onmanifold.checks import check_count
from onmanifold.errors import InputError
from onmanifold.prior import ManifoldPrior, Point
from onmanifold.priors.atlas import diagnostics, probes
from onmanifold.priors.datasets import Dataset

COVERED = 0.99  # share within the tolerance that a good atlas reaches, both ways
EXACT = {"as stored": 1e-4, "float64": 1e-10}  # largest |E(D(z)) - z|
EXPLAINS = 0.01  # of the examples; a chart that explains fewer is dead
OUTSIDE = 0.1  # share of a chart's codes outside its box from which on the box is too small
SHOWN = 4000  # points in a scatter plot
IMAGES = 8  # of each chart


@dataclass(frozen=True)
class Finding:
    """One line of the summary.

    Attributes:
        name: what was measured.
        value: what came out, as text.
        expected: what a good atlas gives, as text; empty where nothing is expected.
        passed: whether the value is as expected; None where nothing is.
    """

    name: str
    value: str
    expected: str = ""
    passed: bool | None = None


@dataclass(frozen=True)
class AtlasReport:
    """All that is known of an atlas, see :mod:`onmanifold.priors.atlas.diagnostics`.

    Attributes:
        name: name of the atlas.
        about: what its card says (description, data, sha256), and the seed of the report.
        prior: the atlas.
        examples: held-out examples ``(n, *x_shape)``.
        samples: samples of the atlas ``(m, *x_shape)``, for the figures.
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
    def of_points(self) -> bool:
        """Whether examples are vectors, not images."""
        return len(self.prior.x_shape) == 1

    @property
    def components(self) -> tuple[tuple[int, ...], ...]:
        """Connected components of the overlap graph."""
        return diagnostics.components(self.overlap.shares)

    def findings(self) -> list[Finding]:
        """The main numbers, and whether they are what a good atlas gives."""
        return [*self._data_findings(), *self._chart_findings()]

    def _data_findings(self) -> list[Finding]:
        found, lines = self.coverage, []
        shares = {"data near the atlas": found.covered, "atlas near the data": found.on_manifold}
        for name, share in shares.items():
            if share is not None:
                within = f"{_percent(share)} within {found.tolerance:.3g}"
                lines.append(Finding(name, within, f"at least {COVERED:.0%}", share >= COVERED))
        middle, high = probes.quantiles(found.relative, (0.5, 0.95)).tolist()
        error = f"median {100 * middle:.2f} %, 95 % below {100 * high:.2f} %"
        return [*lines, Finding("relative distance to the atlas", error)]

    def _chart_findings(self) -> list[Finding]:
        usage = self.responsibilities.usage
        dead = [k for k, share in enumerate(usage.tolist()) if share < EXPLAINS]
        unused = [f"{i} of chart {k}" for k, own in enumerate(self.usage) for i in own.unused]
        total = self.prior.dim * self.prior.num_charts
        few = _listed(unused) if len(unused) < 4 else f"{len(unused)} of {total}"
        outside = max(own.outside for own in self.usage)
        condition = torch.cat([d.condition for d in self.distortion])
        exact = dict(zip(EXACT, (self.exactness.as_stored, self.exactness.float64), strict=True))
        groups = " | ".join(" ".join(map(str, group)) for group in self.components)
        return [
            Finding("connected components", f"{len(self.components)}, of charts {groups}"),
            Finding("dead charts", _listed(dead), "none", not dead),
            Finding("unused latent coordinates", few, "none", not unused),
            Finding(
                "codes outside the box", f"at most {_percent(outside)} in a chart",
                f"at most {OUTSIDE:.0%}", outside <= OUTSIDE,
            ),
            Finding("condition of J", f"median {float(probes.quantiles(condition, (0.5,))):.3g}"),
            *(
                Finding(f"|E(D(z)) - z|, {how}", f"{exact[how]:.1e}", f"at most {limit:.0e}",
                        exact[how] <= limit)
                for how, limit in EXACT.items()
            ),
        ]  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """Every number, JSON-able."""
        found, shares = self.coverage, self.responsibilities
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
                "data_to_atlas": _spread(found.to_atlas),
                "relative": _spread(found.relative),
                "atlas_to_data": None if found.to_data is None else _spread(found.to_data),
            },
            "responsibilities": {
                "mean_entropy": float(shares.entropy.mean()),
                "shared": float((shares.largest < 0.9).double().mean()),
            },
            "exactness": vars(self.exactness),
            "charts": [self._chart(k) for k in range(self.prior.num_charts)],
            "checks": [vars(finding) for finding in self.findings()],
        }

    def _chart(self, k: int) -> dict[str, Any]:
        """The numbers of one chart."""
        own, distortion = self.usage[k], self.distortion[k]
        return {
            "weight": float(self.responsibilities.weights[k]),
            "mean_responsibility": float(self.responsibilities.usage[k]),
            "examples": len(own.codes),
            "codes_outside_box": own.outside,
            "code_std": own.std.tolist(),
            "latent_std": own.reference.tolist(),
            "code_quantiles": _spread(own.codes),
            "effect": own.effect.tolist(),
            "unused_coordinates": list(own.unused),
            "largest_singular_value": _spread(distortion.singular_values[:, 0]),
            "smallest_singular_value": _spread(distortion.singular_values[:, -1]),
            "condition": _spread(distortion.condition),
            "log_volume_std": float(probes.deviation(distortion.log_volume)),
        }


def atlas_report(
    prior: ManifoldPrior,
    data: Dataset,
    card: dict[str, Any] | None = None,
    *,
    samples: int | None = None,
    seed: int = 0,
) -> AtlasReport:
    """Measure an atlas against the data that it learned.

    Args:
        prior: the atlas.
        data: its data set.
        card: its card, for the texts.
        samples: number of held-out examples, and of samples of the atlas. Default: 10 000 points, or 1000
            images.
        seed: seed of all of them.

    Raises:
        ValueError: the data are not of the shape that the atlas decodes to.

    Example:
        >>> from onmanifold import load_dataset, load_prior
        >>> report = atlas_report(load_prior("two-circles"), load_dataset("two-circles"), samples=500)
        >>> report.components
        ((0, 3), (1, 2))
        >>> all(finding.passed is not False for finding in report.findings())
        True
    """
    points = len(prior.x_shape) == 1
    n = (10_000 if points else 1000) if samples is None else samples
    check_count(n, "samples")
    if tuple(data.x_shape) != tuple(prior.x_shape):
        raise InputError(
            f"the data have shape {tuple(data.x_shape)}, the prior decodes to {prior.x_shape}: "
            "give the data that it learned"
        )
    card = card or {}
    x = probes.held_out(data, n, seed).to(prior.device, prior.dtype)
    shown = prior.sample(SHOWN, seed) if points else _of_every_chart(prior, seed)
    few = min(n, 1000 if points else 200)
    source = str(data) if is_dataclass(data) else type(data).__name__
    about = {key: card[key] for key in ("description", "sha256") if key in card}
    tolerance = diagnostics.overlap_tolerance(prior, x)
    return AtlasReport(
        name=card.get("name", type(prior).__name__),
        about=about | {"data": source, "samples": n, "seed": seed},
        prior=prior,
        examples=x,
        samples=probes.decoded(prior, shown),
        sample_chart=shown.chart,
        overlap=diagnostics.overlap_graph(prior, tolerance, few, seed),
        coverage=diagnostics.coverage(prior, data, n, seed),
        distortion=diagnostics.distortion(prior, few, seed),
        usage=diagnostics.latent_usage(prior, x, few),
        responsibilities=diagnostics.responsibilities(prior, x, seed),
        exactness=diagnostics.exactness(prior, few, seed),
    )


def _of_every_chart(prior: ManifoldPrior, seed: int) -> Point:
    """Some samples of every chart, also of one that is seldom drawn."""
    codes = probes.chart_samples(prior, IMAGES, seed)
    chart = torch.tensor([k for k, z in enumerate(codes) for _ in z])
    return Point(chart.to(prior.device), torch.cat(codes))


def _spread(values: Tensor) -> dict[str, Any]:
    """Quantiles by their level."""
    return dict(zip(map(str, probes.QUANTILES), probes.quantiles(values).tolist(), strict=True))


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _listed(things: list[Any]) -> str:
    return ", ".join(map(str, things)) or "none"
