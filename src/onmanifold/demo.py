"""``onmanifold demo``: four inverse problems, solved on the manifolds that ship with the package.

It finds operators, priors and data manifolds by name, as any other package could. The truths are drawn
from a stream of random numbers that training never reads, and voltages are simulated on a finer and
different mesh than the one that inverts them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from onmanifold.fidelity import Gaussian
from onmanifold.operator import ForwardOperator, as_operator, simulate
from onmanifold.prior import ManifoldPrior
from onmanifold.registry import load_manifold, load_operator, load_prior
from onmanifold.solution import Solution
from onmanifold.solve import solve
from onmanifold.starts import Starts


@dataclass(frozen=True)
class Problem:
    """One inverse problem of the demo, with its data.

    Attributes:
        name: what is measured.
        prior: name of the prior.
        operator: the operator that inverts.
        truth: the unknowns, ``(B, *x_shape)``.
        measurement: what was measured of them, ``(B, *y_shape)``.
        std: standard deviation of the noise.
        starts: how many descents, from how many samples.
    """

    name: str
    prior: str
    operator: ForwardOperator
    truth: Tensor
    measurement: Tensor
    std: float | Tensor
    starts: Starts = Starts()


def noisy_points(seed: int) -> Problem:
    """Points of two circles, measured with noise: where on the circles are they?"""
    truth, _ = load_manifold("two-circles", noise=0.0).sample(200, _generator(seed))
    operator = as_operator(lambda x: 1.0 * x, x_shape=(2,))
    return Problem("noisy points", "two-circles", operator, truth, simulate(operator, truth, 0.15, seed), 0.15)


def blurred_bars(seed: int) -> Problem:
    """Bars, blurred far beyond their width, with noise."""
    truth, _ = load_manifold("bar").sample(4, _generator(seed))
    operator = load_operator("blur", tuple(truth.shape[1:]), size=40, std=15.0)
    return Problem("deblurring", "bar", operator, truth, simulate(operator, truth, 0.1, seed), 0.1)


def balls_by_impedance(seed: int) -> Problem:
    """Two balls in a disk, seen by electrical impedance tomography with 0.1 % noise."""
    truth, _ = load_manifold("two-balls").sample(2, _generator(seed))
    scale = {"map": "affine", "offset": 0.2, "slope": 1.6}
    return _impedance("EIT, simulated", "two-balls", truth, seed, 0.001, tank="unit", conductivity=scale)


def tank_by_impedance(seed: int) -> Problem:
    """Objects in a water tank with the electrodes and currents of a real one, 0.1 % noise."""
    truth, _ = load_manifold("tank").sample(2, _generator(seed))
    return _impedance("EIT, water tank", "tank", truth, seed, 0.001, tank="ktc", conductivity="saturating")


def _impedance(
    name: str, prior: str, truth: Tensor, seed: int, noise: float, **options: Any
) -> Problem:
    """Voltages from the fine mesh, for an operator on the coarse one that knows the empty tank's."""
    x_shape = tuple(truth.shape[1:])
    fine = load_operator("eit", x_shape, mesh="fine", **options)
    empty = load_manifold(prior).background
    reference = fine.A(torch.full((1, *x_shape), empty))[0]
    std = noise * reference.abs().mean()
    operator = load_operator("eit", x_shape, mesh="coarse", reference=reference.tolist(), **options)
    return Problem(name, prior, operator, truth, simulate(fine, truth, std, seed), std, Starts(96, 6))


PROBLEMS = (noisy_points, blurred_bars, balls_by_impedance, tank_by_impedance)


def demo(
    output: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("demo-output"),
    seed: Annotated[int, typer.Option(help="Seed of truths, noise and starts.")] = 0,
) -> None:
    """Solve four inverse problems: prints a table, writes a picture of each."""
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    columns = ("problem", "prior", "PSNR", "rel. error", "misfit / noise", "steps", "calls", "seconds")
    table = Table(*columns, title="one row: the median over its measurements")
    output.mkdir(parents=True, exist_ok=True)
    for make in track(PROBLEMS, "solving"):
        problem = make(seed)
        solution = run(problem, load_prior(problem.prior), seed)
        picture(problem, solution, output / f"{problem.prior}.png")
        table.add_row(problem.name, problem.prior, *_figures(problem, solution))
    Console().print(table)
    print(f"pictures: {', '.join(str(file) for file in sorted(output.glob('*.png')))}")


def run(problem: Problem, prior: ManifoldPrior, seed: int) -> Solution:
    """Solve one problem of the demo."""
    return solve(
        problem.operator,
        problem.measurement,
        prior,
        fidelity=Gaussian(problem.std),
        starts=problem.starts,
        seed=seed,
    )


def _figures(problem: Problem, solution: Solution) -> list[str]:
    error = (solution.x - problem.truth).flatten(1)
    relative = error.norm(dim=1) / problem.truth.flatten(1).norm(dim=1)
    span = problem.truth.max() - problem.truth.min()
    psnr = 20 * torch.log10(span / error.square().mean(dim=1).sqrt())
    return [
        f"{psnr.median():.1f} dB",
        f"{relative.median():.3f}",
        f"{(solution.misfit / solution.expected_misfit).median():.2f}",
        f"{solution.steps.float().median():.0f}",
        f"{solution.operator_calls.float().median():.0f}",
        f"{solution.seconds:.1f}",
    ]


def picture(problem: Problem, solution: Solution, file: Path) -> None:
    """Truth | measurement | reconstruction | error, a row for each of the first measurements."""
    from matplotlib.figure import Figure

    if problem.truth.ndim == 2:
        figure = Figure(figsize=(11, 3.4), layout="constrained")
        panels = {"truth": problem.truth, "measurement": problem.measurement, "reconstruction": solution.x}
        for ax, (title, points) in zip(figure.subplots(1, 3), panels.items(), strict=True):
            ax.scatter(*points.T, s=6)
            ax.set(title=title, aspect="equal", xlim=(-3, 3), ylim=(-1.6, 1.6))
        figure.savefig(file, dpi=110)
        return
    rows = min(4, len(problem.truth))
    figure = Figure(figsize=(11, 2.7 * rows), layout="constrained")
    low, high = float(problem.truth.min()), float(problem.truth.max())
    for axes, b in zip(figure.subplots(rows, 4, squeeze=False), range(rows), strict=True):
        truth, x = problem.truth[b, 0], solution.x[b, 0]
        y = problem.measurement[b].reshape(-1, problem.measurement.shape[-1])
        axes[0].imshow(truth, vmin=low, vmax=high, cmap="coolwarm")
        axes[1].imshow(y, aspect="auto", cmap="gray")
        axes[2].imshow(x, vmin=low, vmax=high, cmap="coolwarm")
        axes[3].imshow((x - truth).abs(), vmin=0, vmax=high - low, cmap="magma")
        for ax, title in zip(axes, ("truth", "measurement", "reconstruction", "error"), strict=True):
            ax.set_title(title)
            ax.set_axis_off()
    figure.savefig(file, dpi=110)


def _generator(seed: int) -> torch.Generator:
    """A stream of truths; training derives its own by hashing, see ``priors/manifolds/base.py``."""
    return torch.Generator().manual_seed(10_000_019 + seed)
