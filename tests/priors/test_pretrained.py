"""The priors that ship: checks, cards, what they reconstruct, what was never seen in training."""

import math
from pathlib import Path

import pytest
import torch

from onmanifold import Gaussian, load_dataset, load_prior, prior_names, simulate, solve
from onmanifold.operators import Blur, gaussian_kernel
from onmanifold.pretrained import prior_card
from onmanifold.prior import Point
from onmanifold.priors.atlas.diagnostics import (
    chart_distances,
    components,
    coverage,
    held_out,
    overlap_graph,
    overlap_tolerance,
    responsibilities,
)
from onmanifold.priors.datasets import Bar, TorusDisk, stream
from onmanifold.priors.flat import GeodesicPairs
from onmanifold.priors.flat.embedding import quotients
from onmanifold.priors.training.evaluation import held_out_metrics
from onmanifold.priors.training.recipe import Recipe
from onmanifold.testing import check_prior

POINTS = ["ring", "sphere", "swiss-roll", "torus", "two-circles"]
ATLASES = ["bar", *POINTS, "two-balls"]
FLAT = ["rotating-object", "sundial", "torus-disk"]
READ = ["fashion", "mnist"]  # of data in files
NAMES = [*ATLASES, *FLAT, *READ, "lit-ball", "outline"]
CHARTS = {"ring": 2, "sphere": 2, "swiss-roll": 4, "torus": 6, "two-circles": 4}
ONE_CHART = Path(__file__).parents[2] / "benchmarks" / "one_chart"


def test_what_ships():
    assert set(NAMES) <= set(prior_names())


LONG = ("fashion", "lit-ball", "mnist", "rotating-object")  # minutes each


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in NAMES],
)
def test_properties_in_double_precision(name):
    """In single precision: tests/test_laws.py."""
    check_prior(load_prior(name, dtype=torch.float64))


@pytest.mark.parametrize("name", NAMES)
def test_card_states_what_the_recipe_says_and_what_held_out_data_give(name, request, monkeypatch):
    if name in READ:
        monkeypatch.setenv("ONMANIFOLD_DATA", str(request.getfixturevalue("shared_data")))
    card, recipe = prior_card(name), Recipe.read(name)
    assert card["recipe"]["schedule"] == recipe.schedule and card["recipe"]["seed"] == recipe.seed
    for key, value in recipe.model.items():
        assert card["config"][key] == value, key
    for field in ("description", "value_range", "unit", "licence", "training_data"):
        assert card[field]
    n = 200
    metrics = held_out_metrics(load_prior(name), load_dataset(recipe.data["name"]), n=n)
    stated = card["metrics"]
    if name in ATLASES:
        assert metrics["decode_encode"] < 1e-4
    else:  # a learned inverse
        assert metrics["inverse_error"] == stated["inverse_error"] > 0
    assert metrics["relative_error"] == pytest.approx(stated["relative_error"], rel=0.2, abs=1e-3)


@pytest.mark.parametrize("name", FLAT)
def test_flat_encoders_keep_distances_and_hardly_bend(name):
    pairs = GeodesicPairs(load_dataset(name), 0.5).draw(2000, stream(0, "held-out", 5))
    p, b = quotients(load_prior(name).encoder, pairs)
    share = ((p - 1).abs() <= 0.1).double().mean()
    assert share > (0.85 if name == "rotating-object" else 0.95)
    assert b.square().sum(dim=1).mean() < {"sundial": 0.5, "torus-disk": 0.8}.get(name, 4.0)


def test_disks_all_around_the_torus_have_codes_of_their_own():
    """Circles of radius 1, once around: none of the torus is wrapped twice or crumpled."""
    prior, data = load_prior("torus-disk"), TorusDisk()
    x, _ = data.sample(2000, stream(0, "held-out", 5))
    codes = prior.codes(x)
    spread = torch.linalg.svdvals(codes - codes.mean(dim=0)) / len(x) ** 0.5
    torch.testing.assert_close(spread, torch.full((4,), 0.5**0.5), rtol=0.06, atol=0)


@pytest.mark.parametrize("name", POINTS)
def test_atlases_cover_their_manifold_and_nothing_else(name):
    prior, data = load_prior(name), load_dataset(name)
    assert prior.num_charts == CHARTS[name]
    found = coverage(prior, data, n=10_000, seed=1)
    assert found.tolerance == pytest.approx(3 * data.noise + 0.02 * found.diameter)
    assert found.covered >= 0.99 and found.on_manifold >= 0.99
    assert (responsibilities(prior, held_out(data, 2000)).mean(dim=0) > 0.02).all()


@pytest.mark.parametrize("name", ["two-circles", "sphere", "torus"])
def test_one_chart_does_not(name):
    found = coverage(load_prior(ONE_CHART / f"{name}-1"), load_dataset(name), n=2000)
    assert min(found.covered, found.on_manifold) < 0.9


@pytest.mark.parametrize("name", [*POINTS, "bar", "two-balls"])
def test_the_overlap_graph_has_the_topology_of_the_manifold(name):
    prior, data = load_prior(name), load_dataset(name)
    x = held_out(data, 2000 if len(data.x_shape) == 1 else 200)
    shares = overlap_graph(prior, overlap_tolerance(prior, x))
    for threshold in (0.005, 0.01, 0.02):
        groups = components(shares, threshold)
        assert len(groups) == (2 if name == "two-circles" else 1)


def test_bars_at_all_angles_need_two_charts():
    degrees = torch.arange(360.0)[:, None]
    distance = chart_distances(load_prior("bar"), Bar().render(degrees * math.pi / 180))
    assert (20 * torch.log10(128 / distance.amin(dim=1))).min() > 38
    one = load_prior(ONE_CHART / "bar-1")
    ends = one.decode(Point(torch.zeros(2, dtype=torch.long), torch.tensor([[-1.0], [1.0]])))
    bars = Bar().render(degrees * math.pi / 180).flatten(1)
    # both ends are bars, so somewhere the encoder jumps between them
    assert (torch.cdist(ends.flatten(1), bars).amin(dim=1) < 2).all()
    fine = torch.arange(0, 180, 0.05)[:, None]
    distance = chart_distances(one, Bar().render(fine * math.pi / 180))
    assert (20 * torch.log10(128 / distance)).min() < 30


def test_held_out_balls_are_reconstructed():
    x = held_out(load_dataset("two-balls"), 100, seed=1)
    distance = chart_distances(load_prior("two-balls"), x)
    assert (20 * torch.log10(128 / distance.amin(dim=1))).median() > 34


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
