"""Deblurring of 20 held-out bars against the maximum-likelihood angle: ``python benchmarks/bars.py``.

The blur (40 x 40 pixels, standard deviation 15 pixels) and the noise (0.1, the bar's contrast is 0.25)
leave the angle uncertain by several degrees. So the yardstick is not the true angle but the best one that
the noise admits: the minimizer of the misfit over a grid of 0.1 degrees, with the true renderer instead of
a learned manifold.
"""

from __future__ import annotations

import argparse
from math import pi

import torch
from torch import Tensor

from onmanifold import Gaussian, load_prior, simulate, solve
from onmanifold.operators import Blur, gaussian_kernel
from onmanifold.priors.datasets import Bar, stream

NOISE = 0.1


def maximum_likelihood(operator: Blur, y: Tensor, step: float = 0.1) -> tuple[Tensor, Tensor]:
    """Angle in degrees and misfit of the best bar for each measurement, by brute force."""
    degrees = torch.arange(0.0, 180.0, step)
    best = torch.full((len(y),), torch.inf)
    angle = torch.zeros(len(y))
    for part in degrees.split(100):
        blurred = operator.A(Bar().render(part[:, None] * pi / 180))
        cost = (y[:, None] - blurred).flatten(2).square().sum(dim=2) / (2 * NOISE**2)
        value, index = cost.min(dim=1)
        angle = torch.where(value < best, part[index], angle)
        best = torch.minimum(best, value)
    return angle, best


def angle_of(x: Tensor, step: float = 0.1) -> Tensor:
    """Angle in degrees of the rendered bar that is nearest to each picture."""
    degrees = torch.arange(0.0, 180.0, step)
    distance = torch.cat(
        [
            torch.cdist(x.flatten(1), Bar().render(part[:, None] * pi / 180).flatten(1))
            for part in degrees.split(100)
        ],
        dim=1,
    )
    return degrees[distance.argmin(dim=1)]


def difference(one: Tensor, other: Tensor) -> Tensor:
    """Angle between bars, degrees: a bar that is turned by 180 is the same."""
    return ((one - other + 90) % 180 - 90).abs()


def main() -> None:
    """Print a row for each bar and the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bars", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of bars and noise")
    arguments = parser.parse_args()
    truth, angle = Bar().sample(arguments.bars, stream(arguments.seed, "held-out"))
    operator = Blur(gaussian_kernel(40, 15.0), (1, 128, 128))
    y = simulate(operator, truth, NOISE, arguments.seed)
    prior = load_prior("bar")
    solution = solve(operator, y, prior, fidelity=Gaussian(NOISE), seed=arguments.seed)
    likely, cost = maximum_likelihood(operator, y)
    found = angle_of(solution.x)
    off, above = difference(found, likely), solution.misfit / cost - 1
    true = (angle[:, 0] * 180 / pi) % 180
    print("  bar   truth  likeliest   found  off likeliest  misfit above   steps  calls")
    for b in range(len(y)):
        print(
            f"{b:5d} {true[b]:7.1f} {likely[b]:10.1f} {found[b]:7.1f} {off[b]:14.1f} {above[b]:12.3%} "
            f"{solution.steps[b]:7d} {solution.operator_calls[b]:6d}"
        )
    print(f"within 3 degrees of the likeliest angle: {int((off <= 3).sum())} of {len(y)}")
    print(f"misfit at most 0.5 % above its own: {int((above <= 0.005).sum())} of {len(y)}")
    print(
        f"off the truth, median: likeliest {difference(likely, true).median():.1f}, "
        f"found {difference(found, true).median():.1f} degrees"
    )
    print(f"all in one call: {solution.seconds:.1f} s")


if __name__ == "__main__":
    main()
