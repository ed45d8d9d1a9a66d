"""``onmanifold demo``: four inverse problems, solved on the manifolds that ship with the package.

The truths are drawn from streams of random numbers that training never reads, or are shapes that no prior has
learned. Voltages are simulated on a finer mesh than the one that inverts them.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from onmanifold.applications import tanks
from onmanifold.fidelity import Gaussian
from onmanifold.operator import ForwardOperator, as_operator, simulate
from onmanifold.operators.eit import EIT, Inclusions, Measurement, calibrate_tank, ktc, noise_std
from onmanifold.plugins import load_dataset, load_operator
from onmanifold.pretrained import load_prior
from onmanifold.solution import InconsistentWarning
from onmanifold.solve import solve

_WATER = 0.8  # conductivity, S/m


@dataclass(frozen=True, eq=False)
class Result:
    """One inverse problem of the demo, solved.

    Attributes:
        name: what is done.
        data: what was measured, in a few words.
        prior: name of the prior.
        truth: the true images, ``(B, H, W)``, or points, ``(B, 2)``; NaN where nothing is measured.
        measurement: what was measured of them, ``(B, ...)``; voltages without those of the empty tank.
        found: the reconstructions, as the truth.
        converged: which descents ended at a minimum, ``(B,)``, boolean.
        consistent: which reconstructions are consistent with the noise, ``(B,)``, boolean.
        seconds: how long it took to solve.
    """

    name: str
    data: str
    prior: str
    truth: Tensor
    measurement: Tensor
    found: Tensor
    converged: Tensor
    consistent: Tensor
    seconds: float

    @property
    def error(self) -> Tensor:
        """Relative error of each reconstruction, ``(B,)``."""
        truth, off = self.truth.flatten(1), (self.found - self.truth).flatten(1)
        relative: Tensor = off.nan_to_num().norm(dim=1) / truth.nan_to_num().norm(dim=1)
        return relative

    @property
    def psnr(self) -> Tensor:
        """Peak signal-to-noise ratio of each reconstruction, dB, ``(B,)``."""
        known = self.truth.nan_to_num()
        rms = (self.found - self.truth).flatten(1).square().nanmean(dim=1).sqrt()
        decibel: Tensor = 20 * torch.log10((known.max() - known.min()) / rms)
        return decibel


def noisy_points(seed: int) -> Result:
    """Points of two circles, measured with noise: where on the circles are they?"""
    truth, _ = load_dataset("two-circles", noise=0.0).sample(200, _generator(seed))
    operator = as_operator(lambda x: 1.0 * x, x_shape=(2,))
    y = simulate(operator, truth, 0.15, seed)
    return _solved("denoising", "200 points, noise 0.15", "two-circles", operator, truth, y, 0.15)


def blurred_bars(seed: int) -> Result:
    """Bars, blurred far beyond their width, with noise."""
    truth, _ = load_dataset("bar").sample(4, _generator(seed))
    operator = load_operator("blur", tuple(truth.shape[1:]), size=40, std=15.0)
    y = simulate(operator, truth, 0.1, seed)
    return _solved(
        "deblurring", "blur of 15 pixels, noise 0.1", "bar", operator, truth, y, 0.1, seed
    )


def balls_by_impedance(seed: int) -> Result:
    """Two balls in a disk, seen by electrical impedance tomography with 1 % noise."""
    truth, _ = load_dataset("two-balls").sample(2, _generator(seed))
    shape, scale = tuple(truth.shape[1:]), {"map": "affine", "offset": 0.2, "slope": 1.6}
    setup: dict[str, Any] = {"tank": "unit", "conductivity": scale, "background": 1.0}
    fine = load_operator("eit", shape, mesh="fine", **setup)
    reference = fine.A(torch.full((1, *shape), load_dataset("two-balls").background))[0]
    std = 0.01 * reference.abs().mean()
    coarse = load_operator("eit", shape, mesh="coarse", reference=reference.tolist(), **setup)
    y = simulate(fine, truth, std, seed)
    data = f"{y[0].numel()} voltages, 1 % noise"
    result = _solved("EIT, disk", data, "two-balls", coarse, truth, y, std, seed)
    return replace(result, measurement=y - reference)  # of which more is to be seen


def objects_in_a_tank(seed: int) -> Result:
    """Resistive and conductive objects in a tank of water: how many, where, of which shapes?

    The tank, its 32 electrodes and its currents are those of a real one. It is calibrated by a measurement
    without objects, as a measured one would be.
    """
    classes = _square_disk_and_triangle(seed)
    masks = torch.stack([classes == 1, classes == 2, torch.zeros_like(classes, dtype=torch.bool)])
    fine = EIT(
        ktc.tank(), ktc.protocol(), masks.shape, conductivity=Inclusions(_WATER), mesh="fine"
    )
    ideal = fine.A(torch.stack([torch.zeros_like(masks), masks]).double())
    source = torch.Generator().manual_seed(seed)
    reference, measured = (_read(voltages, source) for voltages in ideal)
    began = time.perf_counter()
    tank = calibrate_tank(ktc.tank(), reference)
    found = tanks.reconstruct(tank, measured)
    _, resistive, conductive = torch.from_numpy(found.probabilities)
    outside = _plane(ktc.SIZE).abs() > 1
    return Result(
        name="EIT, tank",
        data=f"{measured.voltages.numel()} voltages, noise of a real tank",
        prior="scene",
        truth=torch.where(outside, torch.nan, _signed(classes))[None],
        measurement=(measured.voltages - reference.voltages)[None],
        found=torch.where(outside, torch.nan, conductive - resistive)[None],
        converged=torch.tensor([True]),  # the search ends where no jump leads to more evidence
        consistent=torch.tensor([found.consistent]),
        seconds=time.perf_counter() - began,
    )


EXPERIMENTS = (noisy_points, blurred_bars, balls_by_impedance, objects_in_a_tank)


def _solved(
    name: str,
    data: str,
    prior: str,
    operator: ForwardOperator,
    truth: Tensor,
    y: Tensor,
    std: float | Tensor,
    seed: int = 0,
) -> Result:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentWarning)  # the table says it
        solution = solve(operator, y, load_prior(prior), fidelity=Gaussian(std), seed=seed)
    probe = torch.randn(y[:1].shape, generator=_generator(0)).to(y)
    seen = operator.A_vjp(truth[:1], probe)[0] != 0  # no pixel outside of a tank
    images = (torch.where(seen, x, torch.nan) for x in (truth, solution.x))
    known, found = (x.squeeze(1) if x.ndim == 4 else x for x in images)
    converged, consistent = solution.converged, solution.consistent
    return Result(name, data, prior, known, y, found, converged, consistent, solution.seconds)


def _read(voltages: Tensor, source: torch.Generator) -> Measurement:
    """What the challenge's instrument would read."""
    noise = torch.randn(voltages.shape, generator=source, dtype=voltages.dtype)
    read = voltages + noise_std(voltages) * noise
    return Measurement(ktc.protocol(), read, torch.ones_like(read, dtype=torch.bool))


