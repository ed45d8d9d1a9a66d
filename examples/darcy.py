"""Find a channel of sand in rock: conductivity from 25 pressures, with a prior trained on 2 000 fields.

python examples/darcy.py [OUTPUT_FOLDER] [TRAINING_STEPS] [FIELDS]

The pressure of water follows Darcy's law, -div(exp(x) grad p) = 1, with p = 0 on the boundary. x is the
logarithm of the conductivity. The prior is an autoencoder of the fields; the equation is solved by dolfinx.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from onmanifold import Gaussian, simulate, solve
from onmanifold.operators.pde import darcy
from onmanifold.plot import draw
from onmanifold.priors import Recipe, train

output = Path(sys.argv[1] if len(sys.argv) > 1 else "darcy")
steps = int(sys.argv[2]) if len(sys.argv) > 2 else 800
count = int(sys.argv[3]) if len(sys.argv) > 3 else 2000
SIZE, NOISE = 32, 0.002  # pixels along a side; standard deviation of a pressure, of up to 0.2


def channels(n: int, seed: int) -> np.ndarray:
    """Winding channels: x is 1 in them and -1 around, with soft edges; ``(n, 1, SIZE, SIZE)``."""
    draws = np.random.default_rng(seed).random((5, n, 1, 1))
    along, across = np.meshgrid(*[(np.arange(SIZE) + 0.5) / SIZE] * 2)
    middle = 0.3 + 0.4 * draws[0] + 0.5 * (draws[1] - 0.5) * (along - 0.5)
    winding = 0.15 * draws[2] * np.sin(2 * np.pi * (1.2 * along + draws[3]))
    half_width = 0.06 + 0.08 * draws[4]
    inside = (half_width - np.abs(across - middle - winding)) / 0.03
    return np.tanh(inside)[:, None].astype(np.float32)


output.mkdir(parents=True, exist_ok=True)
np.save(output / "fields.npy", channels(count, seed=0))
recipe = Recipe(
    name="channels",
    card={"description": "logarithm of the conductivity of winding channels"},
    data={"name": "examples", "file": str(output / "fields.npy")},
    model={
        "dim": 8,
        "network": "conv",
        "options": {"channels": [32], "patch": 4, "hidden": 128},
    },
    schedule={"length": steps, "examples": count, "batch_size": 64, "learning_rate": 3e-3},
    method="ae",
    threads=1,
)
prior = train(recipe, output / "checkpoints", progress=False)

truth = torch.from_numpy(channels(4, seed=1))  # training never saw them
pressures = simulate(darcy(prior.x_shape, cells=48), truth, NOISE, generator=0)  # on a finer mesh
operator = darcy(prior.x_shape, cells=32)
solution = solve(operator, pressures, prior, fidelity=Gaussian(NOISE))
print(solution.summary())
error = (solution.x - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)
print("relative error of the logarithm: " + ", ".join(f"{e:.2f}" for e in error))

figure = Figure(figsize=(8.0, 4.4), layout="constrained")
for row, images in zip(figure.subplots(2, len(truth)), (truth, solution.x), strict=True):
    for ax, image in zip(row, images, strict=True):
        draw(ax, image, min=-1.2, max=1.2)
figure.suptitle("logarithm of the conductivity: truth, and from 25 pressures")
figure.savefig(output / "darcy.png")
