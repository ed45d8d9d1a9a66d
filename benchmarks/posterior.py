"""Uncertainty, measured: ``python benchmarks/posterior.py coverage | circle | modes | moves | picture``.

* ``coverage``: of 200 simulated problems, truth drawn from the prior, how often the 90 % intervals of Laplace
  and of the sampler hold the true coordinates (in the truth's chart) and the true entries of x;
* ``circle``: the sampler on bars against integration over (chart, coordinate) on a grid;
* ``modes``: a measurement that two points of different charts explain, with the share of either;
* ``moves``: what local and global moves are worth on each of these;
* ``picture``: draws ``docs/uncertainty.png``.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import pi
from pathlib import Path

import torch
from torch import Tensor

from onmanifold import Gaussian, ManifoldPrior, Point, Solution, load_prior, simulate, solve
from onmanifold.operator import as_operator
from onmanifold.operators import Blur, gaussian_kernel
from onmanifold.posterior import Laplace, NotMixed, PosteriorSamples, laplace, sample_posterior
from onmanifold.priors.datasets import Bar, stream

LEVEL = 0.9
NOISE = 0.1  # of the blurred bars


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


@dataclass(frozen=True)
class Setting:
    """A prior, an operator and a noise level to measure coverage with."""

    prior: ManifoldPrior
    operator: Callable[[Tensor], Tensor] | Blur
    std: float
    draws: int
    chains: int


def settings() -> dict[str, Callable[[], Setting]]:
    """Those that ``coverage`` knows."""

    def bar() -> Setting:
        prior = load_prior("bar")
        return Setting(prior, Blur(gaussian_kernel(40, 15.0), prior.x_shape), NOISE, 60, 2)

    return {
        "wave": lambda: Setting(Wave(), lambda x: (x + x**3)[:, :2], 0.5, 500, 2),
        "ring": lambda: Setting(
            load_prior("ring"), lambda x: torch.cat([x.square(), x[:, :1]], 1), 0.2, 300, 2
        ),
        "bar": bar,
    }


def share_inside(truth: Tensor, interval: tuple[Tensor, Tensor]) -> Tensor:
    """Which true numbers lie in their intervals."""
    return (interval[0] <= truth) & (truth <= interval[1])


def coverage(name: str, problems: int) -> None:
    """Print how often the intervals hold the truth."""
    setting = settings()[name]()
    prior = setting.prior
    truth = prior.sample(problems, 11)
    x = prior.decode(truth).detach()
    operator = as_operator(setting.operator, prior.x_shape)
    y = simulate(operator, x, setting.std, 12)
    solution = solve(operator, y, prior, fidelity=Gaussian(setting.std))
    began = time.perf_counter()
    approximation = laplace(solution)
    seconds = time.perf_counter() - began
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotMixed)
        samples = sample_posterior(
            solution, setting.draws, setting.chains, warmup=40, approximation=approximation
        )
    rows = torch.arange(problems)
    spread = samples.std > 0.01
    for way, result, took in (
        ("Laplace", approximation, seconds),
        ("sampler", samples, samples.seconds),
    ):
        low, high = result.latent_interval(LEVEL)
        latent = share_inside(truth.z, (low[rows, truth.chart], high[rows, truth.chart]))
        pixels = share_inside(x, result.interval(LEVEL))
        print(
            f"{name:6s} {way:8s} {problems:5d} {latent.double().mean():9.1%} {pixels.double().mean():9.1%} "
            f"{pixels[spread].double().mean():12.1%} {took:8.1f}",
            flush=True,
        )
    print(
        f"{name:6s} R-hat at most 1.01 in {int(samples.mixed.sum())} of {problems}; "
        f"median jump acceptance {samples.global_acceptance.median():.2f}"
    )


def blurred_bars(n: int) -> tuple[Tensor, Tensor, Solution]:
    """Held-out bars, their angles in radians, and the solution of their deblurring."""
    prior = load_prior("bar")
    operator = Blur(gaussian_kernel(40, 15.0), prior.x_shape)
    truth, angle = Bar().sample(n, stream(0, "held-out"))
    y = simulate(operator, truth, NOISE, 0)
    return truth, angle, solve(operator, y, prior, fidelity=Gaussian(NOISE))


@torch.no_grad()
def grid_mass(solution: Solution, cells: int = 1500) -> Tensor:
    """The posterior's mass of curves in even cells of each chart, by integration: ``(B, K, cells)``."""
    problem = solution.problem
    assert problem is not None
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


