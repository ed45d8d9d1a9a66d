"""Two balls from electrode voltages, 10 held-out pictures: ``python benchmarks/balls.py``.

32 electrodes, adjacent currents. Voltages of the balls and of the empty disk are simulated on the fine
mesh, both with noise of 0.1 %; the coarse mesh, whose nodes and cells are others, inverts them as
differences.
"""

from __future__ import annotations

import argparse
import time

import torch

from onmanifold import Gaussian, Starts, load_prior, solve
from onmanifold.operators.eit import EIT, Affine, Protocol, Tank
from onmanifold.priors.manifolds import TwoBalls, stream

NOISE = 0.001


def main() -> None:
    """Print a row for each picture and the median."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of pictures and noise")
    parser.add_argument("--mesh", default="coarse", help="mesh that inverts: coarse or medium")
    arguments = parser.parse_args()
    data = TwoBalls()
    truth, _ = data.sample(arguments.pictures, stream(arguments.seed, "held-out"))
    setup = {"x_shape": data.x_shape, "conductivity": Affine(offset=0.2, slope=1.6)}
    fine = EIT(Tank.unit(), Protocol.adjacent(32), mesh="fine", **setup)
    generator = torch.Generator().manual_seed(arguments.seed)

    def measure(x: torch.Tensor) -> torch.Tensor:
        exact = fine.A(x)
        return exact * (1 + NOISE * torch.randn(exact.shape, generator=generator))

    empty = measure(torch.full((1, *data.x_shape), data.background))[0]
    y = measure(truth)
    operator = EIT(
        Tank.unit(),
        Protocol.adjacent(32),
        mesh=arguments.mesh,
        reference=empty,
        background=1.0,
        **setup,
    )
    prior = load_prior("two-balls")
    std = (
        2**0.5 * NOISE * empty.abs() + 1e-4 * empty.abs().max()
    )  # of a difference, and of the meshes
    errors, seconds = [], []
    print("picture  rel. error  misfit / noise  steps  calls  seconds")
    for b in range(len(y)):
        began = time.perf_counter()
        solution = solve(
            operator,
            y[b : b + 1],
            prior,
            fidelity=Gaussian(std),
            starts=Starts(128, 8),
            seed=arguments.seed,
        )
        seconds.append(time.perf_counter() - began)
        errors.append(float((solution.x[0] - truth[b]).norm() / truth[b].norm()))
        ratio = float(solution.misfit[0] / solution.expected_misfit[0])
        print(
            f"{b:7d} {errors[-1]:11.4f} {ratio:15.2f} {int(solution.steps[0]):6d} "
            f"{int(solution.operator_calls[0]):6d} {seconds[-1]:8.1f}"
        )
    best = prior.decode(*(lambda p: (p.z, p.chart))(prior.locate(truth)))
    floor = (best - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)
    print(
        f"median relative error {torch.tensor(errors).median():.4f}, longest {max(seconds):.1f} s"
    )
    print(f"for scale: the prior's own nearest points to these pictures have {floor.median():.4f}")


if __name__ == "__main__":
    main()
