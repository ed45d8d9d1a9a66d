"""Reconstruct measured water tanks: the interface of the Kuopio Tomography Challenge 2023.

    python examples/ktc_tank.py INPUT OUTPUT LEVEL [--truth DIR] [--all-levels]

INPUT holds ``ref.mat`` and ``data1.mat``, ``data2.mat``, ...; for each case OUTPUT gets ``K.npy`` (256 x 256,
0 water, 1 resistive, 2 conductive, row 0 on top) and ``K.png``. With ``--truth`` the official score is
printed. ``--all-levels`` cuts complete data by the challenge's rule and runs all seven levels.
"""

from __future__ import annotations

import argparse
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from onmanifold import (
    Fidelity,
    Gaussian,
    MaxSteps,
    SmallDecrease,
    Solution,
    Starts,
    load_prior,
    solve,
)
from onmanifold.operators.eit import (
    EIT,
    Measurement,
    Saturating,
    Tank,
    flag_channels,
    ktc_classes,
    ktc_level_mask,
    ktc_score,
    read_ktc,
    read_ktc_truth,
)
from onmanifold.priors.background import WithBackground

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

WATER = 0.79  # conductivity that explains the tank without objects, as the data's README finds
WATER_STD = 0.05  # it moves from one measurement to the next
TEMPERATURE = 20.0  # how much worse an end may explain the voltages and still count for "unsure"
CONTRAST = 0.98  # objects conduct 50 times better or worse than water; more makes no difference


@dataclass(frozen=True)
class Case:
    """A tank to reconstruct."""

    number: str
    level: int
    voltages: Tensor
    mask: Tensor
    truth: np.ndarray | None


@dataclass(frozen=True)
class Result:
    """What came out: classes, the picture behind them, where it is unsure."""

    classes: np.ndarray
    picture: np.ndarray
    unsure: np.ndarray
    solution: Solution
    seconds: float


def noise(reference: Measurement, voltages: Tensor, mask: Tensor) -> Tensor:
    """Standard deviation of voltage differences, V, mostly error of the model.

    A true picture leaves about a tenth of the difference signal unexplained, in proportion to the signal
    and spread over all electrodes; what ``flag_channels`` finds bad (in the challenge's tank the patterns
    of electrode 31) counts a sixteenth of the others.
    """
    difference = (voltages - reference.voltages) * mask
    typical = (difference.square().sum() / mask.sum()).sqrt()
    parts = 0.1 * difference, 0.05 * typical, 0.001 * reference.voltages
    std = sum(part**2 for part in parts).sqrt()
    std[:, list(flag_channels(reference).bad)] *= 4
    return std


def nominal_operator(reference: Measurement, x_shape: Sequence[int], water: float = WATER) -> EIT:
    """The tank as it is described, its objects nearly insulators or perfect conductors."""
    return EIT(
        Tank.ktc(),
        reference.protocol,
        x_shape,
        conductivity=Saturating(water, conductive=CONTRAST, resistive=CONTRAST, reach=0.9),
        reference=reference.voltages,
    )


def reconstruct(
    operator: EIT, y: Tensor, fidelity: Fidelity, prior: WithBackground, starts: Starts
) -> Result:
    """Find the picture on the prior's manifold that explains voltages ``(*y_shape)``."""
    began = time.perf_counter()
    solution = solve(
        operator,
        y[None].to(prior.dtype),
        prior,
        fidelity=fidelity,
        starts=starts,
        stop=MaxSteps(40) | SmallDecrease(1e-3),
    )
    water = prior.std * solution.z[0, -1]
    picture = (solution.x[0] - water) * disk(solution.x.shape[-1])
    unsure = solution.spread(temperature=TEMPERATURE)[0] * disk(solution.x.shape[-1])
    return Result(
        ktc_classes(picture),
        picture[0].numpy(),
        unsure[0].numpy(),
        solution,
        time.perf_counter() - began,
    )


def disk(size: int) -> Tensor:
    """1 in the tank, 0 in the corners around it, ``(size, size)``."""
    centres = (torch.arange(size) + 0.5) * 2 / size - 1
    return (torch.hypot(centres[:, None], centres) <= 1).float()


def read_cases(folder: Path, truths: Path | None, levels: list[int] | None) -> list[Case]:
    """The cases of a folder, each cut to the given levels (``None``: as they lie there)."""
    files = sorted(
        folder.glob("data*.mat"), key=lambda file: int(re.sub(r"\D", "", file.stem) or 0)
    )
    if not files:
        raise FileNotFoundError(f"{folder} holds no data1.mat, data2.mat, ...")
    cases = []
    for file in files:
        data, number = read_ktc(file), re.sub(r"\D", "", file.stem)
        truth = None if truths is None else read_ktc_truth(truths / f"true{number}.mat")
        for level in levels or [0]:
            mask = data.mask & ktc_level_mask(level) if level else data.mask
            cases.append(Case(number, level, data.voltages * mask, mask, truth))
    return cases


