"""Restore handwritten digits that were blurred, and digits of which half the pixels are missing.

python examples/restore_digits.py [OUTPUT_FOLDER] [PRIOR]

The digits are those of MNIST's test files, in the folder mnist of $ONMANIFOLD_DATA. The prior never saw them.
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

from onmanifold import Gaussian, InitialPoints, load_dataset, load_prior, simulate, solve
from onmanifold.operators import Blur, gaussian_kernel
from onmanifold.operators.mask import from_options
from onmanifold.plot import draw
from onmanifold.priors.datasets import stream

output = Path(sys.argv[1] if len(sys.argv) > 1 else "restored")
prior = load_prior(sys.argv[2] if len(sys.argv) > 2 else "mnist")
truth, _ = load_dataset("mnist").part("held-out").sample(6, stream(0, "held-out"))
problems = {  # an operator, and the noise level
    "blurred": (Blur(gaussian_kernel(9, std=2.0), prior.x_shape), 0.1),
    "half missing": (from_options(prior.x_shape, keep=0.5, seed=0), 0.05),
}

rows = {"truth": truth}
for name, (operator, noise) in problems.items():
    measurement = simulate(operator, truth, noise, generator=0)
    solution = solve(
        operator, measurement, prior, fidelity=Gaussian(noise), starts=InitialPoints(256, 8)
    )
    error = (solution.x.clamp(0, 1) - truth).flatten(1).square().mean(dim=1)
    ratios = ", ".join(f"{ratio:.1f}" for ratio in -10 * error.log10())
    print(f"{name}: PSNR {ratios} dB; {int(solution.converged.sum())} of {len(truth)} converged")
    # the measurement as an image: missing pixels are black
    rows |= {name: operator.A_adjoint(measurement) if "missing" in name else measurement}
    rows |= {f"restored from {name}": solution.x}

figure = Figure(figsize=(1.5 * len(truth), 1.7 * len(rows)), layout="constrained")
axes = figure.subplots(len(rows), len(truth))
for line, (name, images) in zip(axes, rows.items(), strict=True):
    line[0].set_title(name, loc="left")
    for ax, image in zip(line, images, strict=True):
        draw(ax, image, min=0.0, max=1.0)
output.mkdir(parents=True, exist_ok=True)
figure.savefig(output / "digits.png")
