"""Controls in flat latent coordinates: what they share with the Riemannian methods, and what not."""

import pytest
import torch
from analytic_priors import ANALYTIC, Affine, Sphere
from descent_cases import problem_for, randn, simulated, warp

from onmanifold import (
    LBFGS,
    ConjugateGradient,
    Gaussian,
    GradientNorm,
    Latent,
    LatentAdam,
    LevenbergMarquardt,
    MaxSteps,
    Point,
    ProjectionRetraction,
    RiemannianGradientDescent,
    SmallDecrease,
)
from onmanifold.descent import build_problem, descend

RIEMANNIAN = [LevenbergMarquardt(), RiemannianGradientDescent(), ConjugateGradient(), LBFGS()]
CONTROLS = [Latent(method) for method in RIEMANNIAN] + [LatentAdam()]


class Unbounded(Sphere):
    """The half sphere without borders, on which a change of coordinates leaves the problem as it is."""

    box = torch.inf

    def sample(self, n, generator=None):
        return Point(torch.zeros(n, dtype=torch.long), 0.8 * randn(n, 2, seed=generator).tanh())


class Warped(Unbounded):
    """The same in other coordinates: ``z = (sinh 2u, 0.3 v + u^2)``."""

    def forward(self, w):
        return torch.stack([torch.sinh(2 * w[:, 0]), 0.3 * w[:, 1] + w[:, 0].square()], dim=1)

    def backward(self, z):
        u = torch.asinh(z[:, 0]) / 2
        return torch.stack([u, (z[:, 1] - u.square()) / 0.3], dim=1)

    def decode_chart(self, z, chart):
        return super().decode_chart(self.forward(z), chart)

    def encode_chart(self, x, chart):
        return self.backward(super().encode_chart(x, chart))

    def sample(self, n, generator=None):
        point = super().sample(n, generator)
        return Point(point.chart, self.backward(point.z))


def paths(method, steps=25):
    """Decoded paths of the same descents in both coordinates, and their numbers of steps."""
    y = warp(Unbounded().decode_chart(0.7 * randn(6, 2, seed=3).tanh(), 0)) + 0.02 * randn(6, 4)
    found = []
    for prior in (Unbounded(), Warped()):
        problem = build_problem(warp, y, prior, Gaussian(0.05), 0.0, ProjectionRetraction())
        stop = MaxSteps(steps) | SmallDecrease(1e-9)
        descent = descend(problem, method, stop, prior.sample(6, 1), keep_path=True)
        x = torch.stack([prior.decode(p) for p in descent.path])
        found.append((x, descent.state.steps))
    return found


@pytest.mark.parametrize("method", RIEMANNIAN, ids=str)
def test_riemannian_methods_do_not_know_the_coordinates(method):
    (x, steps), (other, others) = paths(method)
    assert torch.equal(steps, others)
    assert steps.max() > 3
    assert (x - other).abs().max() < 1e-6


@pytest.mark.parametrize("method", CONTROLS, ids=str)
def test_euclidean_controls_do(method):
    (x, _), (other, _) = paths(method)
    gap = (x[1:4] - other[1:4]).flatten(2).norm(dim=2).amax(0)
    assert gap.median() > 1e-2


@pytest.mark.parametrize("name", sorted(ANALYTIC))
def test_adam_ends_where_the_others_do(name):
    prior = ANALYTIC[name]()
    problem = problem_for(prior, simulated(prior))
    start = problem.at(prior.sample(5, 9)).point
    close = descend(problem, LatentAdam(0.02), MaxSteps(600), start)
    best = descend(
        problem, LevenbergMarquardt(), MaxSteps(100) | GradientNorm(1e-7), close.state.point
    )
    assert (close.history.objective.diff(dim=0) <= 0).all()
    assert torch.allclose(close.state.objective, best.state.objective, rtol=1e-2, atol=1e-2)


def test_first_steps_of_adam_are_as_long_as_its_rate():
    prior = Affine()
    problem = problem_for(prior, simulated(prior))
    start = prior.sample(5, 9)
    state = LatentAdam(0.01).init(problem, start)
    after = LatentAdam(0.01).step(problem, state)
    gone = (after.iterate.z - start.z).abs()
    assert torch.allclose(gone, torch.full_like(gone, 0.01))


def test_adam_stays_with_the_best_point_it_has_seen():
    prior = Affine()
    problem = problem_for(prior, simulated(prior))
    rate = LatentAdam(5.0)  # overshoots
    state = rate.init(problem, prior.sample(5, 9))
    for _ in range(5):
        state = rate.step(problem, state)
    assert not torch.equal(state.iterate.z, state.point.z)
    here = problem.at(state.point)
    assert torch.equal(here.objective, state.objective)
    assert (state.objective <= problem.at(state.iterate).objective).all()


def test_adams_rate_is_checked():
    with pytest.raises(ValueError, match="LatentAdam: rate"):
        LatentAdam(rate=0.0)
