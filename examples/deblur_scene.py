"""Count and find shapes in a blurred, noisy image: scenes of learned outlines.

    python examples/deblur_scene.py [OUTPUT.png] [--cases N]

The shapes (hearts, moons, gears) are none of those whose outlines the prior has learned.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from math import pi
from pathlib import Path
from statistics import median

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.ndimage import label
from torch import Tensor
from torch.nn.functional import avg_pool2d

from onmanifold import Gaussian, InitialPoints, MaxSteps, SmallDecrease, load_prior
from onmanifold.operators import Blur, gaussian_kernel
from onmanifold.posterior import Laplace, find_posterior
from onmanifold.priors.scene import Scene, count_probabilities, scene_of

SIZE = 96
NOISE = 0.1  # standard deviation; objects are 1 brighter or darker than what is around them
BLUR = 6.0  # standard deviation of the kernel, pixels: a third of an object
SHAPES = ("heart", "moon", "gear")
RADII = (0.15, 0.28)  # of disks of the objects' areas
SPECK = 20  # pixels: smaller regions count as no object
APART = 1.3  # least distance of two objects, sums of their radii

blur = Blur(gaussian_kernel(41, BLUR), (SIZE, SIZE))


@dataclass(frozen=True, eq=False)
class Case:
    """An image to reconstruct.

    Attributes:
        truth: masks of dark and of bright objects, ``(1, 2, SIZE, SIZE)``.
        counts: how many there are of each.
        y: what was measured, ``(1, SIZE, SIZE)``.
    """

    truth: Tensor
    counts: tuple[int, int]
    y: Tensor


def measure(x: Tensor) -> Tensor:
    """Masks of dark and bright objects ``(B, 2, SIZE, SIZE)`` to blurred images ``(B, SIZE, SIZE)``."""
    return blur.A(x[:, 1] - x[:, 0])


def shape(name: str, radius: float, centre: tuple[float, float], turn: float) -> Tensor:
    """The mask of a shape with the area of a disk, ``(SIZE, SIZE)``."""
    place = (torch.arange(3 * SIZE) + 0.5) * 2 / (3 * SIZE) - 1
    dy, dx = torch.meshgrid(-place - centre[1], place - centre[0], indexing="ij")
    c, s = torch.tensor(turn).cos(), torch.tensor(turn).sin()
    x, y = (c * dx + s * dy) / radius, (c * dy - s * dx) / radius
    if name == "heart":
        x, y = x * 0.83, y * 0.83 + 0.1
        inside = (x.square() + (1.2 * y - x.abs().sqrt() * 0.8).square()) < 1
    elif name == "moon":
        inside = (torch.hypot(x, y) < 1.25) & (torch.hypot(x - 0.75, y) > 0.95)
    else:
        inside = torch.hypot(x, y) < 1 + 0.17 * torch.sign(torch.sin(9 * torch.atan2(y, x)))
    return avg_pool2d(inside.float()[None], 3)[0]


def make_case(seed: int) -> Case:
    """One to four shapes (1 + seed mod 4) at random places, each dark or bright, blurred and noisy."""
    source = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=source))

    truth, counts, taken = torch.zeros(1, 2, SIZE, SIZE), [0, 0], []
    while len(taken) < 1 + seed % 4:
        radius, distance, angle = uniform(*RADII), uniform(0, 1) ** 0.5, uniform(0, 2 * pi)
        reach = (0.97 - 1.3 * radius) * distance
        x, y = (float(reach * f(torch.tensor(angle))) for f in (torch.cos, torch.sin))
        if any((x - u) ** 2 + (y - v) ** 2 < (APART * (radius + r)) ** 2 for u, v, r in taken):
            continue
        taken.append((x, y, radius))
        kind, name = (int(torch.randint(n, (), generator=source)) for n in (2, len(SHAPES)))
        truth[0, kind] += shape(SHAPES[name], radius, (x, y), uniform(0, 2 * pi))
        counts[kind] += 1
    noise = NOISE * torch.randn(1, SIZE, SIZE, generator=source)
    return Case(truth.clamp(max=1), (counts[0], counts[1]), measure(truth) + noise)


def reconstruct(y: Tensor, scene: Scene, patience: int = 2) -> Laplace:
    """The posterior over scenes, from samples of the prior and from the regions of the blurred image."""
    smooth = avg_pool2d(y, 7, stride=1, padding=3)  # a seventh of the noise, hardly more blur
    levels = torch.tensor([0.15, 0.3, 0.5]).view(-1, 1, 1)
    regions = torch.stack([-smooth > levels, smooth > levels], dim=1).float()
    return find_posterior(
        measure,
        y,
        scene,
        fidelity=Gaussian(NOISE),
        starts=InitialPoints(32, 3, also=scene.segment(regions)),
        stop=MaxSteps(12) | SmallDecrease(1e-3),
        patience=patience,
    )


def tikhonov(y: Tensor) -> Tensor:
    """Without a prior of objects: Tikhonov's image of the measurement, ``(SIZE, SIZE)``."""
    taps = gaussian_kernel(41, BLUR).sum(0)
    lag = torch.arange(SIZE)[:, None] - torch.arange(SIZE) + len(taps) // 2
    rows = torch.where((lag >= 0) & (lag < len(taps)), taps[lag.clamp(0, len(taps) - 1)], 0.0)
    values, vectors = torch.linalg.eigh(rows.double())  # the blur along an axis is symmetric
    gain, seen = values[:, None] * values, vectors.T @ y.double() @ vectors
    weights = torch.logspace(2, -6, 81, dtype=torch.float64).view(-1, 1, 1)
    left = weights / (gain**2 + weights)  # share of each coefficient that is left
    score = (left * seen).square().sum((1, 2)) / left.sum((1, 2)) ** 2
    weight = weights[score.argmin()]  # by generalized cross-validation
    return (vectors @ (gain * seen / (gain**2 + weight)) @ vectors.T).float()


