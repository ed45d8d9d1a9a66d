"""Walk on learned manifolds, straight on and at random, across several charts.

python examples/walk.py [OUTPUT.png] [STEPS]
"""

import sys

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from onmanifold import ChartRetraction, ManifoldPrior, Point, load_dataset, load_prior
from onmanifold.geometry import (
    decode_with_jacobian,
    locate,
    pull_back,
    pullback_metric,
    push_forward,
    solve_spd,
    transition,
)

output = sys.argv[1] if len(sys.argv) > 1 else "walk.png"
steps = int(sys.argv[2]) if len(sys.argv) > 2 else 200
SETUP = {"sphere": ([[1.0, 0, 0]], [[0, 0.6, 0.8]]), "torus": ([[4.0, 0, 0]], [[0, 0.9, 0.4]])}


def tangent(prior: ManifoldPrior, point: Point, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The point's x, and the projection of h onto the tangent space: coordinates and vector."""
    x, columns = decode_with_jacobian(prior, point)
    v = solve_spd(pullback_metric(columns), pull_back(columns, h))
    return x, v, push_forward(columns, v)


def walk(prior: ManifoldPrior, x: Tensor, h: Tensor, length: float, random: bool) -> Tensor:
    """Follow h, projected onto each tangent space; at random: a new direction at every step."""
    generator, path, go = torch.Generator().manual_seed(0), [], ChartRetraction()
    point = locate(prior, x)
    for _ in range(steps):
        if random:
            h = torch.randn(x.shape, generator=generator)
        x, v, h = tangent(prior, point, h)
        step = length if random else length / h.norm()
        half = go(prior, point, 0.5 * step * v)  # the midpoint rule
        point = go(prior, point, step * tangent(prior, half, h)[1])
        point, _ = transition(prior, point, prior.decode(point))
        path.append(x)
    return torch.cat(path)


figure = plt.figure(figsize=(14, 3.8), layout="constrained")
for row, (name, (start, heading)) in enumerate(SETUP.items()):
    prior, data = load_prior(name), load_dataset(name, noise=0.0)
    cloud, _ = data.sample(3000, torch.Generator().manual_seed(0))
    for column, title in enumerate(("straight on", "at random")):
        path = walk(prior, torch.tensor(start), torch.tensor(heading), 0.1, title == "at random")
        off = data.distance(path)
        print(f"{name}, {title}: {off.mean():.3f} off the manifold, at most {off.max():.3f}")
        if (name, title) == ("sphere", "straight on"):
            off = path @ torch.linalg.cross(torch.tensor(start), torch.tensor(heading))[0]
            print(
                f"after {0.1 * steps / 6.28:.1f} rounds at most {off.abs().max():.3f} off a great circle"
            )
        ax = figure.add_subplot(1, 4, 2 * row + column + 1, projection="3d")
        ax.scatter(*cloud.T, s=1, color="0.85")
        ax.plot(*path.T, linewidth=1.2)
        ax.set_box_aspect(cloud.amax(0) - cloud.amin(0), zoom=1.4)
        ax.set_title(f"{name}, {title}")
        ax.set_axis_off()
figure.savefig(output, dpi=110)
