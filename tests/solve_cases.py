"""Measurements of points of analytic manifolds."""

import torch

from onmanifold import as_operator, simulate


def warp(x):
    """A nonlinear operator for every analytic prior."""
    flat = x.flatten(1)
    return torch.cat([flat + 0.3 * flat.square(), (2 * flat).sum(1, keepdim=True).sin()], dim=1)


def measured(prior, n=5, std=0.05, seed=3):
    """Points of the manifold, and what was measured of them."""
    truth = prior.sample(n, seed)
    x = prior.decode(truth)
    return x, simulate(as_operator(warp, prior.x_shape, dtype=prior.dtype), x, std, seed)
