"""Solutions to draw."""

import torch
from analytic_priors import Circle, Sphere

from onmanifold import RiemannianGradientDescent, solve
from onmanifold.prior import Point

FLOAT = torch.float64


class Images(Sphere):
    """Decodes to images."""

    x_shape = (1, 6, 4)

    def decode_chart(self, z, chart):
        a, b = z[:, 0, None, None, None], z[:, 1, None, None, None]
        across, down = (torch.linspace(-1, 1, n, dtype=z.dtype) for n in (4, 6))
        return torch.exp(-((across - a) ** 2) - (down[:, None] - b) ** 2)

    def encode_chart(self, x, chart):
        raise NotImplementedError


def random(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=FLOAT)


def changing():
    """A descent on the circle that starts in one arc and ends in the other."""
    y = torch.tensor([[-1.0, 0.1], [1.0, 0.2]], dtype=FLOAT)
    start = Point(torch.tensor([0, 0]), torch.tensor([[1.2], [0.5]], dtype=FLOAT))
    options = {"method": RiemannianGradientDescent(), "trajectory": True}
    return solve(lambda x: x, y, Circle(), starts=start, **options)
