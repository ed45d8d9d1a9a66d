"""Deblurring of 20 held-out bars against the maximum-likelihood angle: ``python benchmarks/bars.py``.

The blur (40 x 40 pixels, standard deviation 15 pixels) and the noise (0.1, the bar's contrast is 0.25)
leave the angle uncertain by several degrees. So results are compared with the best angle that the noise
admits, not with the true one: the minimizer of the misfit over a grid of 0.1 degrees, with the true
renderer instead of a learned manifold.
"""

from math import pi

import torch
import typer
from torch import Tensor

from onmanifold import Gaussian, load_prior, simulate, solve
from onmanifold.operators import Blur, gaussian_kernel
from onmanifold.priors.datasets import Bar, stream
from shared.tables import Table

NOISE = 0.1
DEGREES = torch.arange(0.0, 180.0, 0.1)


def bar_blur() -> Blur:
    """The operator of all benchmarks with bars."""
    return Blur(gaussian_kernel(40, 15.0), Bar().x_shape)


def blurred_bars(n: int, seed: int = 0) -> tuple[Tensor, Tensor, Blur, Tensor]:
    """Held-out bars, their angles in radians, the operator and the noisy measurements."""
    truth, angle = Bar().sample(n, stream(seed, "held-out"))
    return truth, angle, bar_blur(), simulate(bar_blur(), truth, NOISE, seed)


def maximum_likelihood(operator: Blur, y: Tensor) -> tuple[Tensor, Tensor]:
    """Angle in degrees and misfit of the best bar for each measurement, by brute force."""
    costs = []
    for part in DEGREES.split(100):
        blurred = operator.A(Bar().render(part[:, None] * pi / 180))
        costs.append((y[:, None] - blurred).flatten(2).square().sum(dim=2) / (2 * NOISE**2))
    least, index = torch.cat(costs, dim=1).min(dim=1)
    return DEGREES[index], least


def angle_of(x: Tensor) -> Tensor:
    """Angle in degrees of the rendered bar that is nearest to each image."""
    distance = [
        torch.cdist(x.flatten(1), Bar().render(part[:, None] * pi / 180).flatten(1))
        for part in DEGREES.split(100)
    ]
    return DEGREES[torch.cat(distance, dim=1).argmin(dim=1)]


def difference(one: Tensor, other: Tensor) -> Tensor:
    """Angle between bars, degrees: a bar that is turned by 180 is the same."""
    return ((one - other + 90) % 180 - 90).abs()


def main(bars: int = 20, seed: int = 0) -> None:
    """Print a row for each bar and the summary; the seed is that of bars and noise."""
    _, angle, operator, y = blurred_bars(bars, seed)
    solution = solve(operator, y, load_prior("bar"), fidelity=Gaussian(NOISE), seed=seed)
    likely, cost = maximum_likelihood(operator, y)
    found, true = angle_of(solution.x), (angle[:, 0] * 180 / pi) % 180
    off, above = difference(found, likely), solution.misfit / cost - 1
    degrees = dict.fromkeys(["truth", "likeliest", "found", "off likeliest"], "7.1f")
    table = Table({"bar": "d"} | degrees | {"misfit above": ".3%", "steps": "d", "calls": "d"})
    columns = (true, likely, found, off, above, solution.steps, solution.operator_calls)
    for number, row in enumerate(zip(*columns, strict=True)):
        table.row(number, *row)
    print(f"within 3 degrees of the likeliest angle: {int((off <= 3).sum())} of {len(y)}")
    print(f"misfit at most 0.5 % above its own: {int((above <= 0.005).sum())} of {len(y)}")
    errors = [f"{difference(each, true).median():.1f}" for each in (likely, found)]
    print(f"off the truth, median: likeliest {errors[0]}, found {errors[1]} degrees")
    print(f"all in one call: {solution.seconds:.1f} s")


if __name__ == "__main__":
    typer.run(main)
