"""What a learned manifold of outlines holds: ``python benchmarks/outlines.py [PART]``.

- ``compare``: training methods and dimensions, with as many steps each, beside linear PCA;
- ``families``: the shipped prior ``outline`` by class and family of shapes; *nearest* is the error of the
  nearest point of the manifold, *density* the median of its log-density, nats;
- ``figure``: held-out shapes, their reconstructions, and samples of the shipped prior, into ``--output``.

The error of a reconstruction D(E(x)) is the area of the symmetric difference of both shapes over the area of
the true one; a shape is where the bicubically interpolated image is positive, on 200 x 200 points.
Samples of the prior are measured by themselves: *whole* is the share that is one piece without holes, *area*
and *centre* are the medians of how far their area is from pi, relatively, and their centroid from the origin,
*distance* the root mean square of what their image is off the signed distance to their own zero level.
"""

from dataclasses import replace
from math import pi
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import torch
import typer
from scipy.ndimage import distance_transform_edt, label
from torch import Tensor
from torch.nn import functional

from onmanifold import ManifoldPrior, load_prior
from onmanifold.geometry import locate
from onmanifold.priors.autoencoder import Autoencoder, AutoencoderConfig
from onmanifold.priors.autoencoder.loss import examples_of
from onmanifold.priors.datasets import OutlineImages, pixel_grid, stream
from onmanifold.priors.datasets.base import uniform
from onmanifold.priors.datasets.outline_images import CLASSES, FAMILIES
from onmanifold.priors.datasets.polygon import turned
from onmanifold.priors.training.recipe import Recipe
from onmanifold.priors.training.run import train
from shared.options import one_of
from shared.tables import Table

FINE = 5  # points a pixel, each way
METHODS = ("pca", "ae", "vae", "nrae-l", "atlas")
ERRORS = {"median": ".4f", "90 %": ".4f"}
SAMPLES = dict.fromkeys(["whole", "area", "centre", "distance"], ".4f")


class PCA(Autoencoder):
    """The linear manifold of the first principal components: the control."""

    def __init__(self, x: Tensor, dim: int) -> None:
        shape, flat = tuple(x.shape[1:]), x.flatten(1)
        super().__init__(AutoencoderConfig(shape, dim, components=1, options={"hidden": 1}))
        mean = flat.mean(dim=0)
        axes = torch.pca_lowrank(flat, dim + 5, niter=4)[2][:, :dim]
        decoder, encoder = torch.nn.Linear(dim, len(mean)), torch.nn.Linear(len(mean), dim)
        decoder.weight.data, decoder.bias.data = axes.clone(), mean
        encoder.weight.data, encoder.bias.data = axes.T.clone(), -mean @ axes
        self.decoder = torch.nn.Sequential(decoder, torch.nn.Unflatten(1, shape))
        self.encoder = torch.nn.Sequential(torch.nn.Flatten(), encoder)
        self.requires_grad_(False).fit_latents(x, seed=0)


def recipe_for(method: str, dim: int, steps: int) -> Recipe:
    """The shipped recipe with another method, dimension and length, and networks of the same size."""
    shipped = Recipe.read("outline")
    schedule = shipped.schedule | {"length": steps, "examples": 10_000}
    recipe = replace(shipped, method=method, schedule=schedule, model=shipped.model | {"dim": dim})
    losses = {
        "ae": {},
        "vae": shipped.loss,
        "nrae-l": {"neighbours": 5, "kernel": 0.1, "drawn": 1},
    }
    if method in losses:
        return replace(recipe, loss=losses[method])
    chart = {"network": "dense", "options": shipped.model["options"]}
    noise = {"sigma_x": 0.03, "sigma_z": 0.01}
    model = {"dim": dim, "charts": 1, **noise, "flow": {"layers": 2}, "chart": chart}
    kept = {key: schedule[key] for key in ("batch_size", "learning_rate")}
    return replace(recipe, model=model, loss={}, schedule={"seeding": 0, "joint": steps, **kept})


def trained(method: str, dim: int, steps: int) -> ManifoldPrior:
    """A prior by a method, a dimension and a number of steps."""
    if method == "pca":
        return PCA(examples_of(OutlineImages(), 10_000, seed=0), dim)
    with TemporaryDirectory() as folder:
        return train(recipe_for(method, dim, steps), folder, progress=False)


def fine(x: Tensor) -> Tensor:
    """Images ``(n, 1, H, W)`` interpolated to a finer grid: ``(n, FINE H, FINE W)``."""
    return functional.interpolate(x, scale_factor=FINE, mode="bicubic")[:, 0]


