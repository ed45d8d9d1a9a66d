"""Functions of numpy arrays as operators: derivatives, gradients, and bad input."""

import numpy as np
import pytest
import torch
from analytic_priors import Circle

from onmanifold import LBFGS, Gaussian, from_numpy, solve
from onmanifold.testing import check_operator

MATRIX = np.random.default_rng(0).normal(size=(4, 6))


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def forward(x):
    return MATRIX @ x.ravel()


def back(u):
    return (MATRIX.T @ u).reshape(2, 3)


def growth(x):
    return np.exp(0.5 * x).cumsum()


def growth_jvp(x, v):
    return (0.5 * np.exp(0.5 * x) * v).cumsum()


def growth_vjp(x, u):
    return (0.5 * np.exp(0.5 * x)) * np.cumsum(u[::-1])[::-1].reshape(x.shape)


@pytest.mark.parametrize("batched", [False, True])
def test_a_linear_function(batched, dtype):
    if batched:
        operator = from_numpy(
            lambda x: x.reshape(len(x), -1) @ MATRIX.T,
            lambda u: (u @ MATRIX).reshape(-1, 2, 3),
            x_shape=(2, 3),
            batched=True,
        )
    else:
        operator = from_numpy(forward, back, x_shape=(2, 3))
    assert (operator.linear, operator.y_shape) == (True, (4,))
    check_operator(operator)
    check_operator(operator, torch.rand(2, 2, 3, dtype=dtype))
    x = torch.rand(2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(operator.A, x)
    assert torch.autograd.gradgradcheck(operator.A, x)


def test_a_nonlinear_function_with_derivatives():
    operator = from_numpy(growth, x_shape=(5,), A_jvp=growth_jvp, A_vjp=growth_vjp)
    assert not operator.linear
    check_operator(operator)
    check_operator(operator, torch.rand(2, 5))
    x = torch.rand(2, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(operator.A, x)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_differences_are_the_derivative(scale):
    """In whatever unit x is, and at x = 0."""
    exact = from_numpy(
        lambda x: growth(x / scale),
        x_shape=(5,),
        A_jvp=lambda x, v: growth_jvp(x / scale, v / scale),
    )
    differences = from_numpy(
        lambda x: growth(x / scale),
        x_shape=(5,),
        A_vjp=lambda x, u: growth_vjp(x / scale, u) / scale,
    )
    check_operator(differences, scale * (0.5 + random(2, 5).abs()))
    x, v = scale * random(2, 5), scale * random(2, 5, seed=1)
    right = exact.A_jvp(x, v)
    assert (differences.A_jvp(x, v) - right).norm() < 1e-9 * right.norm()
    if scale == 1.0:
        zero = torch.zeros(1, 5, dtype=torch.float64)
        torch.testing.assert_close(differences.A_jvp(zero, v[:1]), exact.A_jvp(zero, v[:1]))
        assert not differences.A_jvp(x, torch.zeros_like(v)).any()


def test_solve_needs_no_adjoint():
    prior = Circle()
    truth = torch.tensor([[0.6, 0.8]], dtype=prior.dtype)
    calls = []

    def detector(x):
        calls.append(x)
        return np.array([x[0] ** 3, np.sinh(x[1]), x[0] * x[1]])

    operator = from_numpy(detector, x_shape=(2,))
    found = solve(operator, operator.A(truth), prior, fidelity=Gaussian(0.01))
    assert (found.x - truth).norm() < 1e-3 and len(calls) > 1
    with pytest.raises(
        TypeError, match="detector has no adjoint.*LevenbergMarquardt, which needs none"
    ):
        solve(operator, operator.A(truth), prior, fidelity=Gaussian(0.01), method=LBFGS())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: from_numpy(None, x_shape=(2,)), "A has to be a function of numpy arrays"),
        (lambda: from_numpy(np.exp, 3, x_shape=(2,)), "A_adjoint has to be one such as"),
        (lambda: from_numpy(np.exp, np.exp, x_shape=(2,), linear=False), "pass A_vjp"),
        (lambda: from_numpy(np.fft.fft, x_shape=(4,)), "A returned complex numbers: stack"),
        (lambda: from_numpy(lambda x: "abc", x_shape=(4,)), "array of numbers"),
        (lambda: from_numpy(lambda x: [[1.0], [1.0, 2.0]], x_shape=(4,)), "one array of numbers"),
        (lambda: from_numpy(lambda x: x[0], x_shape=(4,), batched=True), "first axis is the batch"),
        (lambda: from_numpy(np.exp, x_shape=(0,)), "positive sizes"),
        (lambda: from_numpy(np.exp, x_shape=(4,)).A(torch.ones(1, 5)), r"x has shape \(1, 5\)"),
        (
            lambda: from_numpy(forward, lambda u: MATRIX.T @ u, x_shape=(2, 3)).A_vjp(
                None, torch.ones(1, 4)
            ),
            r"A_adjoint returned an array \(6,\) for one of \(4,\), expected \(2, 3\)",
        ),
    ],
)
def test_bad_input(make, says):
    with pytest.raises(ValueError, match=says):
        make()
