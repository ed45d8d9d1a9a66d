"""The component around a mode: of two widths along each axis, against closed forms and integration."""

import math

import torch
from analytic_priors import Affine
from posterior_cases import DOUBLE, STOP, linear

from onmanifold import Gaussian, OutsideDomain, simulate, solve
from onmanifold.initial_points import objectives
from onmanifold.posterior.component import TwoPieceNormal, component_at, split_component
from onmanifold.posterior.laplace import mixture
from onmanifold.posterior.modes import find_modes


def components(operator, y, prior, std):
    """The one mode of a measurement with its normal component, and the same component split."""
    solution = solve(operator, y, prior, fidelity=Gaussian(std), stop=STOP)
    problem = solution.problem
    modes, _ = find_modes(problem, solution)
    normal = component_at(problem, modes)
    return (
        problem,
        modes,
        normal,
        split_component(problem.prior, modes, normal, lambda point: objectives(problem, point)[0]),
    )


def test_a_normal_posterior_has_widths_1():
    prior = Affine(dim=3, size=6)
    _, operator = linear(prior)
    y = simulate(operator, prior.decode_chart(torch.ones(1, 3, dtype=DOUBLE), 0), 0.5, 2)
    problem, modes, normal, halved = components(operator, y, prior, 0.5)
    one = torch.ones(1, 3, dtype=DOUBLE)
    torch.testing.assert_close(halved.low, one, atol=1e-6, rtol=0)
    torch.testing.assert_close(halved.high, one, atol=1e-6, rtol=0)
    torch.testing.assert_close(halved.log_mass(), normal.log_mass(), atol=1e-6, rtol=0)
    found = mixture(problem, modes, halved, torch.zeros(1, 1, dtype=torch.long))
    expected = mixture(problem, modes, normal, torch.zeros(1, 1, dtype=torch.long))
    torch.testing.assert_close(found.covariance, expected.covariance, atol=1e-6, rtol=0)


def line(dim):
    """Coordinates that are the unknown itself."""
    prior = Affine(dim=dim, size=dim)
    prior.matrix.copy_(torch.eye(dim, dtype=DOUBLE))
    prior.centre.zero_()
    return prior


def bent(x):
    """Flat to first order at 0 in the second entry; steeper above 0 than below."""
    return torch.stack([x[:, 0], 1.5 * x[:, 1].square() + x[:, 1].clamp(min=0.0).pow(3)], dim=1)


def test_widths_bring_evidence_and_moments_near_those_by_integration():
    prior = line(2)
    y = torch.zeros(1, 2, dtype=DOUBLE)
    _, _, normal, halved = components(bent, y, prior, 1.0)
    axis = torch.linspace(-8, 8, 1601, dtype=DOUBLE)
    z = torch.cartesian_prod(axis, axis)
    density = (
        -0.5 * bent(prior.decode_chart(z, 0)).square().sum(1) - 0.5 * z.square().sum(1)
    ).exp()
    evidence = (density.sum() * 0.01**2).log()
    assert abs(halved.log_mass() - evidence) < 0.25 * abs(normal.log_mass() - evidence)
    share = density / density.sum()
    mean = share @ z
    spread = (share @ (z - mean).square()).sqrt()
    covariance = halved.root() @ halved.root().mT
    found = covariance[0].diagonal().sqrt()
    plain = (normal.root() @ normal.root().mT)[0].diagonal().sqrt()
    torch.testing.assert_close(found[0], spread[0], atol=1e-3, rtol=0)
    assert (found[1] - spread[1]).abs() < 0.35 * (plain[1] - spread[1]).abs()
    assert mean[1] < -0.01
    assert halved.mean()[0, 1] < -0.01


def test_draws_have_the_mean_and_the_covariance_that_a_component_says():
    axes = torch.tensor([[2.0, 0.3], [0.0, 0.5]], dtype=DOUBLE)
    none = torch.zeros(1, 2, dtype=DOUBLE)
    component = TwoPieceNormal(
        mode=torch.tensor([[1.0, -1.0]], dtype=DOUBLE),
        axes=axes[None],
        low=torch.tensor([[0.4, 1.0]], dtype=DOUBLE),
        high=torch.tensor([[1.2, 0.1]], dtype=DOUBLE),
        log_size=torch.tensor([math.log(2 * math.pi)], dtype=DOUBLE),
        border=none[:, None].expand(1, 2, 2),
        inward=none,
        slope=none,
        curvature=none + 1,
    )
    many = component.select(torch.zeros(200_000, dtype=torch.long))
    drawn = many.sample(torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.mean(0), component.mean()[0], atol=0.01, rtol=0)
    covariance = (component.root() @ component.root().mT)[0]
    torch.testing.assert_close(drawn.T.cov(), covariance, atol=0.02, rtol=0)
    u = torch.linalg.solve(axes, (drawn - component.mode).T)
    below = (u < 0).double().mean(1)
    torch.testing.assert_close(
        below, torch.tensor([0.25, 1 / 1.1], dtype=DOUBLE), atol=0.005, rtol=0
    )
    torch.testing.assert_close(u[0][u[0] > 0].square().mean().sqrt().item(), 1.2, atol=0.01, rtol=0)


def test_an_axis_that_leads_out_of_the_domain_is_thin():
    prior = line(1)

    def short(x):
        out = (x > 0.5).flatten()
        if bool(out.any()):
            raise OutsideDomain("too long", out)
        return 0 * x

    _, _, _, halved = components(short, torch.zeros(1, 1, dtype=DOUBLE), prior, 1.0)
    widths = sorted([halved.low.item(), halved.high.item()])
    assert widths[0] < 0.05
    assert abs(widths[1] - 1) < 1e-6
    assert torch.isfinite(halved.log_mass())
