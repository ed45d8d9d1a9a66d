"""Problems whose posterior is known, in closed form or on a grid."""

import math

import torch
from analytic_priors import Circle

from onmanifold import Gaussian, MaxSteps, SmallDecrease, solve
from onmanifold.operator import as_operator

DOUBLE = torch.float64
STOP = MaxSteps(100) | SmallDecrease(1e-10)


def linear(prior, size=4, seed=5):
    source = torch.Generator().manual_seed(seed)
    matrix = torch.randn(size, prior.x_shape[0], generator=source, dtype=DOUBLE)
    return matrix, as_operator(lambda x: x @ matrix.T, prior.x_shape, dtype=DOUBLE)


def by_hand(matrix, sheet, y, std):
    """Mean, covariance and log-evidence (without the likelihood's constant) of a linear normal problem."""
    forward = matrix @ sheet.matrix
    rest = y - sheet.centre @ matrix.T
    eye = torch.eye(sheet.dim, dtype=DOUBLE)
    covariance = torch.linalg.inv(forward.T @ forward / std**2 + eye)
    mean = rest @ forward / std**2 @ covariance
    marginal = torch.distributions.MultivariateNormal(
        torch.zeros(len(matrix), dtype=DOUBLE),
        forward @ forward.T + std**2 * torch.eye(len(matrix), dtype=DOUBLE),
    )
    constant = 0.5 * len(matrix) * math.log(2 * math.pi * std**2)
    return mean, covariance, marginal.log_prob(rest) + constant


def on_a_grid(operator, prior, y, std, cells=4000):
    """The posterior's mass in even cells of each chart of a curve: ``(K, cells)``, and their centres."""
    edges = torch.linspace(-prior.box, prior.box, cells + 1, dtype=DOUBLE)
    z = (0.5 * (edges[1:] + edges[:-1])).unsqueeze(1)
    logs = []
    for k in range(prior.num_charts):
        off = operator(prior.decode_chart(z, k)) - y
        logs.append(prior.log_prob_chart(z, k) - 0.5 * off.square().flatten(1).sum(1) / std**2)
    mass = torch.stack(logs).flatten().softmax(0).view(prior.num_charts, cells)
    return mass, z.squeeze(1)


def total_variation(samples, mass, box, bins):
    """Between the draws and the grid's mass, over (chart, bin)."""
    charts, cells = mass.shape
    true = mass.view(charts, bins, cells // bins).sum(2)
    z, chart = samples.z.flatten(), samples.chart.flatten()
    cell = ((z + box) / (2 * box) * bins).long().clamp(0, bins - 1)
    counts = torch.bincount(chart * bins + cell, minlength=charts * bins).view(charts, bins)
    return 0.5 * (counts / counts.sum() - true).abs().sum().item()


def two_points():
    """The first coordinate of a point of the circle: one above and one below the axis, in two charts."""
    prior = Circle()

    def operator(x):  # the point above is the likelier
        return torch.cat([x[:, :1], 0.02 * x[:, 1:]], dim=1)

    y = torch.tensor([[-0.1, 0.03]], dtype=DOUBLE)
    return operator, prior, y, solve(operator, y, prior, fidelity=Gaussian(0.04), stop=STOP)
