"""Restore images from intensities alone: their Fourier transforms behind a few random masks, without phases.

python examples/phase_retrieval.py [OUTPUT_FOLDER]

The operator is nonlinear, and is made of torch operations: `Autodiff` derives what a descent needs. Without a
manifold the problem has many wrong minima; on it a few starts find the truth from one mask.
"""

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from onmanifold import Autodiff, Gaussian, InitialPoints, load_prior, simulate, solve
from onmanifold.plot import draw
from onmanifold.priors.datasets import RotatingObject, stream
from onmanifold.testing import check_operator

NOISE = 0.05


class CodedDiffraction(Autodiff):
    """Moduli of the Fourier transforms of an image behind masks of random phases."""

    linear = False

    def __init__(self, x_shape: tuple[int, int, int], masks: int, seed: int = 0) -> None:
        self.x_shape, self.y_shape = x_shape, (masks, *x_shape[1:])
        generator = torch.Generator().manual_seed(seed)
        angle = 2 * torch.pi * torch.rand(self.y_shape, generator=generator, dtype=torch.float64)
        self.masks = torch.polar(torch.ones_like(angle), angle)

    def A(self, x: Tensor) -> Tensor:
        """``(B, 1, H, W)`` to ``(B, masks, H, W)``."""
        mask = self.masks.to(torch.promote_types(x.dtype, torch.complex64))
        seen = torch.fft.fft2(x * mask, norm="ortho")
        # smooth where the modulus is 0
        return (seen.real.square() + seen.imag.square() + 1e-4).sqrt()


output = Path(sys.argv[1] if len(sys.argv) > 1 else "phases")
prior = load_prior("rotating-object")
operator = CodedDiffraction(prior.x_shape, masks=1)
check_operator(operator)
truth, _ = RotatingObject().sample(4, stream(0, "held-out"))  # images that training never saw
measurement = simulate(operator, truth, NOISE, generator=0)

starts = InitialPoints(pool=1024, keep=16)
solution = solve(operator, measurement, prior, fidelity=Gaussian(NOISE), starts=starts)
print(solution.summary())
error = (solution.x - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)
print("relative error: " + ", ".join(f"{e:.2f}" for e in error))

figure = Figure(figsize=(6.4, 5.2), layout="constrained")
for line, row in zip(figure.subplots(3, 4), (truth, measurement, solution.x), strict=True):
    for ax, image in zip(line, row, strict=True):
        draw(ax, image, min=0.0, max=1.0)
figure.suptitle("truth, moduli of its transform behind a mask, restored")
output.mkdir(parents=True, exist_ok=True)
figure.savefig(output / "phases.png")