def _plane(size: int) -> Tensor:
    """Pixels of ``[-1, 1]^2`` as complex numbers, row 0 on top: ``(size, size)``."""
    centre = (torch.arange(size, dtype=torch.float64) + 0.5) * 2 / size - 1
    return torch.complex(centre.expand(size, size), -centre[:, None].expand(size, size))


def _square_disk_and_triangle(seed: int) -> Tensor:
    """Classes of a tank's pixels: 0 water, 1 resistive, 2 conductive; the whole turned at random."""
    turn = np.exp(2j * np.pi * np.random.default_rng([77, seed]).random())
    pixels = _plane(ktc.SIZE) / turn
    classes = torch.zeros(pixels.shape, dtype=torch.int64)
    square = (pixels - 0.5) * np.exp(-0.3j)
    classes[torch.maximum(square.real.abs(), square.imag.abs()) < 0.2] = 1
    classes[(pixels - 0.5 * np.exp(2.1j)).abs() < 0.22] = 2
    triangle = (pixels - 0.52 * np.exp(4.2j)) * np.exp(-1j)
    sides = torch.stack([(triangle * np.exp(2j * np.pi * k / 3)).real for k in range(3)])
    classes[sides.amax(0) < 0.15] = 1
    return classes


def _signed(classes: Tensor) -> Tensor:
    """Classes 0, 1, 2 as 0, -1, 1."""
    return torch.tensor([0.0, -1.0, 1.0], dtype=torch.float64)[classes]


