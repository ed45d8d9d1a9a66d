"""The sampler's global proposal: a density, and its adaptation to posteriors."""

import pytest
import torch
from analytic_priors import Sine
from posterior_cases import DOUBLE, STOP, on_a_grid, two_points

from onmanifold import Gaussian, Point, solve
from onmanifold.posterior import laplace
from onmanifold.posterior.proposal import StudentMixture, _log_target, adapted


def on_a_line(mixture, box, charts, cells=8000):
    """The density of the mixture of one measurement in even cells of each chart, ``(K, cells)``."""
    edges = torch.linspace(-box, box, cells + 1, dtype=DOUBLE)
    z = (0.5 * (edges[1:] + edges[:-1])).unsqueeze(1)
    each = [mixture.log_prob(Point(torch.full((cells,), k), z)).exp() for k in range(charts)]
    return torch.stack(each) * (2 * box / cells)


@pytest.mark.parametrize("divided", [False, True])
def test_the_mixture_is_a_density_over_all_charts(divided):
    _, prior, _, solution = two_points()
    mixture = StudentMixture.of(laplace(solution))
    mixture = mixture.divided() if divided else mixture
    mass = on_a_line(mixture, 60.0, prior.num_charts)
    assert mass.sum() == pytest.approx(1.0, abs=1e-3)
    point = mixture.sample(4000, torch.Generator().manual_seed(0))
    share = (point.chart == 0).double().mean()
    assert share == pytest.approx(float(mass[0].sum()), abs=0.03)


def bent():
    """A posterior on a curve with bends, far from normal."""
    prior, y = Sine(), torch.tensor([[0.3, 0.4]], dtype=DOUBLE)

    def operator(x):
        return x[:, :2] ** 3 + x[:, :2]

    return operator, prior, y, solve(operator, y, prior, fidelity=Gaussian(0.6), stop=STOP)


def apart(mixture, mass, box):
    """Total variation between the mixture and the posterior on a grid."""
    own = on_a_line(mixture, box, *mass.shape)
    return 0.5 * float((own - mass).abs().sum())


@pytest.mark.parametrize("make", [bent, two_points])
def test_the_adapted_mixture_is_near_the_posterior(make):
    operator, prior, y, solution = make()
    mass, _ = on_a_grid(operator, prior, y, 0.6 if make is bent else 0.04, cells=8000)
    first = StudentMixture.of(laplace(solution))
    source = torch.Generator().manual_seed(1)
    fitted = adapted(first.divided(), solution.problem, 5, 100, source)
    before, after = (apart(m, mass, prior.box) for m in (first, fitted))
    assert after < 0.15
    assert after < before or before < 0.1  # two narrow modes are nearly normal


def test_points_where_the_posterior_is_not_defined_weigh_nothing():
    *_, solution = bent()
    outside = Point(torch.zeros(2, dtype=torch.long), torch.tensor([[0.1], [1e3]], dtype=DOUBLE))
    problem = solution.problem.select(torch.zeros(2, dtype=torch.long))
    density = _log_target(problem, outside)
    assert torch.isfinite(density[0]) and density[1] == -torch.inf


def test_nothing_to_adapt_to_leaves_the_mixture():
    """Where no point has any mass, as of an operator that is defined nowhere near."""
    *_, solution = bent()
    mixture = StudentMixture.of(laplace(solution)).divided()
    far = StudentMixture(
        mixture.chart, mixture.active, mixture.mean + 1e4, mixture.factor, mixture.weight, DOUBLE
    )
    same = adapted(far, solution.problem, 2, 50, torch.Generator().manual_seed(2))
    assert torch.equal(same.mean, far.mean) and torch.equal(same.weight, far.weight)


def test_measurements_are_adapted_to_each_alone():
    operator, prior, y, _ = bent()
    both = torch.cat([y, y + 0.8])
    solution = solve(operator, both, prior, fidelity=Gaussian(0.6), stop=STOP)
    mixture = StudentMixture.of(laplace(solution)).divided()
    fitted = adapted(mixture, solution.problem, 5, 100, torch.Generator().manual_seed(3))
    for b in range(2):
        mass, _ = on_a_grid(operator, prior, both[b : b + 1], 0.6, cells=8000)
        alone = StudentMixture(
            *(
                getattr(fitted, name)[b : b + 1]
                for name in ("chart", "active", "mean", "factor", "weight")
            ),
            DOUBLE,
        )
        assert apart(alone, mass, prior.box) < 0.2