def held_out(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Held-out images, where their true shapes are on the fine grid, and the numbers of their families."""
    x, coordinates = OutlineImages().sample(n, stream(0, "held-out"))
    exact, _ = OutlineImages(size=FINE * OutlineImages().size).sample(n, stream(0, "held-out"))
    return x, exact[:, 0] > 0, coordinates[:, 0].long()


@torch.no_grad()
def reconstruction(prior: ManifoldPrior, x: Tensor) -> Tensor:
    """D(E(x)) of images."""
    return prior.project(x, torch.zeros(len(x), dtype=torch.long))


def difference(x: Tensor, truth: Tensor) -> Tensor:
    """Symmetric difference of the shapes of images ``x`` and true ones, over the true area, ``(n,)``."""
    parts = zip(x.split(100), truth.split(100), strict=True)
    off = [((fine(a) > 0) ^ b).sum(dim=(1, 2)) for a, b in parts]
    return torch.cat(off) / truth.sum(dim=(1, 2))


def levels(off: Tensor) -> list[float]:
    """Median and 90 %."""
    return off.quantile(torch.tensor([0.5, 0.9])).tolist()


@torch.no_grad()
def of_samples(prior: ManifoldPrior, n: int = 300) -> list[float]:
    """The numbers of samples that the module's text names."""
    x = prior.decode(prior.sample(n, 0))
    inside, data = fine(x) > 0, OutlineImages()
    step = 2 * data.half_width / inside.shape[-1]
    grid = torch.stack(pixel_grid(inside.shape[-1], data.half_width))
    area = inside.sum(dim=(1, 2))
    centre = (inside[:, None] * grid).sum(dim=(2, 3)) / area[:, None]
    whole, off = 0, []
    for one, image in zip(inside, x[:, 0], strict=True):
        whole += label(one)[1] == 1 and label(~one)[1] == 1
        outward, inward = distance_transform_edt(~one), distance_transform_edt(one)
        signed = torch.from_numpy(inward - outward).float() * step
        exact = functional.avg_pool2d(signed[None, None], FINE)[0, 0].tanh()
        off.append((exact - image).square().mean().sqrt())
    return [
        whole / n,
        float((area * step**2 / pi - 1).abs().median()),
        float(centre.norm(dim=1).nanmedian()),
        float(torch.stack(off).median()),
    ]


def compare(methods: list[str], dimensions: list[int], steps: int) -> None:
    """Methods and dimensions."""
    x, truth, _ = held_out(500)
    table = Table({"method": "<8", "d": "d"} | ERRORS | SAMPLES)
    for method in methods:
        for dim in dimensions:
            prior = trained(method, dim, steps)
            off = difference(reconstruction(prior, x), truth)
            table.row(method, dim, *levels(off), *of_samples(prior))


def families(prior: ManifoldPrior) -> None:
    """The shipped prior, by class and family."""
    x, truth, family = held_out(4000)
    off = difference(reconstruction(prior, x), truth)
    point = locate(prior, x)
    nearest = difference(prior.decode(point), truth)
    density = prior.log_prob(point)
    of_nearest = {f"nearest: {title}": how for title, how in ERRORS.items()}
    table = Table({"shapes": "<16", "share": ".0%"} | ERRORS | of_nearest | {"density": ".1f"})

    def row(name: str, own: Tensor) -> None:
        share = float(own.float().mean())
        table.row(
            name, share, *levels(off[own]), *levels(nearest[own]), float(density[own].median())
        )

    for shapes, members in CLASSES.items():
        numbers = [list(FAMILIES).index(name) for name in members]
        row(shapes, torch.isin(family, torch.tensor(numbers)))
        for name, number in zip(members, numbers, strict=True):
            row(f"  {name}", family == number)
    row("all", family >= 0)
    print()
    Table(SAMPLES).row(*of_samples(prior))


def draw(prior: ManifoldPrior, file: Path) -> None:
    """A shape of each family but disks with its reconstruction, and samples below."""
    from matplotlib.figure import Figure

    g = stream(0, "held-out", 7)
    drawn = [OutlineImages().corners(name, 1, g) for name in list(FAMILIES)[1:]]
    angles = uniform((1,), 0.0, 2 * pi, g)
    x = torch.cat([OutlineImages().render(turned(corners, angles)) for corners in drawn])
    samples, back = prior.decode(prior.sample(len(x), 1)), reconstruction(prior, x)
    figure = Figure(figsize=(len(x), 2))
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1, wspace=0, hspace=0.05)
    grid: Any = figure.subplots(2, len(x), squeeze=False)
    extent = (-2.5, 2.5, -2.5, 2.5)
    for row, filled, lines in zip(grid, (x, samples), (back, None), strict=True):
        for i, axes in enumerate(row):
            grey = fine(filled[i : i + 1])[0].flip(0)
            axes.contourf(grey, levels=[0, 2], colors=["0.75"], extent=extent)
            if lines is not None:
                red = fine(lines[i : i + 1])[0].flip(0)
                axes.contour(red, levels=[0], colors=["tab:red"], linewidths=0.7, extent=extent)
            axes.set(aspect="equal", xlim=(-2.2, 2.2), ylim=(-2.2, 2.2))
            axes.axis("off")
    figure.savefig(file, dpi=140)


MethodName = one_of(METHODS)


def main(
    part: Annotated[Literal["compare", "families", "figure"], typer.Argument()] = "families",
    methods: list[MethodName] = tuple(MethodName),
    dimensions: Annotated[list[int], typer.Option()] = (6, 8, 10, 12),
    steps: int = 2000,
    prior: str = "outline",
    output: Path = Path("outlines.png"),
) -> None:
    """Run a part; methods, dimensions and steps of each training are those of compare."""
    if part == "compare":
        compare(methods, dimensions, steps)
    elif part == "families":
        families(load_prior(prior))
    else:
        draw(load_prior(prior), output)


if __name__ == "__main__":
    typer.run(main)
