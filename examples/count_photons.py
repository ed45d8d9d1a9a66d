"""Restore images of a turning object from a few photons a pixel.

python examples/count_photons.py [OUTPUT_FOLDER] [PHOTONS]

PHOTONS is what a pixel of value 1 sends on average. The noise is that of counting, so `Poisson` is the
fidelity. To compare: a normal error of one size for all pixels, the mean one.
"""

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

from onmanifold import Gaussian, InitialPoints, Poisson, load_prior, solve
from onmanifold.operators import Blur, gaussian_kernel
from onmanifold.plot import draw
from onmanifold.priors.datasets import RotatingObject, stream

output = Path(sys.argv[1] if len(sys.argv) > 1 else "photons")
photons = float(sys.argv[2]) if len(sys.argv) > 2 else 5.0
DARK = 0.2  # counts of a pixel without light

prior = load_prior("rotating-object")
operator = Blur(gaussian_kernel(5, std=1.0), prior.x_shape)
truth, _ = RotatingObject().sample(4, stream(0, "held-out"))  # images that training never saw
mean = photons * operator.A(truth).clamp(min=0) + DARK
counts = torch.poisson(mean, generator=torch.Generator().manual_seed(0))

starts = InitialPoints(pool=1024, keep=16)
noise = Poisson(gain=photons, background=DARK)
by_counts = solve(operator, counts, prior, fidelity=noise, starts=starts)
print(by_counts.summary())
signal = (counts - DARK) / photons
std = float(counts.mean().sqrt()) / photons
by_one_size = solve(operator, signal, prior, fidelity=Gaussian(std), starts=starts)

for name, solution in (("counts", by_counts), ("one size of noise", by_one_size)):
    error = (solution.x - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)
    print(f"{name}: relative error " + ", ".join(f"{e:.2f}" for e in error))

figure = Figure(figsize=(6.4, 5.2), layout="constrained")
rows = (truth, counts / photons, by_counts.x)
for line, row in zip(figure.subplots(3, 4), rows, strict=True):
    for ax, image in zip(line, row, strict=True):
        draw(ax, image, min=0.0, max=1.0)
figure.suptitle(f"truth, {photons:g} photons a pixel, restored")
output.mkdir(parents=True, exist_ok=True)
figure.savefig(output / "photons.png")
