"""Deblur bars: load a prior, simulate a measurement, solve, draw.

python examples/deblur_bars.py [OUTPUT.png]
"""

import sys

from onmanifold import Gaussian, load_prior, simulate, solve
from onmanifold.operators import Blur, gaussian_kernel
from onmanifold.priors.datasets import Bar, stream

NOISE = 0.1

prior = load_prior("bar")
operator = Blur(gaussian_kernel(40, std=15.0), prior.x_shape)
truth, _ = Bar().sample(3, stream(0, "held-out"))  # bars that training never saw
measurement = simulate(operator, truth, NOISE, generator=0)

solution = solve(operator, measurement, prior, fidelity=Gaussian(NOISE))
print(solution.summary())
solution.plot(truth).savefig(sys.argv[1] if len(sys.argv) > 1 else "bars.png")
