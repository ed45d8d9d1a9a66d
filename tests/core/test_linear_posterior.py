"""The Gaussian posterior of a linearized operator, against closed forms."""

import numpy as np
import pytest
import torch

from onmanifold import Gaussian, as_operator
from onmanifold.operator import linearize
from onmanifold.posterior import linear_posterior, ray_reductions
from onmanifold.posterior.linear import most_likely_variance

DOUBLE = torch.float64


def test_the_most_likely_variance_is_that_of_the_prior():
    source = np.random.default_rng(0)
    curvature = np.exp(source.uniform(-3, 6, 4000))
    for variance in (0.01, 0.3, 4.0):
        # b = h c + sqrt(h) e: what the voltages say of coordinates c, with unit noise e
        c, e = np.sqrt(variance) * source.standard_normal(4000), source.standard_normal(4000)
        found = most_likely_variance(curvature, curvature * c + np.sqrt(curvature) * e)
        assert found == pytest.approx(variance, rel=0.15)


def test_the_posterior_of_a_linear_operator_is_that_of_the_closed_form():
    source = torch.Generator().manual_seed(0)
    matrix, modes = (torch.randn(5, 4, generator=source, dtype=DOUBLE) for _ in range(2))
    background = torch.randn(4, generator=source, dtype=DOUBLE)
    operator = as_operator(lambda x: x @ matrix.T, (4,), dtype=DOUBLE)
    y = 2 * torch.randn(3, 5, generator=source, dtype=DOUBLE)
    found = linear_posterior(operator, y, Gaussian(0.5), modes, background)
    for b in range(3):
        covariance = found.variance[b] * modes.T @ modes  # the prior's, of x
        noise = 0.25 * torch.eye(5, dtype=DOUBLE)
        gain = covariance @ matrix.T @ torch.linalg.inv(matrix @ covariance @ matrix.T + noise)
        mean = background + gain @ (y[b] - matrix @ background)
        left = covariance - gain @ matrix @ covariance
        torch.testing.assert_close(found.mean[b], mean, rtol=0, atol=1e-9)
        torch.testing.assert_close(found.std[b], left.diagonal().sqrt(), rtol=0, atol=1e-9)


def test_bad_input_is_refused():
    operator = as_operator(lambda x: x, (4,), dtype=DOUBLE)
    y = torch.zeros(1, 4, dtype=DOUBLE)
    with pytest.raises(ValueError, match="modes has shape"):
        linear_posterior(operator, y, Gaussian(1.0), torch.zeros(2, 3, dtype=DOUBLE))
    with pytest.raises(ValueError, match="measurement has shape"):
        linear_posterior(operator, y[0], Gaussian(1.0), torch.zeros(2, 4, dtype=DOUBLE))


def test_reductions_along_rays_are_those_of_the_best_amplitudes():
    source = torch.Generator().manual_seed(3)
    matrix, directions = (torch.randn(5, 4, generator=source, dtype=DOUBLE) for _ in range(2))
    directions[4] = 0.0
    operator = as_operator(lambda x: x @ matrix.T, (4,), dtype=DOUBLE)
    x, y = (torch.randn(1, n, generator=source, dtype=DOUBLE) for n in (4, 5))
    fidelity = Gaussian(0.5).bind(y)
    found = ray_reductions(linearize(operator, x), fidelity, y, directions)
    t = torch.linspace(0, 20, 20_001, dtype=DOUBLE)[:, None]
    best = [fidelity.value(operator.A(x + t * d), y).min() for d in directions]
    expected = fidelity.value(operator.A(x), y) - torch.stack(best)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (found == 0).sum() >= 2 and (found > 0.1).sum() >= 2  # uphill and downhill ones
