"""What several charts gain over one: ``python benchmarks/atlas.py [points] [bars] [balls]``.

The pretrained priors against the same recipes with one chart (``benchmarks/one_chart``, made by ``onmanifold
train NAME --charts 1``), on the same held-out examples and measurements, by Levenberg-Marquardt (LM) and
Riemannian gradient descent (RGD). A final point is *wrong* if its misfit is above the best one by more than
0.5 % (bars) or three standard deviations of the noise's misfit (balls).
"""

from math import pi
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from balls import Balls, relative_error
from bars import NOISE, blurred_bars, maximum_likelihood
from onmanifold import (
    ForwardOperator,
    Gaussian,
    InitialPoints,
    LevenbergMarquardt,
    ManifoldPrior,
    RiemannianGradientDescent,
    Solution,
    load_dataset,
    load_prior,
    solve,
)
from onmanifold.priors.atlas.diagnostics import chart_distances, coverage
from onmanifold.priors.datasets import Bar, stream
from shared.options import one_of
from shared.tables import Table

ONE_CHART = Path(__file__).parent / "one_chart"
PARTS = ("points", "bars", "balls")
POINTS = ("two-circles", "ring", "sphere", "swiss-roll", "torus")
METHODS = {"LM": LevenbergMarquardt(), "RGD": RiemannianGradientDescent()}
RANDOM = InitialPoints(pool=8, keep=8)  # all samples descend, promising or not
COLUMNS = {
    "K": "d",
    "method": "<",
    "PSNR": ".1f",
    "rel. error": ".4f",
    "wrong final points": ".0%",
    "wrong results": "",
    "steps": ".0f",
    "calls": ".0f",
    "seconds": ".1f",
}


def priors(name: str) -> dict[int, ManifoldPrior]:
    """The priors of a name by their number of charts."""
    several = load_prior(name)
    return {1: load_prior(ONE_CHART / f"{name}-1"), several.num_charts: several}


def points() -> None:
    """Coverage of the manifolds of points: data near the atlas, samples of the atlas near the data."""
    shares = {"data near the atlas": ".2%", "samples near the data": ".2%"}
    table = Table({"manifold": "<12", "K": "d", "tolerance": ".3f"} | shares)
    for name in POINTS:
        for charts, prior in priors(name).items():
            found = coverage(prior, load_dataset(name))
            table.row(name, charts, found.tolerance, found.covered, found.on_manifold)


def psnr(distance: Tensor) -> Tensor:
    """In dB, of images 128 x 128 whose values lie between 0 and 1, by their Euclidean distance."""
    return 20 * torch.log10(128 / distance.clamp(min=1e-9))


def reconstruction_psnr(prior: ManifoldPrior, x: Tensor) -> Tensor:
    """PSNR of D(E(x)), ``(B,)``."""
    return psnr(torch.cat([chart_distances(prior, part).amin(dim=1) for part in x.split(100)]))


def bars(figure: Path | None) -> None:
    """Reconstruction of bars at all angles, and deblurring of 20 held-out ones."""
    degrees = torch.arange(0, 180, 0.05)  # a bar turned by 180 degrees is the same
    x = Bar().render(degrees[:, None] * pi / 180)
    curves = {k: reconstruction_psnr(prior, x) for k, prior in priors("bar").items()}
    for charts, curve in curves.items():
        whole, low = curve[::20], degrees[curve < 38]
        gap = f", {low[0]:.2f} to {low[-1]:.2f} degrees" if len(low) else ""
        print(
            f"K = {charts}: PSNR of D(E(x)) at each whole degree: smallest {whole.min():.1f}, median "
            f"{whole.median():.1f} dB; at each twentieth: smallest {curve.min():.1f} dB, below 38 dB "
            f"at {len(low)}{gap}"
        )
    if figure is not None:
        draw(degrees, curves, figure)
    truth, _, operator, y = blurred_bars(20)
    print("deblurring, 20 bars")
    _, lowest = maximum_likelihood(operator, y)
    compare("bar", operator, y, NOISE, truth, 1.005 * lowest[:, None])


def draw(degrees: Tensor, curves: dict[int, Tensor], file: Path) -> None:
    """PSNR by angle, a line for each number of charts: all angles, and the gap of one chart."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    gap, panels = float(degrees[curves[1].argmin()]), figure.subplots(1, 2, sharey=True)
    for axes, limits in zip(panels, ((0, 180), (gap - 1, gap + 1)), strict=True):
        for charts, curve in curves.items():
            axes.plot(degrees, curve, label=f"{charts} chart{'s' if charts > 1 else ''}")
        axes.axhline(38, color="0.6", linewidth=0.8, linestyle="--")
        axes.set(xlabel="angle of the bar, degrees", xlim=limits)
        axes.locator_params(axis="x", nbins=6)
    panels[1].legend()
    panels[0].set_ylabel("PSNR of D(E(x)), dB")
    figure.savefig(file, dpi=110)


def balls() -> None:
    """Reconstruction of 1000 held-out images of two balls, and EIT of ten."""
    x, _ = load_dataset("two-balls").sample(1000, stream(0, "held-out"))
    for charts, prior in priors("two-balls").items():
        low, median = reconstruction_psnr(prior, x).quantile(torch.tensor([0.05, 0.5]))
        print(
            f"K = {charts}: PSNR of D(E(x)), 1000 held-out images: median {median:.1f}, "
            f"5th percentile {low:.1f} dB"
        )
    made = Balls.make(10, seed=0)
    print("EIT, 10 images")
    compare("two-balls", made.operator, made.measurement, made.std, made.truth)


def compare(
    name: str,
    operator: ForwardOperator,
    y: Tensor,
    std: float | Tensor,
    truth: Tensor,
    bound: Tensor | None = None,
) -> None:
    """Solve with each prior by each method and print a row; misfits above the bound are wrong."""
    solutions = {
        (charts, how): solve(
            operator, y, prior, fidelity=Gaussian(std), starts=RANDOM, method=method
        )
        for charts, prior in priors(name).items()
        for how, method in METHODS.items()
    }
    misfits = {key: final_misfits(operator, one, y, std) for key, one in solutions.items()}
    if bound is None:
        lowest = torch.cat(list(misfits.values()), dim=1).amin(dim=1, keepdim=True)
        bound = lowest + 3 * (y[0].numel() / 2) ** 0.5
    table = Table(COLUMNS)
    for (charts, how), solution in solutions.items():
        wrong = misfits[charts, how] > bound
        counts = solution.steps.float().median(), solution.operator_calls.float().median()
        table.row(
            charts,
            how,
            psnr((solution.x - truth).flatten(1).norm(dim=1)).median(),
            relative_error(solution.x, truth).median(),
            wrong.float().mean(),
            f"{int(wrong[:, 0].sum())} of {len(wrong)}",
            *counts,
            solution.seconds,
        )


def final_misfits(
    operator: ForwardOperator, solution: Solution, y: Tensor, std: float | Tensor
) -> Tensor:
    """Misfit where each start ended, the best first: ``(B, S)``."""
    predicted = torch.stack([operator.A(each) for each in solution.final_points.x])
    return ((predicted - y[:, None]) / std).flatten(2).square().sum(dim=2) / 2


Part = one_of(PARTS)


def main(
    parts: Annotated[list[Part], typer.Argument()] = tuple(Part),
    figure: Path | None = None,
) -> None:
    """Run parts, by default all; the file is for the curve of bars."""
    for part in parts:
        if part == "bars":
            bars(figure)
        else:
            {"points": points, "balls": balls}[part]()


if __name__ == "__main__":
    typer.run(main)
