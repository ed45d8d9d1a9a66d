"""Deblurring and inpainting of held-out digits: ``python benchmarks/digits.py [--prior NAME_OR_FOLDER]``.

Two problems, with the noise level known: a blur by a 9 x 9 Gaussian of standard deviation 2 with noise of
0.1, and half of the pixels with noise of 0.05. The peak signal-to-noise ratio (peak 1, results clipped to
[0, 1]) of

* the manifold solution: ``solve`` by Levenberg-Marquardt from several starts;
* plain latent descent: Adam on the same objective over the same latent coordinates from the same starts,
  once with as many evaluations of A, once with as many applications of A and its derivative;
* total variation: ``|A x - y|^2 / 2 + w TV(x)`` by accelerated proximal gradient steps (Beck and Teboulle,
  SIAM J. Imaging Sci. 2, 2009), with scikit-image's ``denoise_tv_chambolle`` as the proximal map. The mask is
  treated like the blur: scikit-image has no inpainting by total variation of its own.

A *call* is an evaluation of A for one measurement. An *application* counts derivatives too: d tangents with a
step of Levenberg-Marquardt (the most it takes: a rejected step needs none), one adjoint with one of the
others. What there is to choose (weight of the latent density, learning rates, weight of TV) is what has the
highest mean ratio on validation digits, from the grids below.

The digits are read from ``$ONMANIFOLD_DATA/mnist``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from skimage.restoration import denoise_tv_chambolle
from torch import Tensor

from onmanifold import (
    ForwardOperator,
    Gaussian,
    InitialPoints,
    ManifoldPrior,
    Point,
    load_dataset,
    load_prior,
    simulate,
    solve,
)
from onmanifold.descent.problem import Problem, build_problem
from onmanifold.geometry import locate
from onmanifold.operators import Blur, gaussian_kernel
from onmanifold.operators.mask import from_options as random_mask
from onmanifold.priors.datasets import part_of, stream

PRIOR_WEIGHTS = (0.0, 0.1, 0.3, 1.0, 3.0)
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)  # of Adam, in units of the latent density's standard deviation
TV_WEIGHTS = (0.003, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12)
TV_STEPS = 100


@dataclass(frozen=True)
class Task:
    """An inverse problem.

    Attributes:
        name: of the problem, for the table.
        operator: A.
        noise: standard deviation of the measurement's noise.
    """

    name: str
    operator: ForwardOperator
    noise: float


@dataclass(frozen=True)
class Result:
    """What a method made of some measurements.

    Attributes:
        x: the reconstructions, ``(B, *x_shape)``.
        calls: evaluations of A a measurement, on average.
        applications: of A and its derivative.
        seconds: for all measurements.
    """

    x: Tensor
    calls: float
    applications: float
    seconds: float


@dataclass(frozen=True)
class Posed:
    """Measurements of a task, and where descents start.

    Attributes:
        task: what was measured.
        y: ``(B, *y_shape)``.
        prior: the manifold.
        start: S points for each measurement in turn, ``(B * S)``.
        starts: how they were found.
    """

    task: Task
    y: Tensor
    prior: ManifoldPrior
    start: Point
    starts: InitialPoints

    def problem(self, prior_weight: float) -> Problem:
        """The objective of each start."""
        fidelity = Gaussian(self.task.noise)
        posed = build_problem(self.task.operator, self.y, self.prior, fidelity, prior_weight)
        return posed.repeat(self.starts.keep)


def measure(
    task: Task, prior: ManifoldPrior, truth: Tensor, starts: InitialPoints, seed: int
) -> Posed:
    """Simulate measurements, and choose starts for them by their misfit alone."""
    y = simulate(task.operator, truth, task.noise, generator=seed)
    pool = prior.sample(starts.pool, seed)
    predicted = task.operator.A(prior.decode(pool))
    best = torch.cdist(y.flatten(1), predicted.flatten(1)).argsort(dim=1)[:, : starts.keep]
    return Posed(task, y, prior, pool.select(best.flatten()), starts)


def manifold(posed: Posed, prior_weight: float) -> Result:
    """The solution by Levenberg-Marquardt."""
    solution = solve(
        posed.task.operator,
        posed.y,
        posed.prior,
        fidelity=Gaussian(posed.task.noise),
        prior_weight=prior_weight,
        starts=posed.start,
    )
    calls = float(solution.operator_calls.double().mean())
    tangents = posed.prior.dim * float(solution.linearizations.double().mean())
    pool = posed.starts.pool
    return Result(solution.x, pool + calls, pool + calls + tangents, solution.seconds)


def adam(posed: Posed, prior_weight: float, rate: float, calls: float) -> Result:
    """Plain latent descent with about so many calls a measurement; the best end wins."""
    began = time.perf_counter()
    problem, chart = posed.problem(prior_weight), posed.start.chart
    pool, keep = posed.starts.pool, posed.starts.keep
    steps = max(1, round((calls - pool) / keep) - 1)  # one call is for the objective of the ends
    z = posed.start.z.clone().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=rate * _latent_scale(posed.prior))

    def objective() -> Tensor:
        prediction = problem.operator.A(posed.prior.decode(posed.start.at(z)))
        return problem.misfit(prediction) + problem.penalty(Point(chart, z))

    for _ in range(steps):
        optimizer.zero_grad()
        objective().sum().backward()
        optimizer.step()
    with torch.no_grad():
        best = objective().reshape(-1, keep).argmin(dim=1)
        rows = keep * torch.arange(len(posed.y)) + best
        x = posed.prior.decode(posed.start.at(z).select(rows))
    seconds = time.perf_counter() - began
    used = pool + keep * (steps + 1)
    return Result(x, used, used + keep * steps, seconds)


def _latent_scale(prior: ManifoldPrior) -> float:
    return float(prior.sample(1000, 0).z.std(dim=0).median())


def total_variation(posed: Posed, weight: float) -> Result:
    """Least squares with a penalty on the total variation; both operators have a norm of at most 1."""
    began = time.perf_counter()
    operator = posed.task.operator
    momentum, x = 1.0, torch.zeros(len(posed.y), *operator.x_shape)
    ahead = x
    for _ in range(TV_STEPS):
        moved = ahead - operator.A_vjp(ahead, operator.A(ahead) - posed.y)
        after = _denoise(moved, weight)
        gained = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = after + (momentum - 1) / gained * (after - x)
        momentum, x = gained, after
    return Result(x, TV_STEPS, 2 * TV_STEPS, time.perf_counter() - began)


def _denoise(x: Tensor, weight: float) -> Tensor:
    pictures = [
        denoise_tv_chambolle(picture, weight, eps=1e-4, max_num_iter=100)
        for picture in x.squeeze(1).double().numpy()
    ]
    return torch.from_numpy(np.stack(pictures)).to(x).unsqueeze(1)


def psnr(x: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB for peak 1, ``(B,)``."""
    error = (x.clamp(0, 1) - truth).flatten(1).square().mean(dim=1)
    return -10 * error.log10()


