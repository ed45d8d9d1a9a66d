"""Look at a solution: panels, convergence, the path through the charts, a film; keep it on disk.

python examples/look_at_results.py [OUTPUT_FOLDER] [BARS]
"""

import sys
from pathlib import Path

import torch

from onmanifold import Gaussian, Solution, Starts, load_manifold, load_prior, simulate, solve
from onmanifold.operators import Blur, gaussian_kernel
from onmanifold.priors.manifolds import stream

output = Path(sys.argv[1] if len(sys.argv) > 1 else "results")
count = int(sys.argv[2]) if len(sys.argv) > 2 else 3
output.mkdir(parents=True, exist_ok=True)

# pictures, blurred: a manifold of dimension one in two charts
prior = load_prior("bar")
operator = Blur(gaussian_kernel(40, std=15.0), prior.x_shape)
truth, _ = load_manifold("bar").sample(count, stream(0, "held-out"))
y = simulate(operator, truth, std=0.1, generator=0)
few = Starts(pool=4, keep=2)  # so few that the descents have a way to go
solution = solve(operator, y, prior, fidelity=Gaussian(0.1), starts=few, trajectory=True)
print(solution.summary())
longest = int(solution.steps.argmax())
solution.plot(truth).savefig(output / "panels.png", dpi=60)
solution.plot_convergence().savefig(output / "convergence.png", dpi=90)
solution.plot_path(longest).savefig(output / "curve.png", dpi=90)
solution.animate(output / "descent.gif", longest, fps=2)

# everything but the problem comes back from disk
solution.save(output / "bars")
again = Solution.load(output / "bars")
print(f"read back: {again}" if not torch.equal(again.x, solution.x) else "read back: the same")

# a point of a torus, of which one coordinate is not measured: two coordinates in six charts
torus = load_prior("torus")
y = torch.tensor([[2.0, -1.8]])
found = solve(
    lambda x: x[:, :2], y, torus, fidelity=Gaussian(0.1), starts=Starts(3, 3), trajectory=True
)
found.plot_path().savefig(output / "path.png", dpi=90)
