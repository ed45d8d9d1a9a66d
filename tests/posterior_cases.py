"""Linear normal problems, whose posteriors are known."""

import math

import torch

from onmanifold import as_operator

DOUBLE = torch.float64


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
