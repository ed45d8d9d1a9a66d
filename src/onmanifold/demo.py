"""``onmanifold demo``: four inverse problems, solved on the manifolds that ship with the package.

It loads operators, priors and data sets by name, as any other package could. The truths are drawn from a
stream of random numbers that training never reads. Voltages are simulated on a finer mesh than the one that
inverts them.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from onmanifold.fidelity import Gaussian
from onmanifold.initial_points import InitialPoints
from onmanifold.operator import ForwardOperator, as_operator, simulate
from onmanifold.plugins import load_dataset, load_operator
from onmanifold.pretrained import load_prior
from onmanifold.prior import ManifoldPrior
from onmanifold.solution import InconsistentWarning, Solution
from onmanifold.solve import solve


@dataclass(frozen=True)
class Experiment:
    """One inverse problem of the demo, with its data.

    Attributes:
        name: what is measured.
        prior: name of the prior.
        operator: the operator that inverts.
        truth: the true images, ``(B, *x_shape)``.
        measurement: what was measured of them, ``(B, *y_shape)``.
        std: standard deviation of the noise.
        starts: the initial points of the descents.
    """

    name: str
    prior: str
    operator: ForwardOperator
    truth: Tensor
    measurement: Tensor
    std: float | Tensor
    starts: InitialPoints = InitialPoints()

    @cached_property
    def visible(self) -> Tensor:
        """Pixels that the measurement depends on, ``x_shape``, boolean: none outside of a tank."""
        u = torch.randn(self.measurement[:1].shape, generator=_generator(0)).to(self.measurement)
        entries: Tensor = self.operator.A_vjp(self.truth[:1], u)[0] != 0
        return entries


def noisy_points(seed: int) -> Experiment:
    """Points of two circles, measured with noise: where on the circles are they?"""
    truth, _ = load_dataset("two-circles", noise=0.0).sample(200, _generator(seed))
    operator = as_operator(lambda x: 1.0 * x, x_shape=(2,))
    y = simulate(operator, truth, 0.15, seed)
    return Experiment("denoising", "two-circles", operator, truth, y, 0.15)


def blurred_bars(seed: int) -> Experiment:
    """Bars, blurred far beyond their width, with noise."""
    truth, _ = load_dataset("bar").sample(4, _generator(seed))
    operator = load_operator("blur", tuple(truth.shape[1:]), size=40, std=15.0)
    y = simulate(operator, truth, 0.1, seed)
    return Experiment("deblurring", "bar", operator, truth, y, 0.1)


def balls_by_impedance(seed: int) -> Experiment:
    """Two balls in a disk, seen by electrical impedance tomography with 0.2 % noise."""
    truth, _ = load_dataset("two-balls").sample(2, _generator(seed))
    scale = {"map": "affine", "offset": 0.2, "slope": 1.6}
    setup = {"tank": "unit", "conductivity": scale, "background": 1.0}
    return _impedance("EIT, disk", "two-balls", truth, seed, 0.002, **setup)


def tank_by_impedance(seed: int) -> Experiment:
    """Objects in a water tank with the electrodes and currents of a real one, with 0.5 % noise."""
    truth, _ = load_dataset("tank").sample(3, _generator(seed))
    setup = {"tank": "ktc", "conductivity": "saturating"}
    return _impedance("EIT, tank", "tank", truth, seed, 0.005, **setup)


def _impedance(
    name: str, prior: str, truth: Tensor, seed: int, noise: float, **options: Any
) -> Experiment:
    """Voltages from the fine mesh, and an operator on the coarse one with a reference, the empty tank.

    ``noise`` is the standard deviation relative to the mean voltage.
    """
    x_shape = tuple(truth.shape[1:])
    fine = load_operator("eit", x_shape, mesh="fine", **options)
    empty = load_dataset(prior).background
    reference = fine.A(torch.full((1, *x_shape), empty))[0]
    std = noise * reference.abs().mean()
    operator = load_operator("eit", x_shape, mesh="coarse", reference=reference.tolist(), **options)
    return Experiment(
        name, prior, operator, truth, simulate(fine, truth, std, seed), std, InitialPoints(96, 6)
    )


EXPERIMENTS = (noisy_points, blurred_bars, balls_by_impedance, tank_by_impedance)


def demo(
    output: Annotated[Path, typer.Option(help="Folder for the figures.")] = Path("demo-output"),
    seed: Annotated[int, typer.Option(help="Seed of truths, noise and initial points.")] = 0,
) -> None:
    """Solve four inverse problems; print a table, write a figure of each."""
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    columns = ("problem", "prior", "PSNR", "error", "misfit", "consistent", "seconds")
    table = Table(
        *columns,
        caption="medians over the measurements; error: relative, where the measurement depends on the "
        "image; misfit: relative to its mean under the noise; consistent: with the noise",
    )
    output.mkdir(parents=True, exist_ok=True)
    solved = []
    for make in track(EXPERIMENTS, "solving"):
        experiment = make(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InconsistentWarning)  # the table says it
            solution = run(experiment, load_prior(experiment.prior), seed)
        count = 1 if experiment.truth.ndim == 2 else min(4, len(solution))
        draw([(experiment, solution, b) for b in range(count)], output / f"{experiment.prior}.png")
        table.add_row(experiment.name, experiment.prior, *_cells(experiment, solution))
        solved.append((experiment, solution, len(solution) - 1))
    draw(solved, output / "overview.png")
    Console().print(table)
    print(f"figures: {', '.join(str(file) for file in sorted(output.glob('*.png')))}")


def run(experiment: Experiment, prior: ManifoldPrior, seed: int) -> Solution:
    """Solve one experiment of the demo."""
    return solve(
        experiment.operator,
        experiment.measurement,
        prior,
        fidelity=Gaussian(experiment.std),
        starts=experiment.starts,
        seed=seed,
    )


def _cells(experiment: Experiment, solution: Solution) -> list[str]:
    truth = experiment.truth[:, experiment.visible]
    error = solution.x[:, experiment.visible] - truth
    relative = error.norm(dim=1) / truth.norm(dim=1)
    span = experiment.truth.max() - experiment.truth.min()
    psnr = 20 * torch.log10(span / error.square().mean(dim=1).sqrt())
    return [
        f"{psnr.median():.1f} dB",
        f"{relative.median():.3f}",
        f"{(solution.misfit / solution.expected_misfit).median():.2f}",
        f"{int(solution.consistent.sum())} of {len(solution)}",
        f"{solution.seconds:.1f}",
    ]


def draw(columns: list[tuple[Experiment, Solution, int]], file: Path) -> None:
    """Truth, measurement and reconstruction below each other, a column for each measurement."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(columns), 9), layout="constrained")
    each = figure.subplots(3, len(columns), squeeze=False).T
    for axes, (experiment, solution, b) in zip(each, columns, strict=True):
        _draw(axes, experiment, solution, b)
        axes[0].set_title(f"{experiment.name}: truth")
    figure.savefig(file, dpi=80)


def _draw(axes: Any, experiment: Experiment, solution: Solution, b: int) -> None:
    """One measurement on three axes; points of the plane are drawn all at once."""
    titles = ("truth", "measurement", "reconstruction")
    values = (experiment.truth, experiment.measurement, solution.x)
    low, high = float(experiment.truth.min()), float(experiment.truth.max())
    for ax, title, tensor in zip(axes, titles, values, strict=True):
        value = tensor.numpy()
        ax.set_title(title)
        if experiment.truth.ndim == 2:
            ax.scatter(*value.T, s=4)
            ax.set(aspect="equal", xlim=(-3, 3), ylim=(-2, 2))
        elif title == "measurement":
            ax.imshow(value[b].reshape(-1, value.shape[-1]), aspect="auto", cmap="gray")
        else:
            shown = tensor[b].where(experiment.visible, torch.nan)[0].numpy()
            ax.imshow(shown, vmin=low, vmax=high, cmap="coolwarm")
        ax.set_xticks([])
        ax.set_yticks([])


def _generator(seed: int) -> torch.Generator:
    """A stream of truths; training derives its own by hashing, see ``priors/datasets/base.py``."""
    return torch.Generator().manual_seed(10_000_019 + seed)