def save(result: Result, case: Case, folder: Path) -> None:
    """Write ``K.npy`` and ``K.png``, each complete or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f".{case.number}.npy", result.classes)
    figure, axes = plt.subplots(1, 3 if case.truth is not None else 2, figsize=(9, 3.2))
    draw(list(axes), result, case)
    figure.tight_layout()
    figure.savefig(folder / f".{case.number}.png", dpi=100)
    plt.close(figure)
    for suffix in (".npy", ".png"):
        (folder / f".{case.number}{suffix}").replace(folder / f"{case.number}{suffix}")


def draw(axes: list, result: Result, case: Case) -> None:
    """Truth (where known) | reconstruction | where it is unsure."""
    if case.truth is not None:
        axes[0].imshow(signed(case.truth), cmap="coolwarm", vmin=-1, vmax=1)
        axes[0].set_title("truth")
        axes = axes[1:]
    axes[0].imshow(signed(result.classes), cmap="coolwarm", vmin=-1, vmax=1)
    axes[0].set_title("reconstruction")
    axes[1].imshow(result.unsure, cmap="magma", vmin=0, vmax=1)
    axes[1].set_title("unsure")
    for axis in axes:
        axis.set_axis_off()


def signed(classes: np.ndarray) -> np.ndarray:
    """Classes 0, 1, 2 as 0, -1, 1."""
    return np.array([0, -1, 1])[classes]


def page(results: list[tuple[Case, Result]], file: Path) -> None:
    """All cases on one page: a row for each level, three pictures for each case."""
    numbers = list(dict.fromkeys(case.number for case, _ in results))
    levels = list(dict.fromkeys(case.level for case, _ in results))
    wide = 3 if results[0][0].truth is not None else 2
    shape = (len(levels), wide * len(numbers))
    figure, axes = plt.subplots(*shape, figsize=(1.6 * shape[1], 1.8 * shape[0]), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for case, result in results:
        column = wide * numbers.index(case.number)
        row = axes[levels.index(case.level), column : column + wide]
        draw(list(row), result, case)
        row[0].set_title(f"{case.number}, level {case.level}")
        if case.truth is not None:
            row[1].set_title(f"score {ktc_score(result.classes, case.truth):.3f}")
    figure.tight_layout()
    figure.savefig(file, dpi=80)
    plt.close(figure)


def report(results: list[tuple[Case, Result]]) -> None:
    """Print scores (where the truth is known), misfits and times."""
    print(
        f"{'case':>4} {'level':>5} {'score':>7} {'misfit':>8} {'water':>6} {'steps':>5} {'seconds':>8}"
    )
    for case, result in results:
        score = "" if case.truth is None else f"{ktc_score(result.classes, case.truth):.3f}"
        solution = result.solution
        misfit = float(solution.misfit[0]) / max(1, int(case.mask.sum())) * 2
        water = WATER * (1 + WATER_STD * float(solution.z[0, -1]))
        print(
            f"{case.number:>4} {case.level:>5} {score:>7} {misfit:8.3f} {water:6.3f} "
            f"{int(solution.steps[0]):5d} {result.seconds:8.1f}"
        )
    known = [(case, result) for case, result in results if case.truth is not None]
    for level in dict.fromkeys(case.level for case, _ in known):
        scores = [ktc_score(r.classes, c.truth) for c, r in known if c.level == level]
        print(f"level {level}: mean score {np.mean(scores):.3f} of {len(scores)} cases")


def main() -> None:
    """Read the arguments, run every case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("level", type=int, nargs="?", help="1 to 7; not needed with --all-levels")
    parser.add_argument("--truth", type=Path, help="folder with true1.mat, true2.mat, ...")
    parser.add_argument("--all-levels", action="store_true")
    parser.add_argument("--starts", type=int, default=6, help="descents for each case")
    arguments = parser.parse_args()
    if arguments.level is None and not arguments.all_levels:
        parser.error("give a level from 1 to 7, or --all-levels")
    if arguments.level is not None and not 1 <= arguments.level <= 7:
        parser.error(f"levels are 1 to 7, got {arguments.level}")

    levels = list(range(1, 8)) if arguments.all_levels else [arguments.level]
    try:
        reference = read_ktc(arguments.input / "ref.mat")
        cases = read_cases(arguments.input, arguments.truth, levels)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    prior = WithBackground(load_prior("tank"), WATER_STD)
    operator = nominal_operator(reference, prior.x_shape)
    starts = Starts(pool=96, keep=arguments.starts)
    results = []
    with Progress() as progress:
        for case in progress.track(cases, description="tanks"):
            std = noise(reference, case.voltages, case.mask).to(prior.dtype)
            fidelity = Gaussian(std, mask=case.mask)
            result = reconstruct(operator, case.voltages, fidelity, prior, starts)
            folder = (
                arguments.output / f"level{case.level}"
                if arguments.all_levels
                else arguments.output
            )
            save(result, case, folder)
            results.append((case, result))
    page(results, arguments.output / "page.png")
    report(results)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main()
