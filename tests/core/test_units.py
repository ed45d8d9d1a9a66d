"""The unit of the measurement does not matter: operator and measurement times c give the same x."""

from __future__ import annotations

import pytest
import torch
from analytic_priors import Circle

from onmanifold import (
    LBFGS,
    ConjugateGradient,
    Gaussian,
    GradientNorm,
    Latent,
    LatentAdam,
    LevenbergMarquardt,
    MaxSteps,
    RiemannianGradientDescent,
    StudentT,
    solve,
)

METHODS = [
    LevenbergMarquardt(),
    RiemannianGradientDescent(),
    ConjugateGradient(),
    LBFGS(),
    Latent(LBFGS()),
    LatentAdam(),
]
FIDELITIES = {
    "least squares": lambda c: {},
    "Gaussian": lambda c: {"fidelity": Gaussian(0.1 * c)},
    "Student": lambda c: {"fidelity": StudentT(0.1 * c)},
    "unit deviation": lambda c: {"fidelity": Gaussian(1.0), "prior_weight": 0.0},
    "function": lambda c: {
        "fidelity": lambda p, y: (p - y).square().flatten(1).sum(1),
        "prior_weight": 0.0,
    },
}


def curved(x):
    return torch.cat([x, x.prod(1, keepdim=True)], dim=1)


def solved(c, method, options, starts=3, **more):
    y = torch.tensor([[0.55, 0.7, 0.5], [-0.9, 0.3, -0.2]])
    prior = Circle(dtype=torch.float32)
    return solve(
        lambda x: c * curved(x), c * y, prior, starts=starts, method=method, **options, **more
    )


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("fidelity", FIDELITIES)
def test_the_unit_of_the_measurement_does_not_matter(fidelity, method):
    expected = solved(1.0, method, FIDELITIES[fidelity](1.0))
    for c in (1e-12, 1e-6, 1e6, 1e12):
        found = solved(c, method, FIDELITIES[fidelity](c))
        assert (found.x - expected.x).abs().max() < 1e-3, c
        assert found.status == expected.status or found.converged.all()


def test_what_is_reported_is_in_the_unit_of_the_measurement():
    seen = []
    one = solved(1.0, None, {}, starts=1)
    many = solved(1e6, None, {}, starts=1, callback=lambda s: seen.append(s.misfit))
    for name in ("misfit", "objective"):
        assert torch.allclose(getattr(many, name), 1e12 * getattr(one, name), rtol=1e-3)
    assert torch.allclose(
        many.history.gradient_norm[0], 1e12 * one.history.gradient_norm[0], rtol=1e-3
    )
    assert torch.allclose(seen[-1], many.misfit, rtol=1e-3)


def test_a_gradient_s_tolerance_is_in_the_unit_of_the_measurement():
    ended = []
    for c, tolerance in ((1.0, 1e-2), (1e3, 1e4), (1e3, 1e-2)):
        stop = MaxSteps(50) | GradientNorm(tolerance)
        ended.append(solved(c, RiemannianGradientDescent(), {}, starts=1, stop=stop).steps)
    assert torch.equal(ended[0], ended[1])
    assert (ended[2] > ended[1]).all()
