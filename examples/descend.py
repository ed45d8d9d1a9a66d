"""Descend to the points nearest to a target on each learned manifold, and draw the paths.

python examples/descend.py [OUTPUT.png] [STARTS]
"""

import sys

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from onmanifold import RiemannianGradientDescent, load_dataset, load_prior, prior_names, solve
from onmanifold.geometry import locate

output = sys.argv[1] if len(sys.argv) > 1 else "descend.png"
count = int(sys.argv[2]) if len(sys.argv) > 2 else 10  # initial points, where they are random
TARGETS = {
    "ring": [-1.0, 0],
    "two-circles": [0.0, 0],
    "sphere": [0.0, 0, -2],
    "torus": [-5.0, 0, 0],
}


def initial_points(name: str, cloud: Tensor) -> Tensor:
    """The initial points of the paper."""
    if name == "ring":
        return torch.tensor([[1.0, 0.4], [1.0, -0.4]])
    if name == "two-circles":
        return torch.tensor([[-2.2, 0.714], [-2.2, -0.714], [2.2, 0.714], [2.2, -0.714]])
    near_the_pole = cloud[:, 2] > 0.9
    return cloud[near_the_pole if name == "sphere" else slice(None)][:count]


names = [name for name in TARGETS if name in prior_names()]
figure = plt.figure(figsize=(4 * len(names), 4), layout="constrained")
share = torch.linspace(0, 1, 20).unsqueeze(1)
for column, name in enumerate(names, start=1):
    prior, data = load_prior(name), load_dataset(name, noise=0.0)
    cloud, _ = data.sample(3000, torch.Generator().manual_seed(0))
    target, start = torch.tensor([TARGETS[name]]), initial_points(name, cloud)
    y, point = target.expand(len(start), -1), locate(prior, start)
    method = RiemannianGradientDescent()
    solution = solve(lambda x: x, y, prior, method=method, starts=point, trajectory=True)
    left = (solution.x - target).norm(dim=1).max()
    print(f"{name}: at most {left:.2f} from the target, after at most {solution.steps.max()} steps")

    drawn = torch.cat([cloud, target])
    flat = drawn.shape[1] == 2
    ax = figure.add_subplot(1, len(names), column, projection=None if flat else "3d")
    ax.scatter(*cloud.T, s=1, color="0.85")
    for i, path in enumerate(solution.trajectory.unbind(1)):
        ax.plot(*path.T, ".", color=f"C{i}", markersize=4)
        for t, chart in enumerate(solution.history.chart[:-1, i].tolist()):  # steps, in their chart
            a, b = prior.encode_chart(path[t : t + 2], chart).clamp(-1, 1)
            ax.plot(*prior.decode_chart(a + share * (b - a), chart).T, color=f"C{i}", linewidth=1)
    ax.plot(*solution.x.T, "k*", markersize=9, label="final points")
    ax.plot(*target.T, "rx", label="target")
    ax.set_title(name)
    ax.set_axis_off()
    if flat:
        ax.set_aspect("equal")
    else:
        ax.set_box_aspect(drawn.amax(0) - drawn.amin(0), zoom=1.3)
figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
figure.savefig(output, dpi=110)
