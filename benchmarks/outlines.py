"""What a learned manifold of outlines holds: ``python benchmarks/outlines.py [PART]``.

- ``compare``: training methods and dimensions, with as many steps each, beside linear PCA;
- ``families``: the shipped prior ``outline`` by family of shapes;
- ``picture``: held-out shapes, their reconstructions, and samples of the shipped prior, into ``--output``.

The error of a reconstruction D(E(x)) is the area of the symmetric difference of both shapes over the area of
the true one; a shape is where the bicubically interpolated picture is positive, on 200 x 200 points.
Samples of the prior are measured by themselves: *whole* is the share that is one piece without holes, *area*
and *centre* are the medians of how far their area is from pi, relatively, and their centroid from the origin,
*distance* the root mean square of what their picture is off the signed distance to their own zero level.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from math import pi
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import torch
from scipy.ndimage import distance_transform_edt, label
from torch import Tensor
from torch.nn import functional

from onmanifold import ManifoldPrior, load_prior
from onmanifold.geometry import locate
from onmanifold.priors.autoencoder import Autoencoder, AutoencoderConfig
from onmanifold.priors.autoencoder.loss import examples_of
from onmanifold.priors.datasets import OutlineImages, pixel_grid, stream
from onmanifold.priors.datasets.base import uniform
from onmanifold.priors.datasets.outline_images import FAMILIES
from onmanifold.priors.datasets.polygon import turned
from onmanifold.priors.training.recipe import Recipe
from onmanifold.priors.training.run import train

FINE = 5  # points a pixel, each way
METHODS = ("pca", "ae", "vae", "nrae-l", "atlas")
DIMENSIONS = (6, 8, 10, 12)
HEAD = ("median", "90 %", "whole", "area", "centre", "distance")


class PCA(Autoencoder):
    """The linear manifold of the first principal components: the control."""

    def __init__(self, x: Tensor, dim: int) -> None:
        super().__init__(
            AutoencoderConfig(tuple(x.shape[1:]), dim, components=1, options={"hidden": 1})
        )
        flat = x.flatten(1)
        mean = flat.mean(dim=0)
        _, _, axes = torch.pca_lowrank(flat, dim + 5, niter=4)
        self.decoder = torch.nn.Linear(dim, len(mean))
        self.encoder = torch.nn.Linear(len(mean), dim)
        self.decoder.weight.data, self.decoder.bias.data = axes[:, :dim].clone(), mean
        self.encoder.weight.data, self.encoder.bias.data = (
            axes[:, :dim].T.clone(),
            -mean @ axes[:, :dim],
        )
        self.decoder = torch.nn.Sequential(self.decoder, torch.nn.Unflatten(1, x.shape[1:]))
        self.encoder = torch.nn.Sequential(torch.nn.Flatten(), self.encoder)
        self.requires_grad_(False).fit_latents(x, seed=0)


def recipe_for(method: str, dim: int, steps: int) -> Recipe:
    """The shipped recipe with another method, dimension and length, and networks of the same size."""
    shipped = Recipe.read("outline")
    schedule = shipped.schedule | {"length": steps, "examples": 10_000}
    recipe = replace(shipped, method=method, schedule=schedule, model=shipped.model | {"dim": dim})
    if method == "vae":
        return recipe
    if method == "nrae-l":
        return replace(recipe, loss={"neighbours": 5, "kernel": 0.1, "drawn": 1})
    if method == "ae":
        return replace(recipe, loss={})
    chart = {"network": "dense", "options": shipped.model["options"]}
    model = {
        "dim": dim,
        "charts": 1,
        "sigma_x": 0.03,
        "sigma_z": 0.01,
        "flow": {"layers": 2},
        "chart": chart,
    }
    kept = {key: schedule[key] for key in ("batch_size", "learning_rate")}
    return replace(recipe, model=model, loss={}, schedule={"seeding": 0, "joint": steps, **kept})


def trained(method: str, dim: int, steps: int) -> ManifoldPrior:
    """A prior by a method, a dimension and a number of steps."""
    if method == "pca":
        return PCA(examples_of(OutlineImages(), 10_000, seed=0), dim)
    with TemporaryDirectory() as folder:
        return train(recipe_for(method, dim, steps), folder, progress=False)


def fine(x: Tensor) -> Tensor:
    """Where pictures ``(n, 1, H, W)`` are positive, on a finer grid: ``(n, FINE H, FINE W)``."""
    inside: Tensor = functional.interpolate(x, scale_factor=FINE, mode="bicubic")[:, 0] > 0
    return inside


def held_out(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Held-out pictures, where their true shapes are on the fine grid, and the numbers of their families."""
    x, coordinates = OutlineImages().sample(n, stream(0, "held-out"))
    exact, _ = OutlineImages(size=FINE * OutlineImages().size).sample(n, stream(0, "held-out"))
    return x, exact[:, 0] > 0, coordinates[:, 0].long()


@torch.no_grad()
def reconstruction(prior: ManifoldPrior, x: Tensor) -> Tensor:
    """D(E(x)) of pictures."""
    return prior.project(x, torch.zeros(len(x), dtype=torch.long))


def difference(x: Tensor, truth: Tensor) -> Tensor:
    """Symmetric difference of the shapes of pictures ``x`` and true ones, over the true area, ``(n,)``."""
    off = [
        (fine(a) ^ b).sum(dim=(1, 2)) for a, b in zip(x.split(100), truth.split(100), strict=True)
    ]
    return torch.cat(off) / truth.sum(dim=(1, 2))