def chosen(
    name: str, run: Callable[[float], Result], grid: Sequence[float], truth: Tensor
) -> float:
    """The number of a grid with the highest mean ratio on validation digits; prints all of them."""
    ratios = [float(psnr(run(value).x, truth).mean()) for value in grid]
    listed = ", ".join(f"{v:g}: {r:.2f}" for v, r in zip(grid, ratios, strict=True))
    print(f"  validation, {name}: {listed} dB", flush=True)
    return grid[max(range(len(grid)), key=ratios.__getitem__)]


def compare(task: Task, validation: Posed, posed: Posed, known: Tensor, truth: Tensor) -> None:
    """Choose each method's number on validation digits, and print a row a method on the held-out ones."""
    print(f"{task.name}, noise {task.noise:g}, {len(truth)} held-out digits", flush=True)
    weight = chosen("prior_weight", lambda w: manifold(validation, w), PRIOR_WEIGHTS, known)
    found = {f"manifold, prior_weight {weight:g}": manifold(posed, weight)}
    (ours,) = found.values()
    calls, keep = ours.calls, posed.starts.keep
    more = (ours.applications - posed.starts.pool - keep) / 2 + posed.starts.pool
    for name, budget in (("as many calls", calls), ("as many applications", more)):

        def latent(rate: float, budget: float = budget) -> Result:
            return adam(validation, weight, rate, budget)

        rate = chosen(f"Adam's rate, {name}", latent, RATES, known)
        found[f"Adam, {name}, rate {rate:g}"] = adam(posed, weight, rate, budget)
    tv = chosen("weight of TV", lambda w: total_variation(validation, w), TV_WEIGHTS, known)
    found[f"total variation, weight {tv:g}"] = total_variation(posed, tv)
    print(f"  {'':40s} mean dB  median  better   calls  applications      s")
    for name, result in found.items():
        ratio = psnr(result.x, truth)
        better = f"{int((ratio > psnr(ours.x, truth)).sum())}" if result is not ours else ""
        print(
            f"  {name:40s} {ratio.mean():7.2f} {ratio.median():7.2f} {better:>7s} {result.calls:7.0f} "
            f"{result.applications:13.0f} {result.seconds:6.1f}"
        )


def main() -> None:
    """Print a table for each task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prior", default="mnist", help="name of a pretrained prior, or a folder")
    parser.add_argument("--digits", type=int, default=100, help="held-out digits")
    parser.add_argument("--validation", type=int, default=20, help="validation digits")
    parser.add_argument("--starts", type=int, default=8, help="descents a digit")
    parser.add_argument("--pool", type=int, default=256, help="samples that the starts come from")
    parser.add_argument("--seed", type=int, default=0, help="of digits, mask, noise and samples")
    told = parser.parse_args()
    prior, data = load_prior(told.prior), load_dataset("mnist")
    digits = {
        split: part_of(data, split).sample(count, stream(told.seed, split))[0].to(prior.dtype)
        for split, count in (("validation", told.validation), ("held-out", told.digits))
    }
    known, truth = digits["validation"], digits["held-out"]
    starts = InitialPoints(told.pool, told.starts)
    tasks = (
        Task("deblurring, 9 x 9", Blur(gaussian_kernel(9, 2.0), prior.x_shape), 0.1),
        Task("inpainting, half the pixels", random_mask(prior.x_shape, seed=told.seed), 0.05),
    )
    located = locate(prior, truth)
    nearest = psnr(prior.decode(located), truth)
    print(f"prior {told.prior}: d = {prior.dim}, {starts.keep} starts of a pool of {starts.pool}")
    print("  better: digits on which a method beats the manifold solution")
    print(f"  the point of the manifold nearest to the truth: mean {nearest.mean():.2f} dB")
    for task in tasks:
        validation = measure(task, prior, known, starts, told.seed + 1)
        posed = measure(task, prior, truth, starts, told.seed)
        compare(task, validation, posed, known, truth)


if __name__ == "__main__":
    main()
