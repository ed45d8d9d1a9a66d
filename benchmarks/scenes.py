"""How well scenes of learned outlines hold what was never learned: ``python benchmarks/scenes.py``.

Pictures of held-out outlines, placed as the arrangement has it: how near the manifold comes to them, and how
often the number of objects is read off rightly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from onmanifold import load_prior
from onmanifold.prior import Point
from onmanifold.priors.manifolds import Outline, stream
from onmanifold.priors.scene import Scene
from onmanifold.priors.scene.placement import Placement

KINDS = 2


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
        outline = Outline().sample(count, source)[0].to(z).squeeze(1)
        masks = place(outline, blocks[:, :2], scene.arrangement.size(blocks[:, 2]))
        kinds = [k for k, c in enumerate(scene.counts[chart]) for _ in range(c)]
        for kind, mask in zip(kinds, masks, strict=True):
            pictures[i, kind] = 1 - (1 - pictures[i, kind]) * (1 - mask)
    return point, pictures


def measure(scene: Scene, n: int = 200) -> dict[str, float]:
    """Distance of held-out scenes to the manifold over their norm; share that is counted rightly."""
    point, x = held_out(scene, n)
    found = scene.locate(x)
    with torch.no_grad():
        miss = (scene.decode(found.z, found.chart) - x).flatten(1).norm(dim=1)
    relative = miss / x.flatten(1).norm(dim=1)
    return {
        "held_out_examples": len(x),
        "relative_error": round(float(relative.median()), 4),
        "relative_error_95": round(float(relative.quantile(0.95)), 4),
        "counted": round(float((found.chart == point.chart).double().mean()), 3),
    }


def main() -> None:
    """Measure and print."""
    metrics = measure(Scene(load_prior("outline"), KINDS))
    print("\n".join(f"{name:18s} {value:g}" for name, value in metrics.items()))


if __name__ == "__main__":
    main()
