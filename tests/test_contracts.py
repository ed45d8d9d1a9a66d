"""Every pretrained prior that ships passes the checks, and its card is complete."""

import pytest
import torch

from onmanifold.pretrained import load_prior, prior_card, prior_names
from onmanifold.testing import check_prior


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n == "scene" else []) for n in prior_names()],
)
def test_pretrained_priors_pass_the_checks(name):
    check_prior(load_prior(name), n=4)


@pytest.mark.parametrize("name", prior_names())
def test_the_inverse_is_exact_in_float64_or_claimed_not_to_be(name):
    prior = load_prior(name, dtype=torch.float64)
    if prior.inverse_error > 0:  # check_prior tests the claim
        assert prior.inverse_error < 0.15  # mnist 0.14, all others below 0.1
        return
    points = prior.sample(4, 0)
    x = prior.decode(points)
    assert (prior.encode(x, points.chart).z - points.z).abs().max() < 1e-10


@pytest.mark.parametrize("name", prior_names())
def test_cards_are_complete(name):
    card = prior_card(name)
    for field in ("name", "description", "value_range", "unit", "recipe", "metrics", "licence"):
        assert field in card, field
