"""Find two balls in a disk from electrode voltages, with a reference measurement of the empty disk.

python examples/two_balls_eit.py [OUTPUT.png]
"""

import sys

import torch

from onmanifold import Gaussian, InitialPoints, load_prior, simulate, solve
from onmanifold.operators.eit import EIT, Affine, Protocol, Tank
from onmanifold.priors.datasets import TwoBalls, stream

tank, protocol = Tank.unit(), Protocol.adjacent(32)
prior = load_prior("two-balls")
conductivity = Affine(offset=0.2, slope=1.6)  # the prior's images are (conductivity - 0.2) / 1.6

# the experiment: a finer mesh than the one that inverts, and noise
laboratory = EIT(tank, protocol, prior.x_shape, conductivity=conductivity, mesh="fine")
truth, _ = TwoBalls().sample(1, stream(0, "held-out"))
empty = laboratory.A(torch.full_like(truth, TwoBalls().background))
std = 0.001 * float(empty.abs().mean())
measurement = simulate(laboratory, truth, std, generator=0)

operator = EIT(
    tank,
    protocol,
    prior.x_shape,
    conductivity=conductivity,
    mesh="coarse",
    reference=empty[0],  # model errors that the empty disk shares cancel
    background=1.0,
)
solution = solve(
    operator, measurement, prior, fidelity=Gaussian(3 * std), starts=InitialPoints(96, 6)
)
print(solution.summary())
error = (solution.x - truth).norm() / truth.norm()
print(f"relative error {error:.3f}")
solution.plot(truth).savefig(sys.argv[1] if len(sys.argv) > 1 else "two-balls.png")
