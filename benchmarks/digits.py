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
highest mean ratio on validation digits, from the grids below. *Better*: digits on which a method beats the
manifold solution.

The digits are read from ``$ONMANIFOLD_DATA/mnist``.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import typer
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
from onmanifold.descent import build_problem
from onmanifold.geometry import locate
from onmanifold.operators import Blur, gaussian_kernel
from onmanifold.operators.mask import from_options as random_mask
from onmanifold.priors.datasets import part_of, stream
from shared.tables import Table

PRIOR_WEIGHTS = (0.0, 0.1, 0.3, 1.0, 3.0)
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)  # of Adam, in units of the latent density's standard deviation
TV_WEIGHTS = (0.003, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12)
TV_STEPS = 100


class Restored(NamedTuple):
    """What a method made of some measurements."""

    x: Tensor  # the reconstructions, (B, *x_shape)
    calls: float  # evaluations of A for each measurement, on average
    applications: float  # of A and its derivative
    seconds: float  # for all measurements


class Measured(NamedTuple):
    """Measurements, and where descents start."""

    truth: Tensor
    operator: ForwardOperator
    noise: float
    y: Tensor
    prior: ManifoldPrior
    start: Point  # S points for each measurement in turn, (B * S)
    starts: InitialPoints  # how they were found


def measure(
    operator: ForwardOperator,
    noise: float,
    truth: Tensor,
    prior: ManifoldPrior,
    starts: InitialPoints,
    seed: int,
) -> Measured:
    """Simulate measurements, and choose starts for them by their misfit alone."""
    y = simulate(operator, truth, noise, generator=seed)
    pool = prior.sample(starts.pool, seed)
    predicted = operator.A(prior.decode(pool))
    best = torch.cdist(y.flatten(1), predicted.flatten(1)).argsort(dim=1)[:, : starts.keep]
    return Measured(truth, operator, noise, y, prior, pool.select(best.flatten()), starts)


def manifold(data: Measured, prior_weight: float) -> Restored:
    """The solution by Levenberg-Marquardt."""
    options = {"prior_weight": prior_weight, "starts": data.start}
    fidelity = Gaussian(data.noise)
    solution = solve(data.operator, data.y, data.prior, fidelity=fidelity, **options)
    calls = data.starts.pool + float(solution.operator_calls.double().mean())
    tangents = data.prior.dim * float(solution.linearizations.double().mean())
    return Restored(solution.x, calls, calls + tangents, solution.seconds)


def adam(data: Measured, prior_weight: float, rate: float, calls: float) -> Restored:
    """Plain latent descent with about so many calls for each measurement; the best final point wins."""
    began, start, prior = time.perf_counter(), data.start, data.prior
    one = build_problem(data.operator, data.y, prior, Gaussian(data.noise), prior_weight)
    pool, keep = data.starts.pool, data.starts.keep
    problem = one.repeat(keep)
    steps = max(1, round((calls - pool) / keep) - 1)  # one call is for the final objective
    z = start.z.clone().requires_grad_()
    scale = float(prior.sample(1000, 0).z.std(dim=0).median())
    optimizer = torch.optim.Adam([z], lr=rate * scale)

    def objective() -> Tensor:
        prediction = problem.operator.A(prior.decode(start.at(z)))
        return problem.misfit(prediction) + problem.penalty(start.at(z))

    for _ in range(steps):
        optimizer.zero_grad()
        objective().sum().backward()
        optimizer.step()
    with torch.no_grad():
        best = objective().reshape(-1, keep).argmin(dim=1)
        rows = keep * torch.arange(len(data.y)) + best
        x = prior.decode(start.at(z).select(rows))
    used = pool + keep * (steps + 1)
    return Restored(x, used, used + keep * steps, time.perf_counter() - began)