def thresholded(image: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Masks ``(2, SIZE, SIZE)`` of what is darker and brighter than half an object, and their numbers."""
    masks = torch.stack([image < -0.5, image > 0.5])
    regions = [label(mask.numpy())[0] for mask in masks]
    dark, bright = (int((np.bincount(r.ravel())[1:] >= SPECK).sum()) for r in regions)
    return masks.float(), (dark, bright)


def overlap(truth: Tensor, found: Tensor) -> float:
    """Intersection over union of two kinds of objects, ``(2, SIZE, SIZE)`` each."""
    a, b = truth > 0.5, found > 0.5
    return float((a & b).sum() / (a | b).sum())


def draw(rows: list[tuple[Case, Tensor, Tensor, str]], file: Path) -> None:
    """Truth | measured | without a prior | found | probability: a row for each case."""
    figure = Figure(figsize=(10.5, 2.2 * len(rows)))
    axes = figure.subplots(len(rows), 5, squeeze=False)
    for row, (case, linear, samples, title) in zip(axes, rows, strict=True):
        share = (samples > 0.5).float().mean(0)
        shown = [
            ("truth", case.truth[0, 1] - case.truth[0, 0]),
            ("blurred, noisy", case.y[0]),
            ("Tikhonov", linear),
            (title, (share[1] > 0.5).float() - (share[0] > 0.5).float()),
            ("probability", share[1] - share[0]),
        ]
        for axis, (name, image) in zip(row, shown, strict=True):
            axis.imshow(image, cmap="gray", vmin=-1, vmax=1)
            axis.set_title(name, fontsize=8)
            axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(file, dpi=80)


def main() -> None:
    """Reconstruct some cases, print what was counted, draw them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, nargs="?", default=Path("scenes.png"))
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument(
        "--patience", type=int, default=2, help="modes whose jumps may lead to nothing"
    )
    options = parser.parse_args()
    scene = scene_of(load_prior("scene"))
    rows, right, overlaps, plain = [], 0, [], []
    print("case  true (dark, bright)  found  probability  intersection over union | Tikhonov's")
    for seed in range(options.cases):
        case = make_case(seed)
        posterior = reconstruct(case.y, scene, options.patience)
        counts, probability = next(iter(count_probabilities(posterior)[0].items()))
        samples = posterior.x(40, 0)[0]
        shared = overlap(case.truth[0], samples.mean(0))
        linear = tikhonov(case.y[0])
        masks, seen = thresholded(linear)
        plain.append((overlap(case.truth[0], masks), seen == case.counts))
        print(
            f"{seed:4d}  {case.counts!s:19s}  {counts}  {probability:11.2f}  {shared:23.3f} | "
            f"{seen} {plain[-1][0]:.3f}"
        )
        right += counts == case.counts
        overlaps.append(shared)
        rows.append(
            (case, linear, samples, f"{counts[0]} dark, {counts[1]} bright: {probability:.0%}")
        )
    n = len(rows)
    print(
        f"counted correctly: {right} of {n}, median intersection over union {median(overlaps):.3f}"
    )
    print(f"Tikhonov: {sum(r for _, r in plain)} of {n}, {median(o for o, _ in plain):.3f}")
    draw(rows[:8], options.output)
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
