"""Conductivity maps: their values, their derivatives, and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch

from onmanifold.operators.eit.conductivity import Affine, Exponential, Saturating, Scaled


@pytest.mark.parametrize(
    "conductivity",
    [Affine(1.0, -0.3), Exponential(2.0, -1.5), Saturating(0.8), Scaled(Saturating(1.0), 1.1)],
)
def test_derivatives_of_the_maps(conductivity):
    x = torch.linspace(-1.2, 1.2, 25, dtype=torch.float64) + 0.01
    x.requires_grad_()
    (expected,) = torch.autograd.grad(conductivity(x).sum(), x)
    torch.testing.assert_close(conductivity.derivative(x.detach()), expected)


def test_saturating_reaches_its_ends():
    values = Saturating(0.8, reach=0.9)(torch.tensor([-2, -0.9, 0, 0.9, 5.0], dtype=torch.float64))
    torch.testing.assert_close(
        values, torch.tensor([0.004, 0.004, 0.8, 80, 80], dtype=torch.float64)
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: Affine(0, 0),
        lambda: Affine(math.inf),
        lambda: Exponential(-1.0),
        lambda: Exponential(1.0, 0.0),
        lambda: Saturating(0.0),
        lambda: Saturating(1.0, resistive=1.0),
        lambda: Saturating(1.0, reach=0.0),
        lambda: Scaled(Affine(), -1.0),
    ],
)
def test_maps_refuse(make):
    with pytest.raises(ValueError):
        make()
