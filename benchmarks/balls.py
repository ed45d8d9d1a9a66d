"""Two balls from electrode voltages, 10 held-out images: ``python benchmarks/balls.py``.

32 electrodes, adjacent currents. Voltages of the balls and of the empty disk are simulated on the fine
mesh, both with noise of 0.1 %. The coarse mesh, whose nodes and cells are others, inverts them as
differences.
"""

from typing import NamedTuple, Self

import torch
import typer
from torch import Tensor

from onmanifold import Gaussian, InitialPoints, load_prior, solve
from onmanifold.geometry import locate
from onmanifold.operators.eit import EIT, Affine, Protocol, Tank
from onmanifold.priors.datasets import TwoBalls, stream
from shared.tables import Table

NOISE = 0.001


class Balls(NamedTuple):
    """Images of two balls, and what electrodes measured of them."""

    truth: Tensor  # the images (B, 1, 128, 128)
    operator: EIT  # inverts the voltages, as differences to those of the empty disk
    measurement: Tensor  # voltages of the images
    noise: Tensor  # standard deviation of a difference, by the noise of the two that it is made of
    std: Tensor  # the same with the differences between the meshes

    @classmethod
    def make(cls, n: int, seed: int, mesh: str = "coarse") -> Self:
        """Held-out images; the seed is that of images and noise."""
        return cls.of(TwoBalls().sample(n, stream(seed, "held-out"))[0], seed, mesh)

    @classmethod
    def of(cls, truth: Tensor, seed: int, mesh: str = "coarse", noise: float = NOISE) -> Self:
        """Given images; the seed is that of the noise."""
        data, protocol = TwoBalls(), Protocol.adjacent(32)
        setup = {"x_shape": data.x_shape, "conductivity": Affine(offset=0.2, slope=1.6)}
        fine = EIT(Tank.unit(), protocol, mesh="fine", **setup)
        generator = torch.Generator().manual_seed(seed)

        def measure(x: Tensor) -> Tensor:
            exact = fine.A(x)
            return exact * (1 + noise * torch.randn(exact.shape, generator=generator))

        empty = measure(torch.full((1, *data.x_shape), data.background))[0]
        measurement = measure(truth)
        operator = EIT(Tank.unit(), protocol, mesh=mesh, reference=empty, background=1.0, **setup)
        spread = 2**0.5 * noise * empty.abs()
        return cls(truth, operator, measurement, spread, spread + 1e-4 * empty.abs().max())


def relative_error(x: Tensor, truth: Tensor) -> Tensor:
    """Euclidean distance over the norm of the truth, ``(B,)``."""
    return (x - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)


def main(images: int = 10, seed: int = 0, mesh: str = "coarse") -> None:
    """Print a row for each image and the median; the mesh that inverts is coarse or medium."""
    made, prior = Balls.make(images, seed, mesh), load_prior("two-balls")
    errors, seconds = [], []
    counts = {"steps": "d", "calls": "d", "seconds": ".1f"}
    table = Table({"image": "d", "rel. error": ".4f", "misfit / noise": ".2f"} | counts)
    for b in range(images):
        y, fidelity = made.measurement[b : b + 1], Gaussian(made.std)
        options = {"fidelity": fidelity, "starts": InitialPoints(128, 8), "seed": seed}
        solution = solve(made.operator, y, prior, **options)
        errors.append(relative_error(solution.x, made.truth[b : b + 1]))
        seconds.append(solution.seconds)
        ratio = solution.misfit / solution.expected_misfit
        table.row(b, errors[-1], ratio, solution.steps, solution.operator_calls, solution.seconds)
    nearest = relative_error(prior.decode(locate(prior, made.truth)), made.truth)
    print(f"median relative error {torch.cat(errors).median():.4f}, longest {max(seconds):.1f} s")
    print(f"for scale: the prior's own nearest points to these images have {nearest.median():.4f}")


if __name__ == "__main__":
    typer.run(main)
