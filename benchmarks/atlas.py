"""What several charts gain over one: ``python benchmarks/atlas.py [points] [bars] [balls]``.

The pretrained priors against the same recipes with one chart (``benchmarks/one_chart``, made by ``onmanifold
train NAME --charts 1``), on the same held-out examples and measurements, by Levenberg-Marquardt (LM) and
Riemannian gradient descent (RGD).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from math import pi
from pathlib import Path

import torch
from balls import Balls
from bars import NOISE as BAR_NOISE
from bars import maximum_likelihood
from torch import Tensor

from onmanifold import (
    Gaussian,
    InitialPoints,
    LevenbergMarquardt,
    ManifoldPrior,
    RiemannianGradientDescent,
    Solution,
    load_dataset,
    load_prior,
    simulate,
    solve,
)
from onmanifold.operators import Blur, gaussian_kernel
from onmanifold.priors.atlas.diagnostics import coverage
from onmanifold.priors.atlas.probes import chart_distances
from onmanifold.priors.datasets import Bar, stream

ONE_CHART = Path(__file__).parent / "one_chart"
POINTS = ("two-circles", "ring", "sphere", "swiss-roll", "torus")
METHODS = {"LM": LevenbergMarquardt(), "RGD": RiemannianGradientDescent()}
RANDOM = InitialPoints(
    pool=8, keep=8
)  # all samples descend: no choice of promising ones hides what can go wrong
COLUMNS = "K method  PSNR  rel. error  wrong ends  wrong results  steps  calls  seconds"


def priors(name: str) -> dict[int, ManifoldPrior]:
    """The priors of a name by their number of charts."""
    several = load_prior(name)
    return {1: load_prior(ONE_CHART / f"{name}-1"), several.num_charts: several}


def points() -> None:
    """Coverage of the manifolds of points: data near the atlas, samples of the atlas near the data."""
    print("manifold      K  tolerance  data near the atlas  samples near the data")
    for name in POINTS:
        for charts, prior in priors(name).items():
            found = coverage(prior, load_dataset(name))
            print(
                f"{name:12} {charts:2d} {found.tolerance:10.3f} {found.covered:20.2%} "
                f"{found.on_manifold:22.2%}"
            )


def psnr(distance: Tensor) -> Tensor:
    """In dB, of pictures 128 x 128 whose values lie between 0 and 1, by their Euclidean distance."""
    return 20 * torch.log10(128 / distance.clamp(min=1e-9))


def bars(picture: Path | None) -> None:
    """Reconstruction of bars at all angles, and deblurring of 20 held-out ones."""
    known = priors("bar")
    degrees = torch.arange(0, 180, 0.05)  # a bar turned by 180 degrees is the same
    x = Bar().render(degrees[:, None] * pi / 180)
    curves = {k: psnr(chart_distances(prior, x)[1].amin(dim=1)) for k, prior in known.items()}
    for charts, curve in curves.items():
        whole, low = curve[::20], degrees[curve < 38]
        gap = f", {low[0]:.2f} to {low[-1]:.2f} degrees" if len(low) else ""
        print(
            f"K = {charts}: PSNR of D(E(x)) at each whole degree: smallest {whole.min():.1f}, median "
            f"{whole.median():.1f} dB; at each twentieth: smallest {curve.min():.1f} dB, below 38 dB "
            f"at {len(low)}{gap}"
        )
    if picture is not None:
        draw_curves(degrees, curves, picture)
    truth, _ = Bar().sample(20, stream(0, "held-out"))
    operator = Blur(gaussian_kernel(40, 15.0), Bar().x_shape)
    y = simulate(operator, truth, BAR_NOISE, 0)
    _, lowest = maximum_likelihood(operator, y)
    print(
        f"deblurring, 20 bars; wrong: misfit more than 0.5 % above the likeliest bar's\n{COLUMNS}"
    )
    for charts, prior in known.items():
        for name, method in METHODS.items():
            solution = solve(
                operator, y, prior, fidelity=Gaussian(BAR_NOISE), starts=RANDOM, method=method
            )
            misfit = _misfits(operator.A, solution, y, BAR_NOISE)
            _row(charts, name, solution, truth, misfit > 1.005 * lowest[:, None])


def draw_curves(degrees: Tensor, curves: dict[int, Tensor], file: Path) -> None:
    """PSNR by angle, a line for each number of charts: all angles, and the gap of one chart."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    gap = float(degrees[curves[1].argmin()])
    for axes, limits in zip(
        figure.subplots(1, 2, sharey=True), ((0, 180), (gap - 1, gap + 1)), strict=True
    ):
        for charts, curve in curves.items():
            axes.plot(degrees, curve, label=f"{charts} chart{'s' if charts > 1 else ''}")
        axes.axhline(38, color="0.6", linewidth=0.8, linestyle="--")
        axes.set(xlabel="angle of the bar, degrees", xlim=limits)
        axes.locator_params(axis="x", nbins=6)
    axes.legend()
    figure.axes[0].set_ylabel("PSNR of D(E(x)), dB")
    figure.savefig(file, dpi=110)