def against_the_grid(name: str, solution: Solution, draws: int, bins: int = 50) -> PosteriorSamples:
    """Print how far Laplace and sampler are from integration."""
    approximation = laplace(solution)
    samples = sample_posterior(solution, draws, warmup=60, approximation=approximation)
    mass = grid_mass(solution)
    away = total_variation(samples, mass, bins)
    shares, integrated = samples.chart_probabilities, mass.sum(2)
    evidence = approximation.log_evidence.softmax(1)
    print(f"{name}: total variation over {bins} cells a chart, charts' shares, R-hat, least ESS")
    for b in range(len(solution)):
        print(
            f"{b:4d} {away[b]:7.3f}   integrated {rounded(integrated[b])}  sampled {rounded(shares[b])}  "
            f"Laplace {rounded(evidence[b])}  {samples.rhat[b].max():6.3f} {samples.ess[b].min():7.0f}"
        )
    print(f"     {samples.seconds:.0f} s, {int(samples.operator_calls[0])} operator calls each")
    return samples


def rounded(values: Tensor) -> list[float]:
    """For printing."""
    return [round(float(v), 3) for v in values]


def modes() -> None:
    """Two circles, one coordinate of a point measured: one point above the axis, one below."""
    y = torch.tensor([[1.5, 0.01], [-0.9, -0.03]])

    def operator(x: Tensor) -> Tensor:
        return torch.cat([x[:, :1], 0.03 * x[:, 1:]], dim=1)

    solution = solve(operator, y, load_prior("two-circles"), fidelity=Gaussian(0.05))
    against_the_grid("modes", solution, 2000)


def moves() -> None:
    """What one kind of moves gains alone: the other one's proposals are made useless."""
    _, _, solution = blurred_bars(2)
    good = laplace(solution)
    ways: dict[str, Laplace] = {
        "both": good,
        "local only": replace(good, mean=good.mean + 50.0),
    }
    for name, approximation in ways.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotMixed)
            samples = sample_posterior(solution, 150, warmup=50, approximation=approximation)
        calls = samples.operator_calls.double() / 1000
        print(
            f"{name:12s} ESS for 1000 operator calls {rounded(samples.ess.amin(1) / calls)}, "
            f"R-hat {rounded(samples.rhat.amax(1))}, {samples.seconds:.0f} s"
        )


def picture(path: Path) -> None:
    """Draw truth, reconstruction and both standard deviations of three bars."""
    from matplotlib.figure import Figure

    truth, angle, solution = blurred_bars(3)
    approximation = laplace(solution)
    samples = sample_posterior(solution, 300, warmup=60, approximation=approximation)
    columns = {
        "truth": truth,
        "reconstruction": solution.x,
        "std, Laplace": approximation.std(),
        "std, sampler": samples.std,
    }
    figure = Figure(figsize=(9.2, 7), layout="constrained")
    axes = figure.subplots(3, 4)
    for b, row in enumerate(axes):
        top = float(torch.maximum(columns["std, Laplace"][b], samples.std[b]).max())
        for ax, (title, values) in zip(row, columns.items(), strict=True):
            limits = (0.0, top) if title.startswith("std") else (0.5, 0.75)
            kind = "magma" if title.startswith("std") else "gray"
            shown = ax.imshow(values[b, 0], cmap=kind, vmin=limits[0], vmax=limits[1])
            ax.set_axis_off()
            if b == 0:
                ax.set_title(title)
        figure.colorbar(shown, ax=list(row), shrink=0.8)
    figure.savefig(path, dpi=100)
    print(samples.summary())
    print(f"angles of the truth {rounded(angle[:, 0] * 180 / pi % 180)}")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["coverage", "circle", "modes", "moves", "picture"])
    parser.add_argument("--settings", nargs="*", default=["wave", "ring", "bar"])
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--output", type=Path, default=Path("docs/uncertainty.png"))
    arguments = parser.parse_args()
    if arguments.what == "coverage":
        print("prior  by      problems   latent   entries  entries, std > 0.01   seconds")
        for name in arguments.settings:
            coverage(name, arguments.problems)
    elif arguments.what == "circle":
        against_the_grid("circle", blurred_bars(3)[2], 800)
    elif arguments.what == "picture":
        picture(arguments.output)
    else:
        {"modes": modes, "moves": moves}[arguments.what]()


if __name__ == "__main__":
    main()
