"""Downsampling against torch, its properties, and bad input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from onmanifold import load_operator
from onmanifold.operators import Downsampling
from onmanifold.operators.downsampling import FILTERS
from onmanifold.testing import check_operator


def random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize(
    ("factor", "x_shape", "dims"),
    [(2, (8, 6), 2), (4, (3, 13, 8), 2), ((1, 3), (1, 5, 9), 2), (2.5, (2, 6, 5, 8), 3)],
)
def test_it_is_a_linear_operator(filter, factor, x_shape, dims, device, dtype):
    operator = Downsampling(factor, x_shape, filter, dims).to(dtype).to(device)
    check_operator(operator)
    check_operator(operator.float(), torch.rand(2, *x_shape, device=device))


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(2, 4))
def test_average_is_the_mean_of_blocks_and_cubic_is_torch(factor, h, w):
    x = random(2, 3, factor * h, factor * w)
    mean = Downsampling(factor, x.shape[1:])
    torch.testing.assert_close(mean.A(x), F.avg_pool2d(x, factor))
    cubic = Downsampling(factor, x.shape[1:], "cubic")
    # one column and several rows: torch takes all rows from the first one's weights
    truth = F.interpolate(x, size=(h, w), mode="bicubic", antialias=True)
    torch.testing.assert_close(cubic.A(x), truth)


@pytest.mark.parametrize("filter", FILTERS)
def test_nothing_aliases_and_constants_stay(filter):
    operator = Downsampling(4, (64, 64), filter)
    assert torch.allclose(operator.A(torch.ones(1, 64, 64)), torch.ones(1, 16, 16))
    stripes = torch.cos(torch.arange(64.0) * torch.pi).expand(1, 64, 64)  # the highest frequency
    assert operator.A(stripes)[:, 2:-2, 2:-2].abs().max() < 0.02
    slow = torch.cos(torch.arange(64.0) * (2 * torch.pi / 64)).expand(1, 64, 64)
    assert operator.A(slow).std() > 0.95 * slow.std()


def test_options_and_gradients():
    operator = load_operator("downsampling", (28, 20), factor=[4, 2], filter="cubic")
    assert operator.y_shape == (7, 10)
    x = random(1, 28, 20).requires_grad_()
    assert torch.autograd.gradcheck(operator.A, x)
    assert operator.half().A(torch.ones(1, 28, 20).half()).dtype == torch.float16


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((0.5, (8, 8)), "factor has to be from 1 to 8"),
        ((9, (8, 8)), "factor has to be from 1 to 8"),
        (((2, 2, 2), (8, 8)), "factor has to be a number or 2, one for each axis"),
        ((float("nan"), (8, 8)), "factor has to be above 0"),
        ((2, (8,)), r"x_shape has to be \(H, W\)"),
        ((2, (8, 8), "sinc"), "unknown filter 'sinc', expected one of average"),
        ((2, (8, 8), "cubic", 1), "x_shape has to be"),
    ],
)
def test_bad_arguments(arguments, says):
    with pytest.raises(ValueError, match=says):
        Downsampling(*arguments)


def test_bad_images():
    operator = Downsampling(2, (8, 8))
    with pytest.raises(ValueError, match=r"x has shape \(1, 8, 9\), expected \(B, 8, 8\)"):
        operator.A(torch.ones(1, 8, 9))
    with pytest.raises(ValueError, match="u has shape"):
        operator.A_adjoint(torch.ones(1, 8, 8))
    with pytest.raises(ValueError, match="needs the shape"):
        load_operator("downsampling", factor=2)
