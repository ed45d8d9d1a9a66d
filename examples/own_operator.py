"""Write your own forward operator: check its derivatives, then solve with it.

python examples/own_operator.py
"""

import torch
from torch import Tensor

from onmanifold import Autodiff, Gaussian, load_prior, simulate, solve
from onmanifold.operators import Blur, gaussian_kernel
from onmanifold.priors.datasets import Bar, stream
from onmanifold.testing import check_operator


class BlurredLogarithm(Autodiff):
    """A camera out of focus with a logarithmic response that reads every fourth pixel."""

    linear = False

    def __init__(self, x_shape: tuple[int, int, int]) -> None:
        self.x_shape = x_shape
        self.y_shape = (1, x_shape[1] // 4, x_shape[2] // 4)
        self.blur = Blur(gaussian_kernel(15, std=4.0), x_shape, boundary="reflect")

    def A(self, x: Tensor) -> Tensor:
        """``(B, 1, H, W)`` to ``(B, 1, H / 4, W / 4)``."""
        light = self.blur.A(x)[..., ::4, ::4]
        return torch.log(1e-3 + light.abs())


prior = load_prior("bar")
operator = BlurredLogarithm((1, 128, 128))
truth, _ = Bar().sample(3, stream(0, "held-out"))
print(check_operator(operator, truth))  # shapes, dot test, Taylor remainder, batches

measurement = simulate(operator, truth, 0.05, generator=0)
solution = solve(operator, measurement, prior, fidelity=Gaussian(0.05))
print(solution.summary())
