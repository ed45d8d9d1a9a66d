"""Operators are examined before the first step; the verdict does not depend on the method."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from analytic_priors import Circle
from torch import nn

from onmanifold import LBFGS, Autodiff, LevenbergMarquardt, as_operator, solve
from onmanifold.examination import DerivativeWarning, examine

METHODS = [LevenbergMarquardt(), LBFGS()]


def numpy_function(x):
    return torch.from_numpy(2 * x.numpy())


def through_numpy(x):
    return torch.from_numpy(2 * x.detach().numpy())


class Class(Autodiff):
    x_shape, y_shape, linear = (2,), (2,), False

    def __init__(self, function):
        self.function = function

    def A(self, x):
        return self.function(x)


def wrongly_scaled(x):
    return x + (x.square() - x.square().detach())


class Own:
    """An operator with derivatives of its own."""

    x_shape, y_shape, linear = (2,), (2,), True

    def __init__(self, factor):
        self.factor = factor

    def A(self, x):
        return 2 * x

    def A_jvp(self, x, v):
        return self.factor * v

    def A_vjp(self, x, u):
        return self.factor * u


class Halved(torch.autograd.Function):
    """Half of x, without a forward derivative."""

    @staticmethod
    def forward(ctx, x):
        return x / 2

    @staticmethod
    def backward(ctx, grad):
        return grad / 2


def changes_its_argument(x):
    x *= 2
    return x.clone()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("wrap", [lambda f: f, Class])
@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda x: 2 * x.detach(), TypeError, "does not tell autograd how its values depend on x"),
        (torch.no_grad()(lambda x: 2 * x), TypeError, "made of torch operations"),
        (through_numpy, TypeError, "no numpy"),
        (numpy_function, TypeError, "cannot be differentiated by autograd"),
        (lambda x: (x > 0).to(x), TypeError, "does not tell autograd"),
        (lambda x: 10 * x.round(decimals=1), ValueError, "its derivative is zero there"),
        (lambda x: x.float(), TypeError, "returned torch.float32 for x of torch.float64"),
        (lambda x: (255 * x).round().int(), TypeError, "returned torch.int32"),
        (lambda x: x > 0, TypeError, "returned torch.bool"),
        (torch.fft.fft, TypeError, "stack real and imaginary part"),
        (lambda x: x + 0.01 * torch.randn_like(x), ValueError, "when called again"),
        (lambda x: x - x.mean(0), ValueError, r"in another batch.*eval\(\)"),
        (changes_its_argument, ValueError, "changes its argument"),
        (lambda x: x[:, :1], ValueError, r"returned shape|expected \(B, 1\)"),
    ],
)
def test_operators_that_mislead_are_refused(function, wrap, method, error, message):
    y = torch.ones(1, 2, dtype=torch.float64)
    with pytest.raises(error, match=message):
        solve(wrap(function), y, Circle(), starts=2, method=method)


@pytest.mark.parametrize("operator", [wrongly_scaled, Class(wrongly_scaled), Own(1.0), Own(-2.0)])
def test_a_wrong_derivative_is_told(operator):
    samples = torch.tensor([[1.0, 0.2], [0.3, 0.9]], dtype=torch.float64)
    with pytest.warns(DerivativeWarning, match="differs from difference quotients by"):
        examine(as_operator(operator, (2,), dtype=torch.float64), samples)


def test_a_derivative_of_zero_is_refused_in_classes_of_their_own():
    samples = torch.tensor([[1.0, 0.2], [0.3, 0.9]], dtype=torch.float64)
    with pytest.raises(ValueError, match="its derivative is zero there"):
        examine(Own(0.0), samples)


@pytest.mark.parametrize(
    "function",
    [
        torch.exp,
        torch.abs,
        torch.relu,
        lambda x: x.clamp(-0.5, 0.5),
        lambda x: 1e8 * x,
        lambda x: x * 1e-9,
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_operators_that_are_right_pass(function, dtype):
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        samples = torch.randn(2, 2, generator=generator, dtype=dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            examine(as_operator(function, (2,), dtype=dtype), samples)


def test_a_constant_takes_a_word_of_its_author():
    def zero(x):
        return torch.zeros(len(x), 2, dtype=x.dtype)

    y = torch.ones(1, 2, dtype=torch.float64)
    with pytest.raises(TypeError, match="constant=True"):
        solve(zero, y, Circle(), starts=2)
    constant = as_operator(zero, (2,), dtype=torch.float64, constant=True)
    assert solve(constant, y, Circle(), starts=2).misfit == 1.0


@pytest.mark.parametrize("method", METHODS)
def test_functions_without_a_forward_derivative_are_solved(method):
    y = torch.tensor([[0.4, 0.3]], dtype=torch.float64)
    solution = solve(Halved.apply, y, Circle(), starts=4, method=method)
    assert torch.allclose(solution.x, torch.tensor([[0.8, 0.6]], dtype=torch.float64), atol=1e-5)


def test_networks_are_called_in_evaluation_mode():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout()).double()
    trained = copy.deepcopy(network).eval()
    y = trained(torch.tensor([[0.6, 0.8]], dtype=torch.float64)).detach()
    expected = solve(trained, y, Circle(), starts=2)
    found = solve(network, y, Circle(), starts=2)
    assert torch.equal(found.x, expected.x)
    assert network.training
    assert not network[1].running_mean.any()


def test_the_operator_is_called_a_few_times_only():
    calls = 0

    class Counted(Own):
        def A(self, x):
            nonlocal calls
            calls += 1
            return super().A(x)

    examine(Counted(2.0), torch.eye(2))
    assert calls == 3