def total_variation(data: Measured, weight: float, square: float = 1.0) -> Restored:
    """Least squares with a penalty on the total variation; ``square``: of a bound of the operator's norm."""
    began, operator = time.perf_counter(), data.operator
    momentum, x = 1.0, torch.zeros(len(data.y), *operator.x_shape)
    ahead = x
    for _ in range(TV_STEPS):
        moved = ahead - operator.A_vjp(ahead, operator.A(ahead) - data.y) / square
        images = moved.squeeze(1).double().numpy()
        smooth = [
            denoise_tv_chambolle(i, weight / square, eps=1e-4, max_num_iter=100) for i in images
        ]
        after = torch.from_numpy(np.stack(smooth)).to(x).unsqueeze(1)
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = after + (momentum - 1) / following * (after - x)
        momentum, x = following, after
    return Restored(x, TV_STEPS, 2 * TV_STEPS, time.perf_counter() - began)


def psnr(x: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB for peak 1, ``(B,)``."""
    error = (x.clamp(0, 1) - truth).flatten(1).square().mean(dim=1)
    return -10 * error.log10()


def chosen(
    name: str, run: Callable[[float], Restored], grid: Sequence[float], truth: Tensor
) -> float:
    """The number of a grid with the highest mean ratio on validation digits; prints all of them."""
    ratios = [float(psnr(run(value).x, truth).mean()) for value in grid]
    listed = ", ".join(f"{v:g}: {r:.2f}" for v, r in zip(grid, ratios, strict=True))
    print(f"  validation, {name}: {listed} dB", flush=True)
    return grid[max(range(len(grid)), key=ratios.__getitem__)]


def compare(validation: Measured, data: Measured) -> None:
    """Choose each method's number on validation digits, and print a row for each on the held-out ones."""
    known, truth = validation.truth, data.truth
    weight = chosen("prior_weight", lambda w: manifold(validation, w), PRIOR_WEIGHTS, known)
    ours = manifold(data, weight)
    found = {f"manifold, prior_weight {weight:g}": ours}
    more = (ours.applications - data.starts.pool - data.starts.keep) / 2 + data.starts.pool
    for name, budget in (("as many calls", ours.calls), ("as many applications", more)):

        def latent(rate: float, budget: float = budget) -> Restored:
            return adam(validation, weight, rate, budget)

        rate = chosen(f"Adam's rate, {name}", latent, RATES, known)
        found[f"Adam, {name}, rate {rate:g}"] = adam(data, weight, rate, budget)
    tv = chosen("weight of TV", lambda w: total_variation(validation, w), TV_WEIGHTS, known)
    found[f"total variation, weight {tv:g}"] = total_variation(data, tv)
    ratios = {"mean dB": ".2f", "median": ".2f", "better": "d"}
    table = Table({"": "<40"} | ratios | {"calls": ".0f", "applications": ".0f", "s": "6.1f"})
    for name, result in found.items():
        ratio = psnr(result.x, truth)
        better = (ratio > psnr(ours.x, truth)).sum()
        table.row(name, ratio.mean(), ratio.median(), better, *result[1:])


def main(
    prior: str = "mnist",
    digits: int = 100,
    validation: int = 20,
    starts: int = 8,
    pool: int = 256,
    seed: int = 0,
) -> None:
    """Print a table for each problem.

    The prior is a name or a folder; a descent begins at each of so many starts from a pool of samples; the
    seed is that of digits, mask, noise and samples.
    """
    manifold_prior, data = load_prior(prior), load_dataset("mnist")
    known, truth = (
        part_of(data, split).sample(n, stream(seed, split))[0].to(manifold_prior.dtype)
        for split, n in (("validation", validation), ("held-out", digits))
    )
    nearest = psnr(manifold_prior.decode(locate(manifold_prior, truth)), truth)
    print(f"prior {prior}: d = {manifold_prior.dim}, {starts} starts of a pool of {pool}")
    print(f"  the point of the manifold nearest to the truth: mean {nearest.mean():.2f} dB")
    shape = manifold_prior.x_shape
    for title, operator, noise in (
        ("deblurring, 9 x 9", Blur(gaussian_kernel(9, 2.0), shape), 0.1),
        ("inpainting, half the pixels", random_mask(shape, seed=seed), 0.05),
    ):
        print(f"{title}, noise {noise:g}, {digits} held-out digits", flush=True)
        options = {"prior": manifold_prior, "starts": InitialPoints(pool, starts)}
        first, second = (
            measure(operator, noise, x, seed=s, **options)
            for x, s in ((known, seed + 1), (truth, seed))
        )
        compare(first, second)


if __name__ == "__main__":
    typer.run(main)
