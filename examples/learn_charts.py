"""Learn the charts of two circles, and draw the result of each phase of the training.

python examples/learn_charts.py [OUTPUT.png] [STEPS]
"""

import sys
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import torch

from onmanifold.priors import Recipe, train
from onmanifold.priors.datasets import TwoCircles, stream
from onmanifold.priors.training.evaluation import held_out_metrics

output = sys.argv[1] if len(sys.argv) > 1 else "learn-charts.png"
steps = int(sys.argv[2]) if len(sys.argv) > 2 else 400  # of each phase
PHASES = {"seeding": (steps, 0, 0), "joint": (steps, steps, 0), "overlap": (steps, steps, steps)}


def recipe(seeding: int, joint: int, overlap: int) -> Recipe:
    """Four charts of dimension one, each with four pairs of small dense networks."""
    return Recipe(
        name="two-circles",
        card={},
        data={"name": "two-circles"},
        model={
            "dim": 1,
            "charts": 4,
            "sigma_x": 0.01,
            "flow": {"layers": 1},
            "chart": {"network": "dense", "couplings": 4, "options": {"hidden": 64}},
        },
        schedule={
            "seeding": seeding,
            "joint": joint,
            "overlap": overlap,
            "batch_size": 256,
            "learning_rate": 2e-3,
            "lipschitz": 1e-4,
        },
        threads=1,
        seed=1,  # of seeds 0 to 7, all but 0 seed two charts on each circle
    )


data = TwoCircles()
x, _ = data.sample(400, stream(0, "held-out"))
z = torch.linspace(-0.9, 0.9, 200).unsqueeze(1)  # nearly all of each chart's box
figure, axes = plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained")
for ax, (phase, schedule) in zip(axes, PHASES.items(), strict=True):
    with TemporaryDirectory() as checkpoints:
        atlas = train(recipe(*schedule), checkpoints, progress=False)
    error = held_out_metrics(atlas, data)["relative_error_95"]
    print(f"after {phase}: 95 % of held-out points within {error:.2%} of their norm")
    ax.plot(*x.T, ".", color="0.8", markersize=3)
    for k in range(atlas.num_charts):  # drawn ever smaller, so that overlaps show
        curve = atlas.decode_chart(z, k)
        ax.plot(*curve.T, linewidth=9 - 2 * k, alpha=0.7, label=f"chart {k}")
    ax.set(title=f"after {phase}", aspect="equal", xlim=(-3, 3), ylim=(-1.4, 1.4))
figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4)
figure.savefig(output, dpi=110)
