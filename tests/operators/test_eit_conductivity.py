"""Conductivity maps: their values, the derivatives that torch finds, and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch

from onmanifold.autodiff import vjp
from onmanifold.operators.eit.conductivity import (
    Affine,
    Exponential,
    Inclusions,
    Labels,
    Saturating,
)


def derivative(conductivity, x):
    """As the operator takes it."""
    return vjp(conductivity, x, torch.ones_like(conductivity(x)))


@pytest.mark.parametrize(
    "conductivity",
    [Affine(1.0, -0.3), Exponential(2.0, -1.5), Saturating(0.8), Saturating(0.8, reach=0.7)],
)
def test_derivatives_of_the_maps(conductivity):
    """Also at 0, where descents start, and beyond the limits of a map that saturates."""
    x, h = torch.linspace(-1.19, 1.21, 25, dtype=torch.float64), 1e-6
    x[12] = 0.0
    expected = (conductivity(x + h) - conductivity(x - h)) / (2 * h)
    torch.testing.assert_close(derivative(conductivity, x), expected, rtol=1e-5, atol=1e-8)


def test_saturating_reaches_its_limits():
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
    ],
)
def test_maps_refuse(make):
    with pytest.raises(ValueError):
        make()


# Labels ------------------------------------------------------------------------------------------

ALL_FREE = ("conductive", "resistive", "background")


def test_labels_mean_their_materials():
    labels = Labels(0.02, 0.8, 40.0)
    assert labels.channels == 1
    values = labels(torch.tensor([-3.0, -1.0, 0.0, 1.0, 2.0], dtype=torch.float64))
    torch.testing.assert_close(values, torch.tensor([0.02, 0.02, 0.8, 40, 40], dtype=torch.float64))


@pytest.mark.parametrize("contrast", [(1e-4, 1.5), (0.9, 200.0), (0.1, 10.0)])
def test_labels_rise_with_a_continuous_derivative(contrast):
    labels = Labels(contrast[0], 1.0, contrast[1])
    x = torch.linspace(-1.1, 1.1, 22001, dtype=torch.float64)
    value, slope = labels(x), derivative(labels, x)
    assert (value.diff() >= 0).all() and (slope >= 0).all()
    assert slope[x.abs() > 1].abs().max() == 0 and slope[11000] > 0.1
    # the steps of the derivative shrink with those of x: no jump, not at -1, 0 and 1 either
    relative = slope / value
    assert relative.diff().abs().max() < 0.01 * relative.max()


@pytest.mark.parametrize("free", [(), ("background",), ALL_FREE])
def test_derivative_of_labels_by_every_channel(free):
    labels = Labels(0.02, 0.8, 40.0, free=free)
    source = torch.Generator().manual_seed(0)
    x = 0.3 * torch.randn(3, labels.channels, 40, generator=source, dtype=torch.float64)
    x[:, 0] = torch.linspace(-1.2, 1.2, 40, dtype=torch.float64) + 0.01
    if not free:
        x = x[:, 0]
    v = torch.randn(x.shape, generator=source, dtype=torch.float64)
    expected = (labels(x + 1e-6 * v) - labels(x - 1e-6 * v)) / 2e-6
    product = derivative(labels, x) * v
    torch.testing.assert_close(product.sum(1) if free else product, expected)


def test_free_materials_follow_their_channel():
    labels = Labels(0.02, 0.8, 40.0, free=ALL_FREE)
    theta = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    x = torch.cat([torch.tensor([[-1.0, 0.0, 1.0]]).double(), theta[:, None].expand(3, 3)])
    expected = torch.tensor([0.02, 0.8, 40]).double() * theta[[1, 2, 0]].exp()
    torch.testing.assert_close(labels(x), expected)


def test_labels_take_a_channel_for_each_free_conductivity():
    labels = Labels(free=("background",))
    for x in (torch.zeros(4), torch.zeros(3, 5)):
        with pytest.raises(ValueError, match=r"takes \(\.\.\., 2, P\).* got"):
            labels(x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resistive": 2.0}, "resistive < background < conductive, got 2.0, 1.0"),
        ({"conductive": math.inf}, "conductive has to be above -inf and below inf"),
        ({"free": ("water",)}, "some of resistive, background, conductive"),
        ({"free": ("background", "background")}, "each once"),
    ],
)
def test_labels_refuse(options, message):
    with pytest.raises(ValueError, match=message):
        Labels(**options)


def test_free_contrasts_of_inclusions():
    """Their logarithms are multiplied, so that no sign changes; derivatives by differences."""
    free, fixed = (Inclusions(0.7, 0.6, 0.8, free=free) for free in (True, False))
    source, h = torch.Generator().manual_seed(0), 1e-6
    x = torch.rand((5, 9), generator=source, dtype=torch.float64)
    x[3:] = 0.0
    torch.testing.assert_close(free(x), fixed(x[:3]))
    x[3:] = torch.rand((2, 9), generator=source, dtype=torch.float64) - 0.5
    slope = derivative(free, x)
    for channel in range(5):
        step = torch.zeros_like(x)
        step[channel] = h
        change = (free(x + step) - free(x - step)) / (2 * h)
        torch.testing.assert_close(slope[channel], change, atol=1e-8, rtol=1e-6)
    extreme = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [3.0, 3.0], [3.0, 3.0]]).double()
    low, high = free(extreme).tolist()
    assert 0 < low < 0.28 * 0.7 and high > 0.7 / 0.2