def demo(
    output: Annotated[Path, typer.Option(help="Folder for the figures.")] = Path("demo-output"),
    seed: Annotated[int, typer.Option(help="Seed of truths, noise and initial points.")] = 0,
) -> None:
    """Solve four inverse problems; print a table, write a figure of each."""
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    table = Table(
        *("problem", "prior", "PSNR", "error", "converged", "consistent", "seconds"),
        caption="PSNR, dB, and relative error: medians; consistent: with the noise, at a level of 1 %",
    )
    output.mkdir(parents=True, exist_ok=True)
    solved = []
    for make in track(EXPERIMENTS, "solving"):
        result = make(seed)
        count = 1 if result.truth.ndim == 2 else min(4, len(result.truth))
        draw([(result, b) for b in range(count)], output / f"{result.prior}.png")
        table.add_row(result.name, result.prior, *_cells(result))
        solved.append((result, len(result.truth) - 1))
    draw(solved, output / "overview.png")
    Console().print(table)
    print(f"figures: {', '.join(str(file) for file in sorted(output.glob('*.png')))}")


def _cells(result: Result) -> list[str]:
    count = len(result.truth)
    return [
        f"{result.psnr.median():.1f}",
        f"{result.error.median():.3f}",
        f"{int(result.converged.sum())} of {count}",
        f"{int(result.consistent.sum())} of {count}",
        f"{result.seconds:.1f}",
    ]


def draw(columns: list[tuple[Result, int]], file: Path) -> None:
    """Truth, measurement and reconstruction below each other, a column for each measurement."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(columns), 9.4), layout="constrained")
    each = figure.subplots(3, len(columns), squeeze=False).T
    for axes, (result, b) in zip(each, columns, strict=True):
        _draw(axes, result, b)
        axes[0].set_title(result.name, fontsize=13, fontweight="bold")
    for axis, label in zip(each[0], ("truth", "measurement", "reconstruction"), strict=True):
        axis.set_ylabel(label, fontsize=12)
    figure.savefig(file, dpi=80)


def _draw(axes: Any, result: Result, b: int) -> None:
    """One measurement on three axes; points of the plane are drawn all at once."""
    error = result.error.median() if result.truth.ndim == 2 else result.error[b]
    consistent = bool(result.consistent[b]) or result.truth.ndim == 2
    told = f"relative error {error:.1%}" + ("" if consistent else ", inconsistent with the noise")
    notes = ("", result.data, told)
    values = (result.truth, result.measurement, result.found)
    known = result.truth[~result.truth.isnan()]
    low, high = float(known.min()), float(known.max())
    for row, (ax, note, tensor) in enumerate(zip(axes, notes, values, strict=True)):
        ax.set_xlabel(note)
        if result.truth.ndim == 2:
            ax.scatter(*tensor.numpy().T, s=5, color="C0")
            ax.set(aspect="equal", xlim=(-3, 3), ylim=(-3, 3))
        elif row == 1:
            image = tensor[b].reshape(-1, tensor.shape[-1]).numpy()
            ax.imshow(image, aspect="auto", cmap="gray")
        else:
            ax.imshow(tensor[b].numpy(), vmin=low, vmax=high, cmap="coolwarm")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(result.truth.ndim == 2 or not bool(tensor[b].isnan().any()))


def _generator(seed: int) -> torch.Generator:
    """A stream of truths; training derives its own by hashing, see ``priors/datasets/base.py``."""
    return torch.Generator().manual_seed(10_000_019 + seed)