def whole(inside: Tensor) -> bool:
    """Whether a shape is in one piece and has no holes."""
    return bool(label(inside)[1] == 1 and label(~inside)[1] == 1)


@torch.no_grad()
def of_samples(prior: ManifoldPrior, n: int = 300) -> list[float]:
    """What the module's text says of samples."""
    point = prior.sample(n, 0)
    x = prior.decode(point)
    inside, data = fine(x), OutlineImages()
    step = 2 * data.half_width / inside.shape[-1]
    grid = torch.stack(pixel_grid(inside.shape[-1], data.half_width))
    area = inside.sum(dim=(1, 2))
    centre = (inside[:, None] * grid).sum(dim=(2, 3)) / area[:, None]
    off = []
    for one, picture in zip(inside, x[:, 0], strict=True):
        outward, inward = distance_transform_edt(~one), distance_transform_edt(one)
        signed = torch.from_numpy(inward - outward).float() * step
        exact = functional.avg_pool2d(signed[None, None], FINE)[0, 0].tanh()
        off.append((exact - picture).square().mean().sqrt())
    return [
        sum(whole(one) for one in inside) / n,
        float((area * step**2 / pi - 1).abs().median()),
        float(centre.norm(dim=1).nanmedian()),
        float(torch.stack(off).median()),
    ]


def row(*cells: object) -> None:
    """Print a line of a table."""
    told = (f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in cells)
    print("| " + " | ".join(told) + " |", flush=True)


def levels(off: Tensor) -> list[float]:
    """Median and 90 %."""
    return off.quantile(torch.tensor([0.5, 0.9])).tolist()


def compare(arguments: argparse.Namespace) -> None:
    """Methods and dimensions."""
    x, truth, _ = held_out(500)
    row("method", "d", *HEAD)
    for method in arguments.methods:
        for dim in arguments.dimensions:
            prior = trained(method, dim, arguments.steps)
            row(
                method,
                dim,
                *levels(difference(reconstruction(prior, x), truth)),
                *of_samples(prior),
            )


def families(arguments: argparse.Namespace) -> None:
    """The shipped prior, by family; ``nearest`` is the error of the nearest point of the manifold."""
    prior = load_prior(arguments.prior)
    x, truth, family = held_out(2000)
    off = difference(reconstruction(prior, x), truth)
    point = locate(prior, x)
    nearest = difference(prior.decode(point), truth)
    row("family", "share", "median", "90 %", "nearest: median", "90 %")
    for number, name in enumerate(FAMILIES):
        mine = family == number
        row(name, f"{FAMILIES[name][0]:.0%}", *levels(off[mine]), *levels(nearest[mine]))
    row("all", "", *levels(off), *levels(nearest))
    print()
    row(*HEAD[2:])
    row(*of_samples(prior))


def picture(arguments: argparse.Namespace) -> None:
    """A shape of each family but disks with its reconstruction, and samples below."""
    prior, g = load_prior(arguments.prior), stream(0, "held-out", 7)
    drawn = [OutlineImages().corners(name, 1, g) for name in list(FAMILIES)[1:]]
    angles = uniform((1,), 0.0, 2 * pi, g)
    x = torch.cat([OutlineImages().render(turned(corners, angles)) for corners in drawn])
    point = prior.sample(len(x), 1)
    shown = prior.decode(point)
    back = reconstruction(prior, x)
    _, axes = plt.subplots(2, len(x), figsize=(len(x), 2), squeeze=False)
    for i in range(len(x)):
        _draw(axes[0, i], x[i], back[i])
        _draw(axes[1, i], shown[i], None)
    plt.subplots_adjust(left=0, right=1, bottom=0, top=1, wspace=0, hspace=0.05)
    plt.savefig(arguments.output, dpi=140)


def _draw(axes: plt.Axes, filled: Tensor, line: Tensor | None) -> None:
    """A shape ``(1, H, W)`` in grey, another's outline in red."""
    extent = (-2.5, 2.5, -2.5, 2.5)
    axes.contourf(_smooth(filled), levels=[0, 2], colors=["0.75"], extent=extent)
    if line is not None:
        axes.contour(_smooth(line), levels=[0], colors=["tab:red"], linewidths=0.7, extent=extent)
    axes.set(aspect="equal", xlim=(-2.2, 2.2), ylim=(-2.2, 2.2))
    axes.axis("off")


def _smooth(x: Tensor) -> Tensor:
    """A picture ``(1, H, W)`` interpolated, from the bottom up."""
    return functional.interpolate(x[None], scale_factor=FINE, mode="bicubic")[0, 0].flip(0)


def main() -> None:
    """Read the command line and run a part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "part", nargs="?", default="families", choices=["compare", "families", "picture"]
    )
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--dimensions", nargs="+", default=DIMENSIONS, type=int)
    parser.add_argument("--steps", type=int, default=2000, help="of each training of compare")
    parser.add_argument("--prior", default="outline", help="name or folder")
    parser.add_argument("--output", type=Path, default=Path("outlines.png"))
    arguments = parser.parse_args()
    {"compare": compare, "families": families, "picture": picture}[arguments.part](arguments)


if __name__ == "__main__":
    main()
