"""The prior of scenes that ships: ``python benchmarks/scenes.py [--write]``.

It is ``Scene(load_prior("outline"), kinds=2)``; nothing else in it is trained. Measured here on images of
held-out outlines at random places: their distance to the manifold, and how often the number of objects is
right; on its own images, how often they are located again. ``--write`` makes the folder that ships, these
figures in its card.
"""

from pathlib import Path

import torch
import typer
from torch import Tensor

from onmanifold import load_prior
from onmanifold.geometry import locate
from onmanifold.pretrained import save_prior
from onmanifold.prior import Point
from onmanifold.priors.datasets import OutlineImages, stream
from onmanifold.priors.scene import Scene
from onmanifold.priors.scene.placement import Placement
from onmanifold.priors.scene.recognition import relative_residual

FOLDER = Path(__file__).resolve().parents[1] / "priors" / "pretrained" / "scene"
KINDS = 2
CARD = {
    "name": "scene",
    "description": "Up to five separate objects of two kinds in a disk, soft masks on 96 x 96 pixels",
    "value_range": "0 to 1",
    "unit": "1",
    "licence": "MIT",
    "training_data": "none of its own; outlines as in the prior 'outline'",
    "recipe": {"outlines": "outline", "kinds": KINDS, "script": "benchmarks/scenes.py"},
}


@torch.no_grad()
def held_out(scene: Scene, n: int) -> tuple[Point, Tensor]:
    """Images ``(n, kinds, size, size)`` of outlines that training never saw, and the objects' places."""
    source = stream(0, "held-out")
    point = scene.sample(n, source)
    point = point.select((point.chart > 0).nonzero().squeeze(1))
    place = Placement(scene.outlines.x_shape[-1], scene.size, scene.edge)
    images = torch.zeros(len(point), *scene.x_shape)
    for image, chart, z in zip(images, point.chart.tolist(), point.z, strict=True):
        count = sum(scene.counts[chart])
        blocks = z[: count * scene.block].view(count, scene.block)
        outline = OutlineImages().sample(count, source)[0].to(z).squeeze(1)
        masks = place(outline, blocks[:, :2], scene.arrangement.size(blocks[:, 2]))
        kinds = [k for k, c in enumerate(scene.counts[chart]) for _ in range(c)]
        for kind, mask in zip(kinds, masks, strict=True):
            image[kind] = 1 - (1 - image[kind]) * (1 - mask)
    return point, images


@torch.no_grad()
def measure(scene: Scene, n: int = 200) -> dict[str, float]:
    """The figures of the card.

    Distance of held-out scenes to the manifold over their norm; share with the right numbers of objects;
    share of the scene's own images that ``locate`` finds again, to 1e-3 in every pixel.
    """
    point, x = held_out(scene, n)
    found = locate(scene, x)
    relative = relative_residual(scene, found, x)
    own = scene.decode(scene.sample(n, 1))
    off = (scene.decode(locate(scene, own)) - own).abs().flatten(1).amax(1)
    return {
        "held_out_examples": len(x),
        "relative_error": round(float(relative.median()), 4),
        "relative_error_95": round(float(relative.quantile(0.95)), 4),
        "counted": round(float((found.chart == point.chart).double().mean()), 3),
        "located": round(float((off < 1e-3).double().mean()), 3),
    }


def main(write: bool = False) -> None:
    """Measure, and write the folder where that is asked for."""
    scene = Scene(load_prior("outline"), KINDS)
    metrics = measure(scene)
    print("\n".join(f"{name:18s} {value:g}" for name, value in metrics.items()))
    if write:
        save_prior(scene, FOLDER, CARD | {"metrics": metrics}, half=True)
        print(f"wrote {FOLDER}")


if __name__ == "__main__":
    typer.run(main)
