"""Manifolds known in closed form, as priors: what the solver's answers can be checked against."""

from __future__ import annotations

import math

import torch

from onmanifold.checks import as_generator
from onmanifold.prior import ManifoldPrior, Point


class Analytic(ManifoldPrior):
    """Float64 by its buffer; one chart and a flat density on the box unless a subclass says else."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        self.register_buffer("like", torch.zeros((), dtype=dtype))

    def log_prob_chart(self, z, chart):
        return torch.zeros_like(z[:, 0])

    def sample(self, n, generator=None):
        source = as_generator(generator)
        uniform = torch.rand(n, self.dim, generator=source, dtype=self.dtype)
        chart = torch.randint(self.num_charts, (n,), generator=source)
        z = (2 * uniform - 1) * torch.as_tensor(self.box, dtype=self.dtype)
        return Point(chart.to(self.device), z.to(self.device))


class Circle(Analytic):
    """The unit circle in the plane by two arcs, centred right and left, that overlap."""

    x_shape, dim, num_charts, box = (2,), 1, 2, 2.0

    def decode_chart(self, z, chart):
        angle = z + chart * math.pi
        return torch.cat([angle.cos(), angle.sin()], dim=1)

    def encode_chart(self, x, chart):
        sign = 1 - 2 * chart
        return torch.atan2(sign * x[:, 1:], sign * x[:, :1])

    def responsibilities(self, x):
        return torch.stack([4 * x[:, 0], -4 * x[:, 0]], dim=1).softmax(dim=1)


class Sine(Analytic):
    """The curve (z, sin 2z, cos z) in space, with a normal density."""

    x_shape, dim, box = (3,), 1, 3.0

    def decode_chart(self, z, chart):
        return torch.cat([z, (2 * z).sin(), z.cos()], dim=1)

    def encode_chart(self, x, chart):
        return x[:, :1]

    def log_prob_chart(self, z, chart):
        return -0.5 * z.square().sum(1)


class Sphere(Analytic):
    """The half sphere above the plane by stereographic projection, as images of 1 x 3."""

    x_shape, dim, box = (1, 3), 2, 1.0

    def decode_chart(self, z, chart):
        s = z.square().sum(1, keepdim=True)
        return (torch.cat([2 * z, 1 - s], dim=1) / (1 + s)).unsqueeze(1)

    def encode_chart(self, x, chart):
        x = x[:, 0]
        x = x / x.norm(dim=1, keepdim=True)
        return x[:, :2] / (1 + x[:, 2:])


class Affine(Analytic):
    """The points M z + c, with the density of standard normal z; the encoder is the pseudoinverse."""

    def __init__(self, dim=3, size=6, box=math.inf, seed=0, dtype=torch.float64):
        super().__init__(dtype)
        self.x_shape, self.dim, self.box = (size,), dim, box
        source = torch.Generator().manual_seed(seed)
        matrix = torch.randn(size, dim, generator=source, dtype=torch.float64)
        self.register_buffer("matrix", matrix.to(dtype))
        self.register_buffer("centre", torch.randn(size, generator=source).to(dtype))

    def decode_chart(self, z, chart):
        return z @ self.matrix.T + self.centre

    def encode_chart(self, x, chart):
        return (x - self.centre) @ torch.linalg.pinv(self.matrix).T

    def log_prob_chart(self, z, chart):
        return -0.5 * z.square().sum(1)

    def sample(self, n, generator=None):
        source = as_generator(generator)
        z = torch.randn(n, self.dim, generator=source, dtype=torch.float64).to(self.dtype)
        return Point(torch.zeros(n, dtype=torch.long), z.clamp(-self.box, self.box))


class Sheets(Analytic):
    """Affine charts, each of its own dimension, with standard normal densities and mixture weights."""

    def __init__(self, dims=(2, 2), shares=(0.3, 0.7), size=5):
        super().__init__()
        self.sheets = torch.nn.ModuleList(Affine(d, size, seed=k) for k, d in enumerate(dims))
        self.x_shape, self.dim, self.box = (size,), max(dims), math.inf
        self.num_charts, self.chart_dims, self.shares = len(dims), dims, shares

    def decode_chart(self, z, chart):
        return self.sheets[chart].decode_chart(z, 0)

    def encode_chart(self, x, chart):
        return self.sheets[chart].encode_chart(x, 0)

    def log_prob_chart(self, z, chart):
        constant = math.log(self.shares[chart]) - 0.5 * z.shape[1] * math.log(2 * math.pi)
        return constant - 0.5 * z.square().sum(1)

    def responsibilities(self, x):
        each = [-(s.decode_chart(s.encode_chart(x, 0), 0) - x).square().sum(1) for s in self.sheets]
        return torch.stack(each, dim=1).softmax(dim=1)

    def sample(self, n, generator=None):
        source = as_generator(generator)
        z = torch.randn(n, self.dim, generator=source, dtype=torch.float64)
        chart = torch.multinomial(torch.tensor(self.shares), n, replacement=True, generator=source)
        return Point(chart, z * self.active(chart))


class Union(Analytic):
    """A curve, a surface and a point: charts of dimension 1, 2 and 0.

    The surface is a piece of the paraboloid z = 0.3 (x^2 + y^2); the curve lies on it up to its border, and
    goes on beyond; the point is far from both. Even densities on the box, and mixture weights.
    """

    x_shape, dim, num_charts, chart_dims, box = (3,), 2, 3, (1, 2, 0), 1.0
    shares = (0.3, 0.5, 0.2)

    def decode_chart(self, z, chart):
        if chart == 2:
            return z.new_tensor([0.0, 0.0, 2.0]).expand(len(z), 3)
        flat = z if chart == 1 else torch.cat([1 + z, 0 * z], dim=1)
        return torch.cat([flat, 0.3 * flat.square().sum(1, keepdim=True)], dim=1)

    def encode_chart(self, x, chart):
        return (x[:, :1] - 1, x[:, :2], x[:, :0])[chart]

    def log_prob_chart(self, z, chart):
        constant = math.log(self.shares[chart]) - z.shape[1] * math.log(2 * self.box)
        return z.new_full((len(z),), constant)

    def responsibilities(self, x):
        return (-20 * self.views(x)[1].square()).softmax(dim=1)

    def sample(self, n, generator=None):
        source = as_generator(generator)
        chart = torch.multinomial(torch.tensor(self.shares), n, replacement=True, generator=source)
        z = 2 * torch.rand(n, self.dim, generator=source, dtype=torch.float64) - 1
        return Point(chart, (z * self.box * self.active(chart)).to(self.dtype))

    def config(self):
        return {}


ANALYTIC = {"circle": Circle, "sine": Sine, "sphere": Sphere, "affine": Affine}
