"""Draw samples of the pretrained atlases, coloured by chart, below the data that they learned.

python examples/sample_atlas.py [OUTPUT.png] [POINTS]
"""

import sys

import matplotlib.pyplot as plt

from onmanifold import load_dataset, load_prior, prior_names
from onmanifold.priors.datasets import stream

output = sys.argv[1] if len(sys.argv) > 1 else "samples.png"
points = int(sys.argv[2]) if len(sys.argv) > 2 else 2500
DATASETS = ("two-circles", "ring", "sphere", "torus", "swiss-roll")
names = [name for name in DATASETS if name in prior_names()]

figure = plt.figure(figsize=(3 * len(names), 6), layout="constrained")
for column, name in enumerate(names, start=1):
    data, prior = load_dataset(name), load_prior(name)
    x, _ = data.sample(points, stream(0, "held-out"))
    point = prior.sample(points, 0)
    samples = prior.decode(point)
    near = (data.distance(samples) < 3 * data.noise + 0.04).float().mean()
    print(f"{name}: {prior.num_charts} charts, {near:.1%} of the samples near the true manifold")
    rows = {"data": (x, "0.4"), f"{prior.num_charts} charts": (samples, point.chart)}
    for row, (title, (values, colour)) in enumerate(rows.items()):
        flat = values.shape[1] == 2
        place = (2, len(names), row * len(names) + column)
        ax = figure.add_subplot(*place, projection=None if flat else "3d")
        style = {"s": 3, "c": colour, "alpha": 1.0 if flat else 0.6}
        if row == 1:
            style |= {"cmap": "tab10", "vmin": 0, "vmax": 10}
        ax.scatter(*values.T, linewidths=0, **style)
        ax.set_title(f"{name}: {title}")
        if flat:
            ax.set_aspect("equal")
        else:
            ax.set_box_aspect(x.amax(0) - x.amin(0), zoom=1.3)
        ax.set_axis_off()
figure.savefig(output, dpi=110)
