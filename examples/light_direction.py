"""Find the direction of the light in a blurred, noisy image of a sundial.

python examples/light_direction.py [OUTPUT_FOLDER] [PRIOR]

The learned manifold consists of images, not of directions. So the image is restored first. The direction is
then that of the rendering nearest to the restored image, found among many and improved by a local search.
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

from onmanifold import Gaussian, load_prior, simulate, solve
from onmanifold.operators import Blur, gaussian_kernel
from onmanifold.plot import draw
from onmanifold.priors.datasets import Sundial, nearest_rendering, stream

NOISE = 0.1

output = Path(sys.argv[1] if len(sys.argv) > 1 else "light")
prior, sundial = load_prior(sys.argv[2] if len(sys.argv) > 2 else "sundial"), Sundial()
operator = Blur(gaussian_kernel(9, std=2.0), prior.x_shape, boundary="symmetric")
truth, light = sundial.sample(6, stream(0, "held-out"))  # images that training never saw
measurement = simulate(operator, truth, NOISE, generator=0)

solution = solve(operator, measurement, prior, fidelity=Gaussian(NOISE))
print(solution.summary())

found = nearest_rendering(sundial, solution.x)
angle = sundial.distance_between(found, light).rad2deg()
print("error of the direction: " + ", ".join(f"{a:.1f}" for a in angle) + " degrees")

figure = Figure(figsize=(9.0, 5.0), layout="constrained")
for line, row in zip(figure.subplots(3, 6), (truth, measurement, solution.x), strict=True):
    for ax, image in zip(line, row, strict=True):
        draw(ax, image, min=0.0, max=1.0)
figure.suptitle("truth, measurement, restored")
output.mkdir(parents=True, exist_ok=True)
figure.savefig(output / "light.png")
