"""Two balls from electrode voltages, 10 held-out pictures: ``python benchmarks/balls.py``.

32 electrodes, adjacent currents. Voltages of the balls and of the empty disk are simulated on the fine
mesh, both with noise of 0.1 %; the coarse mesh, whose nodes and cells are others, inverts them as
differences.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import torch

from onmanifold import Gaussian, InitialPoints, load_prior, solve
from onmanifold.geometry import locate
from onmanifold.operators.eit import EIT, Affine, Protocol, Tank
from onmanifold.priors.datasets import TwoBalls, stream

NOISE = 0.001


@dataclass(frozen=True)
class Balls:
    """Held-out pictures of two balls, and what electrodes measured of them.

    Attributes:
        truth: the pictures.
        operator: inverts the voltages, as differences to those of the empty disk.
        measurement: voltages of the pictures.
        noise: standard deviation of a difference, by the noise of the two that it is made of.
        std: the same, with what the meshes disagree about.
    """

    truth: torch.Tensor
    operator: EIT
    measurement: torch.Tensor
    noise: torch.Tensor
    std: torch.Tensor

    @classmethod
    def make(cls, pictures: int, seed: int, mesh: str = "coarse") -> Balls:
        """The problem of two balls; the seed is that of pictures and noise."""
        return cls.of(TwoBalls().sample(pictures, stream(seed, "held-out"))[0], seed, mesh)

    @classmethod
    def of(
        cls, truth: torch.Tensor, seed: int, mesh: str = "coarse", noise: float = NOISE
    ) -> Balls:
        """The problem of given pictures ``(B, 1, 128, 128)``; the seed is that of the noise."""
        data = TwoBalls()
        setup = {"x_shape": data.x_shape, "conductivity": Affine(offset=0.2, slope=1.6)}
        fine = EIT(Tank.unit(), Protocol.adjacent(32), mesh="fine", **setup)
        generator = torch.Generator().manual_seed(seed)

        def measure(x: torch.Tensor) -> torch.Tensor:
            exact = fine.A(x)
            return exact * (1 + noise * torch.randn(exact.shape, generator=generator))

        empty = measure(torch.full((1, *data.x_shape), data.background))[0]
        measurement = measure(truth)
        operator = EIT(
            Tank.unit(),
            Protocol.adjacent(32),
            mesh=mesh,
            reference=empty,
            background=1.0,
            **setup,
        )
        spread = 2**0.5 * noise * empty.abs()
        return cls(truth, operator, measurement, spread, spread + 1e-4 * empty.abs().max())


def main() -> None:
    """Print a row for each picture and the median."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of pictures and noise")
    parser.add_argument("--mesh", default="coarse", help="mesh that inverts: coarse or medium")
    arguments = parser.parse_args()
    problem = Balls.make(arguments.pictures, arguments.seed, arguments.mesh)
    truth, prior = problem.truth, load_prior("two-balls")
    errors, seconds = [], []
    print("picture  rel. error  misfit / noise  steps  calls  seconds")
    for b in range(len(truth)):
        began = time.perf_counter()
        solution = solve(
            problem.operator,
            problem.measurement[b : b + 1],
            prior,
            fidelity=Gaussian(problem.std),
            starts=InitialPoints(128, 8),
            seed=arguments.seed,
        )
        seconds.append(time.perf_counter() - began)
        errors.append(float((solution.x[0] - truth[b]).norm() / truth[b].norm()))
        ratio = float(solution.misfit[0] / solution.expected_misfit[0])
        print(
            f"{b:7d} {errors[-1]:11.4f} {ratio:15.2f} {int(solution.steps[0]):6d} "
            f"{int(solution.operator_calls[0]):6d} {seconds[-1]:8.1f}"
        )
    best = prior.decode(locate(prior, truth))
    floor = (best - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)
    print(
        f"median relative error {torch.tensor(errors).median():.4f}, longest {max(seconds):.1f} s"
    )
    print(f"for scale: the prior's own nearest points to these pictures have {floor.median():.4f}")


if __name__ == "__main__":
    main()
