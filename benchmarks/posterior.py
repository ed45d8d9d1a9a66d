"""Uncertainty, measured: ``python benchmarks/posterior.py coverage | circle | modes | moves | figure``.

* ``coverage``: of 200 simulated problems, truth drawn from the prior, how often the 90 % intervals of Laplace
  and of the sampler hold the true coordinates (in the truth's chart) and the true entries of x, for each of
  the settings wave, ring, bar, two-circles (``--settings NAME``), and how many chains mix at what cost;
* ``circle``: the sampler on bars against integration over (chart, coordinate) on a grid;
* ``modes``: a measurement that two points of different charts explain, with the share of either;
* ``moves``: what local and global moves gain on two blurred bars;
* ``figure``: draws ``docs/uncertainty.png``.
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import pi
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import torch
import typer
from torch import Tensor

from bars import NOISE, bar_blur, blurred_bars
from onmanifold import Gaussian, ManifoldPrior, Point, Solution, load_prior, simulate, solve
from onmanifold.operator import as_operator
from onmanifold.operators import Blur
from onmanifold.posterior import NotMixed, PosteriorSamples, laplace, sample_posterior
from shared.options import one_of
from shared.tables import Table, rounded
from shared.timing import seconds_of

LEVEL = 0.9
DRAWS, CHAINS = 500, 4
ENOUGH = 400  # effective draws


class Wave(ManifoldPrior):
    """The curve (z, sin 2z, cos z) with standard normal z: an analytic prior."""

    x_shape, dim, box = (3,), 1, 4.0

    def decode_chart(self, z: Tensor, chart: int) -> Tensor:
        return torch.cat([z, (2 * z).sin(), z.cos()], dim=1)

    def encode_chart(self, x: Tensor, chart: int) -> Tensor:
        return x[:, :1]

    def log_prob_chart(self, z: Tensor, chart: int) -> Tensor:
        return -0.5 * z.square().sum(1)

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Point:
        source = torch.Generator().manual_seed(int(generator or 0))
        return Point(torch.zeros(n, dtype=torch.long), torch.randn(n, 1, generator=source))


class Setting(NamedTuple):
    """What coverage is measured with: noise of a standard deviation."""

    prior: ManifoldPrior
    operator: Callable[[Tensor], Tensor] | Blur
    std: float


def mostly_first(x: Tensor) -> Tensor:
    """Two coordinates, the second one weakly: one point above the axis and one below explain nearly alike."""
    return torch.cat([x[:, :1], 0.03 * x[:, 1:]], dim=1)


SETTINGS: dict[str, Callable[[], Setting]] = {
    "wave": lambda: Setting(Wave(), lambda x: (x + x**3)[:, :2], 0.5),
    "ring": lambda: Setting(
        load_prior("ring"), lambda x: torch.cat([x.square(), x[:, :1]], 1), 0.2
    ),
    "bar": lambda: Setting(load_prior("bar"), bar_blur(), NOISE),
    "two-circles": lambda: Setting(load_prior("two-circles"), mostly_first, 0.05),
}


def coverage(names: list[str], problems: int) -> None:
    """Print how often the intervals hold the truth."""
    shares = {"latent": ".1%", "entries": ".1%", "entries, std > 0.01": ".1%", "seconds": ".1f"}
    table = Table({"prior": "<", "by": "<", "problems": "d"} | shares)
    for name in names:
        prior, operator, std = SETTINGS[name]()
        truth = prior.sample(problems, 11)
        x = prior.decode(truth).detach()
        y = simulate(as_operator(operator, prior.x_shape), x, std, 12)
        solution = solve(operator, y, prior, fidelity=Gaussian(std))
        seconds = seconds_of(partial(laplace, solution))
        approximation = laplace(solution)
        samples = sampled(solution, DRAWS, CHAINS, warmup=60, approximation=approximation)
        spread, rows = samples.std > 0.01, torch.arange(problems)
        for title, result, spent in (
            ("Laplace", approximation, seconds),
            ("sampler", samples, samples.seconds),
        ):
            low, high = result.latent_interval(LEVEL)
            z = within(truth.z, (low[rows, truth.chart], high[rows, truth.chart]))
            entries = within(x, result.interval(LEVEL))
            means = (held.double().mean() for held in (z, entries, entries[spread]))
            table.row(name, title, problems, *means, spent)
        good = samples.mixed & (samples.ess.amin(1) >= ENOUGH)
        calls = (samples.operator_calls / samples.ess.amin(1)).median()
        print(
            f"{name}: R-hat at most 1.01 in {int(samples.mixed.sum())} of {problems}, and at least {ENOUGH} "
            f"effective draws in {int(good.sum())}; in the middle {calls:.1f} operator calls an effective "
            f"draw, {samples.global_acceptance.median():.2f} of global moves accepted"
        )


def within(truth: Tensor, interval: tuple[Tensor, Tensor]) -> Tensor:
    """Which true numbers lie in their intervals."""
    return (interval[0] <= truth) & (truth <= interval[1])


def sampled(solution: Solution, *counts: int, **options: object) -> PosteriorSamples:
    """Samples, of chains that may be too short to be called mixed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotMixed)
        return sample_posterior(solution, *counts, **options)


def deblurred(n: int) -> tuple[Tensor, Tensor, Solution]:
    """Held-out bars, their angles in radians, and the solution of their deblurring."""
    truth, angle, operator, y = blurred_bars(n)
    return truth, angle, solve(operator, y, load_prior("bar"), fidelity=Gaussian(NOISE))


