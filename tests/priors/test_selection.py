"""Choosing d and K: intrinsic dimension, and atlases of several sizes on held-out examples."""

import csv
from dataclasses import replace

import pytest
import torch

from onmanifold.plugins import load_dataset
from onmanifold.priors.atlas.selection import (
    compare_charts,
    shortened,
)
from onmanifold.priors.commands import choose_command
from onmanifold.priors.datasets import stream
from onmanifold.priors.training.dimension import dimension_by_scale, intrinsic_dimension
from onmanifold.priors.training.recipe import Recipe

RECIPE = Recipe.read("two-circles")
RECIPE = replace(
    RECIPE,
    model=RECIPE.model
    | {
        "sigma_x": 0.05,
        "chart": {"network": "dense", "couplings": 2, "options": {"hidden": 32}},
    },
    schedule={"seeding": 150, "joint": 450, "batch_size": 64, "learning_rate": 5e-3},
)


@pytest.mark.parametrize(
    ("name", "dimension"),
    [("two-circles", 1), ("ring", 2), ("sphere", 2), ("swiss-roll", 2), ("torus", 2), ("bar", 1)],
)
def test_dimension_of_the_data_manifolds(name, dimension):
    x, _ = load_dataset(name).sample(2000, stream(0, "seeding"))
    assert intrinsic_dimension(x, 100) == pytest.approx(dimension, rel=0.2)


def test_two_balls_have_six_dimensions():
    x, _ = load_dataset("two-balls").sample(2000, stream(0, "seeding"))
    assert intrinsic_dimension(x, 20) == pytest.approx(6, rel=0.1)


@pytest.mark.parametrize("dimension", [1, 3, 5])
def test_dimension_of_a_cube_in_space(dimension):
    generator = torch.Generator().manual_seed(0)
    inside = torch.rand((3000, dimension), generator=generator)
    frame = torch.linalg.qr(torch.randn((8, 8), generator=generator)).Q[:dimension]
    found = dimension_by_scale(inside @ frame)
    assert set(found) == {5, 10, 20, 50, 100}
    assert found[10] == pytest.approx(dimension, rel=0.12)


def test_dimension_needs_neighbours():
    for neighbours in (2, 10):
        with pytest.raises(ValueError, match="below the number of different examples, 10"):
            intrinsic_dimension(torch.arange(10.0)[:, None].repeat(1, 3), neighbours)


def test_more_charts_explain_two_circles_better(tmp_path):
    one, four = compare_charts(RECIPE, [1, 4], tmp_path, share=1.0, examples=500, progress=False)
    assert (one["charts"], four["charts"]) == (1, 4)
    assert four["log_likelihood"] > one["log_likelihood"] + 10 * (
        one["standard_error"] + four["standard_error"]
    )
    assert four["relative_error_95"] < one["relative_error_95"]
    assert one["smallest_chart"] == 1.0 and 0 < four["smallest_chart"] < 0.3


def test_all_numbers_are_checked_before_the_first_training(tmp_path):
    few = replace(RECIPE, schedule=RECIPE.schedule | {"pool": 10})
    with pytest.raises(ValueError, match="20 charts .*, but only 10"):
        compare_charts(few, [1, 20], tmp_path, progress=False)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="share has to be above 0"):
        shortened(RECIPE, 0.0)


def test_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Recipe, "read", lambda path: RECIPE)
    choose_command("two-circles", tmp_path, charts=[1, 2], share=0.05, examples=100)
    assert "intrinsic dimension" in capsys.readouterr().out
    with open(tmp_path / "charts.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["charts"] for row in rows] == ["1", "2"]
    assert all(float(row["log_likelihood"]) == float(row["log_likelihood"]) for row in rows)
