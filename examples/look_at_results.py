"""Look at a solution: panels, convergence, the path through the charts, an animation; store it.

python examples/look_at_results.py [OUTPUT_FOLDER] [SHADOWS]
"""

import sys
from pathlib import Path

import torch

from onmanifold import Gaussian, InitialPoints, Solution, load_dataset, load_prior, simulate, solve
from onmanifold.operators import Mask
from onmanifold.priors.datasets import stream

output = Path(sys.argv[1] if len(sys.argv) > 1 else "results")
count = int(sys.argv[2]) if len(sys.argv) > 2 else 2
output.mkdir(parents=True, exist_ok=True)

# shadows of a rod, of which four fifths of the pixels are missing: one chart of dimension three
prior = load_prior("sundial")
truth, _ = load_dataset("sundial").sample(count, stream(0, "held-out"))
seen = torch.rand(32, 32, generator=torch.Generator().manual_seed(0)) < 0.2
operator = Mask(seen, prior.x_shape)
y = simulate(operator, truth, std=0.2, generator=0)
options = {"fidelity": Gaussian(0.2), "starts": InitialPoints(pool=3, keep=3), "trajectory": True}
solution = solve(operator, y, prior, **options)
print(solution.summary())
longest = int(solution.steps.argmax())
solution.plot(truth).savefig(output / "panels.png", dpi=80)
solution.animate(output / "descent.gif", longest, fps=2)
solution.plot_path(longest, axes=(0, 2)).savefig(output / "path.png", dpi=80)

# everything but the problem is read back
solution.save(output / "solution")
again = Solution.load(output / "solution")
print(f"read back, equal to the last bit: {torch.equal(again.trajectory, solution.trajectory)}")

# points of a torus, of which one coordinate is not measured: six charts of dimension two
y = torch.tensor([[0.0, 3.0], [-3.5, 1.0], [2.0, -1.8]])
options["fidelity"] = Gaussian(0.1)
points = solve(lambda x: x[:, :2], y, load_prior("torus"), **options)
print(f"charts of the first descent on the torus: {points.history.chart[:, 0].unique().tolist()}")
points.plot(rows=2).savefig(output / "points.png", dpi=80)
points.plot_convergence().savefig(output / "convergence.png", dpi=80)
points.plot_path(0).savefig(output / "charts.png", dpi=80)