def balls() -> None:
    """Reconstruction of 1000 held-out pictures of two balls, and EIT of ten."""
    known = priors("two-balls")
    x, _ = load_dataset("two-balls").sample(1000, stream(0, "held-out"))
    for charts, prior in known.items():
        distance = torch.cat([chart_distances(prior, p)[1].amin(dim=1) for p in x.split(100)])
        quantiles = psnr(distance).quantile(torch.tensor([0.05, 0.5]))
        print(
            f"K = {charts}: PSNR of D(E(x)), 1000 held-out pictures: median {quantiles[1]:.1f}, "
            f"5th percentile {quantiles[0]:.1f} dB"
        )
    problem = Balls.make(10, seed=0)
    solutions, misfits = {}, {}
    for charts, prior in known.items():
        for name, method in METHODS.items():
            solution = solve(
                problem.operator,
                problem.measurement,
                prior,
                fidelity=Gaussian(problem.std),
                starts=RANDOM,
                method=method,
            )
            key = charts, name
            solutions[key] = solution
            misfits[key] = _misfits(problem.operator.A, solution, problem.measurement, problem.std)
    lowest = torch.cat(list(misfits.values()), dim=1).amin(dim=1, keepdim=True)
    margin = 3 * (problem.measurement[0].numel() / 2) ** 0.5
    print(
        "EIT, 10 pictures; wrong: misfit three standard deviations of the noise's above the lowest found"
    )
    print(COLUMNS)
    for (charts, name), solution in solutions.items():
        wrong = misfits[charts, name] > lowest + margin
        _row(charts, name, solution, problem.truth, wrong)


def _misfits(
    forward: Callable[[Tensor], Tensor], solution: Solution, y: Tensor, std: float | Tensor
) -> Tensor:
    """Misfit of every end, the best first: ``(B, S)``."""
    ends = solution.final_points.x
    predicted = torch.stack([forward(each) for each in ends])
    return ((predicted - y[:, None]) / std).flatten(2).square().sum(dim=2) / 2


def _row(charts: int, name: str, solution: Solution, truth: Tensor, wrong: Tensor) -> None:
    error = (solution.x - truth).flatten(1).norm(dim=1)
    relative = error / truth.flatten(1).norm(dim=1)
    print(
        f"{charts} {name:6} {psnr(error).median():5.1f} {relative.median():11.4f} "
        f"{wrong.float().mean():11.0%} {int(wrong[:, 0].sum()):7d} of {len(wrong):2d} "
        f"{solution.steps.float().median():6.0f} {solution.operator_calls.float().median():6.0f} "
        f"{solution.seconds:8.1f}"
    )


def main() -> None:
    """Run what is asked for, by default everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", choices=["points", "bars", "balls"], default=[])
    parser.add_argument("--picture", type=Path, help="file for the curve of bars")
    arguments = parser.parse_args()
    for what in arguments.what or ("points", "bars", "balls"):
        if what == "points":
            points()
        elif what == "bars":
            bars(arguments.picture)
        else:
            balls()


if __name__ == "__main__":
    main()
