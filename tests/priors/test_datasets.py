"""Data sets: seeds, splits, geometry of what they draw."""

import math

import numpy as np
import pytest
import torch

from onmanifold.plugins import dataset_names, load_dataset
from onmanifold.priors.datasets import (
    Bar,
    OwnExamples,
    Ring,
    Sphere,
    SwissRoll,
    TankImages,
    Torus,
    TwoBalls,
    TwoCircles,
    part_of,
    stream,
)
from onmanifold.priors.datasets.tank_images import outlines
from onmanifold.priors.training.recipe import Recipe

NAMES = ["bar", "ring", "sphere", "swiss-roll", "tank", "torus", "two-balls", "two-circles"]
NAMES += ["lit-ball", "outline", "rotating-object", "sundial", "torus-disk"]
FINITE = ["examples", "fashion-mnist", "mnist", "rotated-digit", "sine", "spiral"]


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_examples_other_split_other_examples(name):
    data = load_dataset(name)
    x, _ = data.sample(6, stream(3, "train", 5))
    again, _ = data.sample(6, stream(3, "train", 5))
    assert x.shape == (6, *data.x_shape) and torch.isfinite(x).all()
    assert torch.equal(x, again)
    for other in (stream(3, "held-out", 5), stream(3, "train", 6), stream(4, "train", 5)):
        unlike, _ = data.sample(6, other)
        distance = torch.cdist(x.flatten(1), unlike.flatten(1))
        assert distance.min() > 0


def test_unknown_names_are_listed():
    assert dataset_names() == sorted([*NAMES, *FINITE])
    with pytest.raises(
        LookupError,
        match="Known: " + ", ".join(sorted([*NAMES, *FINITE])),
    ):
        load_dataset("klein-bottle")
    with pytest.raises(TypeError, match="colour"):
        load_dataset("bar", colour=1)
    with pytest.raises(ValueError, match="held-out"):
        stream(0, "test")


def test_circles_lie_on_their_circles():
    data = TwoCircles()
    x, coordinates = data.sample(5000, stream(0, "train"))
    assert data.distance(data.points(coordinates)).max() < 1e-6
    assert abs(float(data.distance(x).square().mean().sqrt()) - 0.01) < 5e-4
    assert abs(float(coordinates[:, 0].mean()) - 0.5) < 0.03


@pytest.mark.parametrize(
    ("data", "offset"),
    [(Sphere(), 0.01), (SwissRoll(), 0.05), (Torus(), 0.01), (Ring(noise=0.0), 0.0)],
)
def test_points_lie_on_the_manifold_and_noise_takes_them_off(data, offset):
    x, coordinates = data.sample(5000, stream(0, "train"))
    assert data.distance(data.points(coordinates)).max() < 2e-6
    assert abs(float(data.distance(x).square().mean().sqrt()) - offset) < 0.05 * offset + 1e-6


@pytest.mark.parametrize("data", [Ring(), Sphere(), SwissRoll(), Torus()])
def test_distance_is_that_to_the_nearest_of_many_points(data):
    """Never above it, and below it by no more than the points are apart."""
    g = torch.Generator().manual_seed(0)
    points = data.points(data.sample(20000, g)[1])
    x = points[:300] + 0.3 * points.std() * torch.randn(300, *data.x_shape, generator=g)
    nearest = torch.cdist(x, points).amin(dim=1)
    distance = data.distance(x)
    assert (distance <= nearest + 1e-5).all()
    apart = torch.cdist(points[:300], points).kthvalue(2, dim=1).values.max()
    assert (nearest - distance).max() < 1.5 * apart


def test_surfaces_are_evenly_covered():
    """Sphere: heights are uniform (Archimedes); torus: the outer half has its part of the area."""
    z = Sphere(noise=0.0).sample(20000, stream(0, "train"))[0][:, 2]
    assert abs(float((z.abs() < 0.5).float().mean()) - 0.5) < 0.015
    tube = Torus().sample(20000, stream(0, "train"))[1][:, 1]
    outer = 0.5 + 1 / (3 * math.pi)
    assert abs(float((tube.cos() > 0).float().mean()) - outer) < 0.015
    radius = Ring().sample(20000, stream(0, "train"))[1][:, 0]
    assert abs(float((radius < 1.0).float().mean()) - 0.375) < 0.015


def test_bar_turns_counterclockwise_and_has_its_size():
    data = Bar()
    flat, upright, tilted = data.render(torch.tensor([[0.0], [math.pi / 2], [math.pi / 4]]))[:, 0]
    inside = (upright - 0.5) / 0.25
    assert abs(float(inside.sum()) - 500) < 1
    torch.testing.assert_close(flat, upright.rot90())
    assert tilted[64 - 15, 64 + 14] > 0.7 and tilted[64 + 14, 64 + 14] == 0.5
    torch.testing.assert_close(
        data.render(torch.tensor([[1.0]])), data.render(torch.tensor([[1 + math.pi]]))
    )


def test_balls_keep_their_bounds():
    data = TwoBalls()
    x, balls = data.sample(500, stream(0, "train"))
    centre, radius = balls[..., :2], balls[..., 2]
    assert radius.min() >= 12 and radius.max() <= 25
    assert (centre.norm(dim=2) + radius).max() <= 62
    gap = (centre[:, 0] - centre[:, 1]).norm(dim=1) - radius.sum(dim=1)
    assert gap.min() >= 6
    area = ((x * 1.6 + 0.2 - 1.0) / 0.5).sum(dim=(1, 2, 3))
    torch.testing.assert_close(area, math.pi * radius.square().sum(dim=1), rtol=0.01, atol=5.0)


