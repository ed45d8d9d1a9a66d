"""The report of an atlas: what it has learned, measured on held-out examples."""

from __future__ import annotations

import copy
from dataclasses import dataclass, is_dataclass
from typing import Any

import torch
from torch import Tensor

from onmanifold.checks import check_count
from onmanifold.errors import InputError
from onmanifold.prior import ManifoldPrior, Point
from onmanifold.priors.atlas import diagnostics
from onmanifold.priors.datasets import Dataset

COVERED = 0.99  # share within the tolerance that a good atlas reaches, both ways
EXACT = {"as_stored": 1e-4, "float64": 1e-10}  # largest |E(D(z)) - z|
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


class AtlasReport:
    """An atlas measured against the data that it learned, see :mod:`onmanifold.priors.atlas.diagnostics`.

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
        >>> report = AtlasReport(load_prior("two-circles"), load_dataset("two-circles"), samples=500)
        >>> report.components
        ((0, 3), (1, 2))
        >>> all(finding.passed is not False for finding in report.findings())
        True
    """

    def __init__(
        self,
        prior: ManifoldPrior,
        data: Dataset,
        card: dict[str, Any] | None = None,
        *,
        samples: int | None = None,
        seed: int = 0,
    ) -> None:
        self.prior, card = prior, card or {}
        n = (10_000 if self.of_points else 1000) if samples is None else samples
        check_count(n, "samples")
        if tuple(data.x_shape) != tuple(prior.x_shape):
            raise InputError(
                f"the data have shape {tuple(data.x_shape)}, the prior decodes to {prior.x_shape}: "
                "give the data that it learned"
            )
        source = str(data) if is_dataclass(data) else type(data).__name__
        self.name = card.get("name", type(prior).__name__)
        about = {key: text for key, text in card.items() if key in ("description", "sha256")}
        self.about = about | {"data": source, "samples": n, "seed": seed}
        few = min(n, 1000 if self.of_points else 200)
        x = diagnostics.held_out(data, n, seed).to(prior.device, prior.dtype)
        shown = prior.sample(SHOWN, seed) if self.of_points else _of_every_chart(prior, seed)
        drawn = torch.bincount(prior.sample(10_000, seed).chart, minlength=prior.num_charts)
        self.examples, self.sample_chart = x, shown.chart
        self.samples = diagnostics.decoded(prior, shown)  # of the atlas, for the figures
        self.weights = drawn / drawn.sum()  # share of the atlas's samples from each chart
        self.tolerance = diagnostics.overlap_tolerance(prior, x)
        self.shares = diagnostics.overlap_graph(prior, self.tolerance, few, seed)
        self.coverage = diagnostics.coverage(prior, data, n, seed)
        self.distortion = diagnostics.distortion(prior, few, seed)
        self.usage = diagnostics.latent_usage(prior, x, few)
        self.responsibilities = diagnostics.responsibilities(prior, x)
        self.exactness = {
            "as_stored": diagnostics.decode_encode(prior, few, seed),
            "float64": diagnostics.decode_encode(copy.deepcopy(prior).double(), few, seed),
        }

    @property
    def of_points(self) -> bool:
        """Whether examples are vectors, not images."""
        return len(self.prior.x_shape) == 1

    @property
    def components(self) -> tuple[tuple[int, ...], ...]:
        """Connected components of the overlap graph."""
        return diagnostics.components(self.shares)

    @property
    def entropy(self) -> Tensor:
        """Entropy of each example's responsibilities, in nats, ``(n,)``; 0: a single chart."""
        gamma = self.responsibilities
        entropy: Tensor = -torch.special.xlogy(gamma, gamma).sum(dim=1)
        return entropy.clamp(min=0)

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
        middle, high = diagnostics.quantiles(found.relative, (0.5, 0.95)).tolist()
        error = f"median {100 * middle:.2f} %, 95 % below {100 * high:.2f} %"
        return [*lines, Finding("relative distance to the atlas", error)]

    def _chart_findings(self) -> list[Finding]:
        explained = self.responsibilities.mean(dim=0).tolist()
        dead = [k for k, share in enumerate(explained) if share < EXPLAINS]
        unused = [f"{i} of chart {k}" for k, own in enumerate(self.usage) for i in own.unused]
        total = self.prior.dim * self.prior.num_charts
        few = _listed(unused) if len(unused) < 4 else f"{len(unused)} of {total}"
        outside = max(own.outside for own in self.usage)
        condition = torch.cat([diagnostics.condition(values) for values in self.distortion])
        groups = " | ".join(" ".join(map(str, group)) for group in self.components)
        return [
            Finding("connected components", f"{len(self.components)}, of charts {groups}"),
            Finding("dead charts", _listed(dead), "none", not dead),
            Finding("unused latent coordinates", few, "none", not unused),
            Finding(
                "codes outside the box", f"at most {_percent(outside)} in a chart",
                f"at most {OUTSIDE:.0%}", outside <= OUTSIDE,
            ),
            Finding("condition of J", f"median {float(diagnostics.quantiles(condition, (0.5,))):.3g}"),
            *(
                Finding(f"|E(D(z)) - z|, {how.replace('_', ' ')}", f"{error:.1e}",
                        f"at most {EXACT[how]:.0e}", error <= EXACT[how])
                for how, error in self.exactness.items()
            ),
        ]  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """Every number, JSON-able."""
        found = self.coverage
        return {
            "name": self.name,
            **self.about,
            "overlap": {
                "tolerance": self.tolerance,
                "shares": self.shares.tolist(),
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
                "mean_entropy": float(self.entropy.mean()),
                "shared": float((self.responsibilities.amax(dim=1) < 0.9).double().mean()),
            },
            "exactness": self.exactness,
            "charts": [self._chart(k) for k in range(self.prior.num_charts)],
            "checks": [vars(finding) for finding in self.findings()],
        }

    def _chart(self, k: int) -> dict[str, Any]:
        """The numbers of one chart."""
        own, singular_values = self.usage[k], self.distortion[k]
        return {
            "weight": float(self.weights[k]),
            "mean_responsibility": float(self.responsibilities[:, k].mean()),
            "examples": len(own.codes),
            "codes_outside_box": own.outside,
            "code_std": own.std.tolist(),
            "latent_std": own.reference.tolist(),
            "code_quantiles": _spread(own.codes),
            "effect": own.effect.tolist(),
            "unused_coordinates": list(own.unused),
            "largest_singular_value": _spread(singular_values[:, 0]),
            "smallest_singular_value": _spread(singular_values[:, -1]),
            "condition": _spread(diagnostics.condition(singular_values)),
            "log_volume_std": float(diagnostics.deviation(singular_values.log().sum(dim=1))),
        }


def _of_every_chart(prior: ManifoldPrior, seed: int) -> Point:
    """Some samples of every chart, also of one that is seldom drawn."""
    codes = diagnostics.chart_samples(prior, IMAGES, seed)
    chart = torch.tensor([k for k, z in enumerate(codes) for _ in z])
    return Point(chart.to(prior.device), torch.cat(codes))


def _spread(values: Tensor) -> dict[str, Any]:
    """Quantiles by their level."""
    return dict(
        zip(map(str, diagnostics.QUANTILES), diagnostics.quantiles(values).tolist(), strict=True)
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _listed(things: list[Any]) -> str:
    return ", ".join(map(str, things)) or "none"
