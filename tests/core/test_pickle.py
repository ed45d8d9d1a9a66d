"""Priors, fidelities, solutions and posteriors go through pickle and deepcopy, and come back equal."""

from __future__ import annotations

import copy
import pickle
from dataclasses import fields, is_dataclass

import pytest
import torch
from analytic_priors import Circle
from torch import nn

from onmanifold import (
    LBFGS,
    ConjugateGradient,
    CorrelatedGaussian,
    FunctionFidelity,
    Gaussian,
    LevenbergMarquardt,
    MaxSteps,
    Poisson,
    SmallDecrease,
    StudentT,
    as_operator,
    load_prior,
    solve,
)
from onmanifold.operators import Blur, Mask, gaussian_kernel
from onmanifold.posterior import laplace, sample_posterior

COPIES = [lambda v: pickle.loads(pickle.dumps(v)), copy.deepcopy]
MATRIX = torch.tensor([[1.0, 0.2], [0.0, 1.0], [0.5, 0.5]], dtype=torch.float64)
ROOT = torch.tensor([[1.0, 0, 0], [0.3, 1, 0], [0.1, 0.2, 1]], dtype=torch.float64)
MASK = torch.tensor([True, True, False])


def squares(p, y):
    return (p - y).square().sum(1)


FIDELITIES = [
    Gaussian(0.1, MASK),
    StudentT(0.1),
    Poisson(2.0),
    CorrelatedGaussian(ROOT @ ROOT.mT, MASK),
    CorrelatedGaussian.low_rank(0.1, ROOT[:, :1]),
    FunctionFidelity(squares),
]


def same(a, b):
    """Whether two objects hold the same, fields and tensors compared."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0)) and a.dtype == b.dtype
    if isinstance(a, nn.Module):
        pairs = zip(a.state_dict().items(), b.state_dict().items(), strict=True)
        return all(n == m and same(v, w) for (n, v), (m, w) in pairs)
    if is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b)


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("fidelity", FIDELITIES, ids=lambda f: type(f).__name__)
def test_fidelities_bound_or_not(fidelity, copied):
    y = torch.tensor([[1.0, 2.0, 1.5], [0.5, 0.4, 0.3]], dtype=torch.float64)
    expected = fidelity.bind(y)
    for again in (
        copied(fidelity).bind(y),
        copied(expected),
        copied(expected.select(torch.arange(2))),
    ):
        assert torch.equal(again.value(y + 0.1, y), expected.value(y + 0.1, y))
        assert torch.equal(again.gradient(y + 0.1, y), expected.gradient(y + 0.1, y))


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("fidelity", FIDELITIES, ids=lambda f: type(f).__name__)
def test_solutions_and_posteriors(fidelity, copied):
    operator, prior = as_operator(MATRIX, (2,)), Circle()
    y = operator.A(prior.decode(prior.sample(2, 1))).abs() + 0.01
    solution = solve(operator, y, prior, fidelity=fidelity, starts=2, trajectory=True)
    assert same(copied(solution), solution)
    posterior = laplace(solution)
    again = copied(posterior)
    assert same(again, posterior)
    assert torch.equal(again.x(5, 0), posterior.x(5, 0))
    assert torch.equal(laplace(copied(solution)).log_evidence, posterior.log_evidence)


@pytest.mark.filterwarnings("ignore::onmanifold.posterior.NotMixed")
@pytest.mark.parametrize("copied", COPIES)
def test_samples(copied):
    operator, prior = as_operator(MATRIX, (2,)), Circle()
    y = operator.A(prior.decode(prior.sample(1, 1)))
    solution = solve(operator, y, prior, fidelity=Gaussian(0.1), starts=2)
    samples = sample_posterior(solution, draws=20, warmup=20, seed=0)
    assert same(copied(samples), samples)


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("name", ["ring", "two-circles", "sundial"])
def test_pretrained_priors(name, copied):
    prior = load_prior(name)
    again, point = copied(prior), prior.sample(3, 0)
    assert torch.equal(again.decode(point), prior.decode(point))
    assert torch.equal(again.log_prob(point), prior.log_prob(point))
    assert torch.equal(again.sample(3, 0).z, point.z)


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize(
    "operator",
    [
        Blur(gaussian_kernel(3, std=1.0), (1, 6, 6)),
        Mask(torch.eye(6, dtype=torch.bool), (1, 6, 6)),
        as_operator(torch.rand(4, 36), (1, 6, 6)),
        as_operator(torch.sin, (1, 6, 6)),
    ],
    ids=lambda o: type(o).__name__,
)
def test_operators(operator, copied):
    x = torch.rand(2, 1, 6, 6)
    expected = operator.A(x)
    assert torch.equal(copied(operator).A(x), expected)


@pytest.mark.parametrize("copied", COPIES)
def test_methods_and_rules(copied):
    for value in (
        LevenbergMarquardt(),
        LBFGS(),
        ConjugateGradient(),
        MaxSteps(3),
        SmallDecrease(0.1),
    ):
        assert copied(value) == value
    both = MaxSteps(3) | SmallDecrease(0.1)
    assert copied(both) == both