@torch.no_grad()
def grid_mass(solution: Solution, cells: int = 1500) -> Tensor:
    """The posterior's mass of curves in even cells of each chart, by integration: ``(B, K, cells)``."""
    problem = solution.problem
    prior = problem.prior
    edges = torch.linspace(-1, 1, cells + 1) * float(prior.box)
    z = (0.5 * (edges[1:] + edges[:-1])).unsqueeze(1)
    logs = z.new_zeros(len(solution), prior.num_charts, cells)
    for k in range(prior.num_charts):
        density = prior.log_prob_chart(z, k)
        for part in torch.arange(cells).split(100):
            prediction = problem.operator.A(prior.decode_chart(z[part], k))
            for b in range(len(solution)):
                one = problem.select(torch.full_like(part, b))
                logs[b, k, part] = density[part] - one.misfit(prediction)
    return logs.double().flatten(1).softmax(1).view_as(logs)


def total_variation(samples: PosteriorSamples, mass: Tensor, bins: int) -> Tensor:
    """Between the draws and ``mass``, over ``bins`` even cells of each chart, ``(B,)``."""
    batch, charts, cells = mass.shape
    box = float(samples.problem.prior.box)
    true = mass.view(batch, charts, bins, cells // bins).sum(3)
    cell = ((samples.z.flatten(1) + box) / (2 * box) * bins).long().clamp(0, bins - 1)
    number = samples.chart.flatten(1) * bins + cell
    counts = torch.stack([torch.bincount(row, minlength=charts * bins) for row in number])
    share = counts.view_as(true) / counts.sum(1)[:, None, None]
    return 0.5 * (share - true).abs().sum((1, 2))


def against_the_grid(solution: Solution, draws: int, bins: int = 50) -> None:
    """Print how far Laplace and sampler are from integration."""
    approximation = laplace(solution)
    samples = sample_posterior(solution, draws, warmup=60, approximation=approximation)
    mass = grid_mass(solution)
    away = total_variation(samples, mass, bins)
    evidence = approximation.log_evidence.softmax(1)
    print(f"total variation over {bins} cells a chart; shares of the charts")
    shares = dict.fromkeys(["integrated", "sampled", "Laplace"], "<24")
    table = Table({"": "d", "variation": ".3f"} | shares | {"R-hat": ".3f", "least ESS": ".0f"})
    for b in range(len(solution)):
        texts = (str(rounded(s[b])) for s in (mass.sum(2), samples.chart_probabilities, evidence))
        table.row(b, away[b], *texts, samples.rhat[b].max(), samples.ess[b].min())
    print(f"{samples.seconds:.0f} s, {int(samples.operator_calls[0])} operator calls each")


def circle() -> None:
    """Three blurred bars."""
    against_the_grid(deblurred(3)[2], 800)


def modes() -> None:
    """Two circles, one coordinate of a point measured: one point above the axis, one below."""
    y = torch.tensor([[1.5, 0.01], [-0.9, -0.03]])

    prior = load_prior("two-circles")
    against_the_grid(solve(mostly_first, y, prior, fidelity=Gaussian(0.05)), 2000)


def moves() -> None:
    """What local moves gain alone: the proposals of global ones are made useless."""
    solution = deblurred(2)[2]
    good = laplace(solution)
    for name, approximation in {
        "both": good,
        "local only": replace(good, mean=good.mean + 50.0),
    }.items():
        samples = sampled(solution, 150, warmup=50, approximation=approximation, adaptation=0)
        calls = samples.operator_calls.double() / 1000
        print(
            f"{name:12s} ESS for 1000 operator calls {rounded(samples.ess.amin(1) / calls)}, "
            f"R-hat {rounded(samples.rhat.amax(1))}, {samples.seconds:.0f} s"
        )


def draw(file: Path) -> None:
    """Draw truth, reconstruction and both standard deviations of three bars."""
    from matplotlib.figure import Figure

    truth, angle, solution = deblurred(3)
    approximation = laplace(solution)
    samples = sample_posterior(solution, 300, warmup=60, approximation=approximation)
    images = {"truth": truth, "reconstruction": solution.x}
    stds = {"std, Laplace": approximation.std(), "std, sampler": samples.std}
    figure = Figure(figsize=(9.2, 7), layout="constrained")
    for b, row in enumerate(figure.subplots(3, 4)):
        top = float(torch.stack([std[b] for std in stds.values()]).max())
        for axes, (title, values) in zip(row, (images | stds).items(), strict=True):
            low, high, colours = (0.0, top, "magma") if title in stds else (0.5, 0.75, "gray")
            shown = axes.imshow(values[b, 0], cmap=colours, vmin=low, vmax=high)
            axes.set_axis_off()
            if b == 0:
                axes.set_title(title)
        figure.colorbar(shown, ax=list(row), shrink=0.8)
    figure.savefig(file, dpi=100)
    print(samples.summary())
    print(f"angles of the truth {rounded(angle[:, 0] * 180 / pi % 180)}")


SettingName = one_of(SETTINGS)


def main(
    part: Annotated[
        Literal["coverage", "circle", "modes", "moves", "figure"], typer.Argument()
    ] = "coverage",
    settings: list[SettingName] = tuple(SettingName),
    problems: int = 200,
    output: Path = Path("docs/uncertainty.png"),
) -> None:
    """Run a part; settings and number of problems are those of coverage."""
    if part == "coverage":
        coverage(settings, problems)
    elif part == "figure":
        draw(output)
    else:
        {"circle": circle, "modes": modes, "moves": moves}[part]()


if __name__ == "__main__":
    typer.run(main)
