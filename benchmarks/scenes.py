"""The prior of scenes that ships: ``python benchmarks/scenes.py [--write]``.

It is ``Scene(load_prior("outline"), kinds=2)``; nothing else in it is trained. Measured here on pictures of
held-out outlines, placed as the arrangement has it: how near the manifold comes to them, and how often the
number of objects is read off rightly; on its own pictures, how often they are located again. ``--write``
makes the folder that ships, these figures in its card.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from onmanifold import load_prior
from onmanifold.geometry import locate
from onmanifold.pretrained import save_prior
from onmanifold.prior import Point
from onmanifold.priors.datasets import OutlineImages, stream
from onmanifold.priors.scene import Scene
from onmanifold.priors.scene.placement import Placement
from onmanifold.priors.scene.regrouping import relative_residual

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
def held_out(scene: Scene, n: int, seed: int = 0) -> tuple[Point, Tensor]:
    """Pictures ``(n, kinds, size, size)`` of outlines that training never saw, and the objects' places."""
    source = stream(seed, "held-out")
    point = scene.sample(n, source)
    point = point.select((point.chart > 0).nonzero().squeeze(1))
    place = Placement(scene.outlines.x_shape[-1], scene.size, scene.edge)
    pictures = torch.zeros(len(point), *scene.x_shape)
    for i, (chart, z) in enumerate(zip(point.chart.tolist(), point.z, strict=True)):
        count = sum(scene.counts[chart])
        blocks = z[: count * scene.block].view(count, scene.block)
        outline = OutlineImages().sample(count, source)[0].to(z).squeeze(1)
        masks = place(outline, blocks[:, :2], scene.arrangement.size(blocks[:, 2]))
        kinds = [k for k, c in enumerate(scene.counts[chart]) for _ in range(c)]
        for kind, mask in zip(kinds, masks, strict=True):
            pictures[i, kind] = 1 - (1 - pictures[i, kind]) * (1 - mask)
    return point, pictures


@torch.no_grad()
def measure(scene: Scene, n: int = 200) -> dict[str, float]:
    """Distance of held-out scenes to the manifold over their norm; share that is counted rightly."""
    point, x = held_out(scene, n)
    found = locate(scene, x)
    relative = relative_residual(scene, found, x)
    return {
        "held_out_examples": len(x),
        "relative_error": round(float(relative.median()), 4),
        "relative_error_95": round(float(relative.quantile(0.95)), 4),
        "counted": round(float((found.chart == point.chart).double().mean()), 3),
        "located": located(scene, n),
    }


@torch.no_grad()
def located(scene: Scene, n: int, seed: int = 1) -> float:
    """Share of the scene's own pictures that ``locate`` finds again, to 1e-3 in every pixel."""
    point = scene.sample(n, seed)
    x = scene.decode(point)
    found = locate(scene, x)
    off = (scene.decode(found) - x).abs().flatten(1).amax(1)
    return round(float((off < 1e-3).double().mean()), 3)


def main() -> None:
    """Measure, and write where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="make the folder that ships")
    arguments = parser.parse_args()
    scene = Scene(load_prior("outline"), KINDS)
    metrics = measure(scene)
    print("\n".join(f"{name:18s} {value:g}" for name, value in metrics.items()))
    if arguments.write:
        save_prior(scene, FOLDER, CARD | {"metrics": metrics}, half=True)
        print(f"wrote {FOLDER}")


if __name__ == "__main__":
    main()
