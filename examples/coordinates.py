"""Show that Riemannian descent does not depend on the parametrization of a chart.

python examples/coordinates.py [OUTPUT_FOLDER]

The upper half of a sphere in two parametrizations: by stereographic projection, and the same warped.
Riemannian gradient descent takes the same path with both; descent in the latent coordinates does not.
"""

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from onmanifold import (
    Latent,
    ManifoldPrior,
    MaxSteps,
    Point,
    ProjectionRetraction,
    RiemannianGradientDescent,
    SmallDecrease,
    solve,
)
from onmanifold.geometry import locate


class HalfSphere(ManifoldPrior):
    """The points of a sphere in space above a plane, by stereographic projection."""

    x_shape, dim = (3,), 2

    def decode_chart(self, z: Tensor, chart: int) -> Tensor:
        square = z.square().sum(1, keepdim=True)
        return torch.cat([2 * z, 1 - square], dim=1) / (1 + square)

    def encode_chart(self, x: Tensor, chart: int) -> Tensor:
        x = x / x.norm(dim=1, keepdim=True)
        return x[:, :2] / (1 + x[:, 2:])

    def log_prob_chart(self, z: Tensor, chart: int) -> Tensor:
        return torch.zeros_like(z[:, 0])

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Point:
        grid = torch.linspace(-0.9, 0.9, n, dtype=self.dtype)
        return Point(torch.zeros(n, dtype=torch.long), torch.stack([grid, -grid], dim=1))


class Warped(HalfSphere):
    """The same points, other coordinates: z = (sinh 2u, 0.3 v + u^2)."""

    def decode_chart(self, w: Tensor, chart: int) -> Tensor:
        z = torch.stack([torch.sinh(2 * w[:, 0]), 0.3 * w[:, 1] + w[:, 0].square()], dim=1)
        return super().decode_chart(z, chart)

    def encode_chart(self, x: Tensor, chart: int) -> Tensor:
        z = super().encode_chart(x, chart)
        u = torch.asinh(z[:, 0]) / 2
        return torch.stack([u, (z[:, 1] - u.square()) / 0.3], dim=1)


output = Path(sys.argv[1] if len(sys.argv) > 1 else "coordinates")
starts = torch.nn.functional.normalize(
    torch.tensor([[-0.8, -0.3, 0.2], [0.8, -0.6, 0.3], [-0.2, 0.9, 0.2]]), dim=1
)
stretch = torch.tensor([1.0, 3.0, 1.0])
target = torch.tensor([[0.5, 0.3, 0.8]]) * stretch
methods = {
    "Riemannian gradient descent": RiemannianGradientDescent(),
    "gradient descent in latent coordinates": Latent(RiemannianGradientDescent()),
}
figure = Figure(figsize=(9, 4.6), layout="constrained")
for axes, (title, method) in zip(figure.subplots(1, 2), methods.items(), strict=True):
    paths = []
    for prior, style in ((HalfSphere(), "-"), (Warped(), "--")):
        solution = solve(
            lambda x: stretch * x,
            target.expand(len(starts), -1),
            prior,
            method=method,
            retraction=ProjectionRetraction(),
            starts=locate(prior, starts),
            stop=MaxSteps(60) | SmallDecrease(1e-6),
            trajectory=True,
        )
        paths.append(solution.trajectory)
        for path in solution.trajectory.unbind(1):
            width = 3 if style == "-" else 1.3
            axes.plot(path[:, 0], path[:, 1], style, color=("C0", "C1")[style == "--"], lw=width)
            axes.plot(*path[0, :2], "ko", ms=5)
        print(f"{title}, {type(prior).__name__}: steps {solution.steps.tolist()}")
    shared = min(map(len, paths))
    apart = (paths[0][:shared] - paths[1][:shared]).norm(dim=2).max()
    print(f"    farthest apart {apart:.1g}")
    around = torch.linspace(0, 2 * torch.pi, 200)
    axes.plot(around.cos(), around.sin(), color="0.8", lw=1)
    axes.set(title=title, aspect="equal", xlabel="x", ylabel="y")
    axes.plot([], [], "C0-", lw=3, label="stereographic")
    axes.plot([], [], "C1--", label="warped")
    axes.legend(loc="lower right")
output.mkdir(parents=True, exist_ok=True)
figure.savefig(output / "coordinates.png", dpi=100)
