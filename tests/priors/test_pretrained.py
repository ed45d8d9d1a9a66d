"""The priors that ship: laws, cards, what they reconstruct, what was never seen in training."""

import pytest
import torch

from onmanifold import Gaussian, load_manifold, load_prior, prior_names, simulate, solve
from onmanifold.operators import Blur, gaussian_kernel
from onmanifold.priors.evaluation import held_out_metrics
from onmanifold.priors.manifolds import Bar, TwoCircles, stream
from onmanifold.priors.recipe import Recipe
from onmanifold.registry import prior_card
from onmanifold.testing import check_prior

NAMES = ["bar", "tank", "two-balls", "two-circles"]


def test_what_ships():
    assert set(NAMES) <= set(prior_names())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_laws(name, dtype):
    check_prior(load_prior(name, dtype=dtype))


@pytest.mark.parametrize("name", NAMES)
def test_card_states_what_the_recipe_says_and_what_held_out_data_give(name):
    card, recipe = prior_card(name), Recipe.read(name)
    assert card["recipe"]["schedule"] == recipe.schedule and card["recipe"]["seed"] == recipe.seed
    assert card["config"]["dim"] == recipe.atlas["dim"]
    for field in ("description", "value_range", "unit", "licence", "training_data"):
        assert card[field]
    n = 200
    metrics = held_out_metrics(load_prior(name), load_manifold(recipe.data["name"]), n=n)
    told = card["metrics"]
    assert metrics["decode_encode"] < 1e-4
    assert metrics["relative_error"] == pytest.approx(told["relative_error"], rel=0.2, abs=1e-3)


def test_every_chart_of_the_circles_is_used_and_covers_them():
    prior = load_prior("two-circles")
    point = prior.sample(2000, 0)
    assert len(point.chart.unique()) == 4
    near = TwoCircles().distance(prior.decode(point.z, point.chart)) < 0.07
    assert near.float().mean() > 0.99
    truth = TwoCircles(noise=0.0).sample(2000, stream(0, "held-out"))[0]
    found = prior.locate(truth)
    gap = (prior.decode(found.z.clamp(-1, 1), found.chart) - truth).norm(dim=1)
    assert (gap < 0.07).float().mean() > 0.99


def test_held_out_bars_are_found_up_to_what_the_noise_allows():
    truth, _ = Bar().sample(5, stream(0, "held-out", 3))
    operator = Blur(gaussian_kernel(40, 15.0), (1, 128, 128))
    y = simulate(operator, truth, 0.1, 0)
    solution = solve(operator, y, load_prior("bar"), fidelity=Gaussian(0.1))
    assert solution.converged.all()
    at_truth = (operator.A(truth) - y).flatten(1).square().sum(dim=1) / (2 * 0.1**2)
    assert (solution.misfit < 1.002 * at_truth).all()
    # one call for all measurements equals one call for each
    alone = solve(operator, y[2:3], load_prior("bar"), fidelity=Gaussian(0.1))
    torch.testing.assert_close(alone.x[0], solution.x[2], rtol=0, atol=2e-3)