def test_tank_objects_are_apart_inside_and_signed():
    data = TankImages()
    x, objects = data.sample(300, stream(0, "train"))
    assert x.min() >= -1 and x.max() <= 1
    assert data.allowed(objects).all()
    there = objects[..., 3] != 0
    assert set(there.sum(dim=1).tolist()) == {1, 2, 3}
    reach = objects[..., :2].norm(dim=2) + objects[..., 2]
    assert reach[there].max() < 1
    signs = objects[..., 3]
    assert torch.equal((signs > 0).any(1), x.flatten(1).max(dim=1).values > 0.5)
    assert torch.equal((signs < 0).any(1), x.flatten(1).min(dim=1).values < -0.5)


def test_outlines_are_star_shaped_curves():
    outline = outlines(500, stream(0, "train"))
    assert torch.isfinite(outline).all()
    assert outline.min() > 0.05
    torch.testing.assert_close(outline.amax(dim=1), torch.ones(500))
    steps = (outline - outline.roll(1, dims=1)).abs()
    assert steps.max() < 0.25, "an outline has no jump"


@pytest.fixture
def points(tmp_path):
    x = torch.randn((40, 3), generator=torch.Generator().manual_seed(0)).numpy()
    np.save(tmp_path / "points.npy", x)
    return x


def test_examples_of_ones_own_are_held_out(tmp_path, points):
    data = OwnExamples(tmp_path / "points.npy", held_out=0.25)
    assert data.x_shape == (3,) and len(data) == 30 and len(data.part("held-out")) == 10
    x, rows = part_of(data, "train").sample(500, stream(0, "train"))
    seen = set(rows.squeeze(1).tolist())
    assert len(seen) == 30
    np.testing.assert_array_equal(x.numpy(), points[rows.squeeze(1)])
    kept, rows = part_of(data, "held-out").sample(500, stream(0, "held-out"))
    assert len(kept) == 10 and not seen & set(rows.squeeze(1).tolist())
    assert part_of(Bar(), "held-out").x_shape == (1, 128, 128)
    with pytest.raises(ValueError, match="known: train, seeding, validation, held-out"):
        data.part("test")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((9, 2), np.nan), "9 of 9 examples hold NaN"),
        (np.array(["a", "b"]), "expected numbers"),
        (np.ones(5), r"expected numbers .* \(5,\)"),
        (np.ones((0, 2)), "expected numbers"),
        (np.ones((1, 2)), "too few to hold some out"),
    ],
)
def test_bad_files_of_examples(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(ValueError, match=message):
        OwnExamples(tmp_path / "x.npy")


def test_examples_of_archives_and_images(tmp_path, points):
    np.savez(tmp_path / "several.npz", a=np.random.default_rng(0).random((4, 8, 6)), b=points)
    assert OwnExamples(tmp_path / "several.npz", key="a").x_shape == (1, 8, 6)
    for key in (None, "c"):
        with pytest.raises(ValueError, match="holds a, b; say which one by key"):
            OwnExamples(tmp_path / "several.npz", key=key)
    (tmp_path / "text.npy").write_text("1 2 3")
    with pytest.raises(ValueError, match="not a .npy or .npz file"):
        OwnExamples(tmp_path / "text.npy")
    with pytest.raises(ValueError, match="held_out has to be above 0 and below 1"):
        OwnExamples(tmp_path / "several.npz", key="b", held_out=1.0)
    with pytest.raises(FileNotFoundError):
        OwnExamples(tmp_path / "none.npy")


def test_a_recipe_names_its_file_relative_to_itself(tmp_path, points):
    recipe = tmp_path / "own.toml"
    recipe.write_text(
        'name = "own"\n[card]\n[data]\nname = "examples"\nfile = "points.npy"\n'
        "[model]\ndim = 1\ncharts = 2\nsigma_x = 0.1\n"
        '[model.chart]\nnetwork = "dense"\noptions = { hidden = 4 }\n'
        "[schedule]\nseeding = 1\njoint = 1\n"
    )
    assert Recipe.read(recipe).prepare().atlas.x_shape == (3,)
    recipe.write_text(recipe.read_text().replace("points.npy", "none.npy"))
    with pytest.raises(ValueError, match="recipe own: .*none.npy"):
        Recipe.read(recipe).prepare()


@pytest.mark.parametrize("name", ["bar", "two-circles", "two-balls", "outline", "sundial", "tank"])
def test_a_seed_stands_for_a_generator(name):
    data = load_dataset(name)
    by_seed = data.sample(3, 5).x
    assert torch.equal(by_seed, data.sample(3, torch.Generator().manual_seed(5)).x)
    assert not torch.equal(by_seed, data.sample(3, 6).x)
    with pytest.raises(TypeError, match="seed"):
        data.sample(3, 1.5)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("torus", {"major": -2.0}),  # once drew for ever
        ("torus", {"minor": 4.0}),
        ("ring", {"inner": 2.0}),
        ("ring", {"inner": 0}),
        ("sphere", {"radius": -1}),
        ("two-circles", {"radius": 0.0}),
        ("swiss-roll", {"width": float("inf")}),
        ("bar", {"length": -5.0}),
        ("sphere", {"noise": -0.1}),
    ],
)
def test_lengths_are_positive(name, options):
    [argument] = options
    with pytest.raises(ValueError, match=argument):
        load_dataset(name, **options)
