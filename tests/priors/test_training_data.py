"""The examples of a user: any unit, any kind of number, copies, few of them, channels last."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from onmanifold import load_prior
from onmanifold.priors import Atlas, AtlasConfig, Autoencoder, AutoencoderConfig
from onmanifold.priors.atlas.algorithm import hidden_penalty, lipschitz_penalty
from onmanifold.priors.datasets import OwnExamples, part_of
from onmanifold.priors.datasets.own import RepeatedExamples
from onmanifold.priors.training import Recipe, train
from onmanifold.priors.training.evaluation import card, held_out_metrics, log_likelihood, store
from onmanifold.priors.training.values import (
    NothingLearned,
    ValueRangeWarning,
    fitting_noise,
    warn_if_nothing_learned,
)

ATLAS = {
    "dim": 2,
    "charts": 1,
    "sigma_x": 0.1,
    "chart": {"network": "dense", "options": {"hidden": 32}},
}
STEPS = {"seeding": 20, "joint": 150, "overlap": 10, "batch_size": 16, "learning_rate": 3e-3}
PLAIN = {"dim": 2, "options": {"hidden": 32}, "components": 3}
LENGTH = {"length": 200, "batch_size": 16, "learning_rate": 3e-3}


def disks(n=120, size=12, seed=0):
    """Images of a disk anywhere, from 0 to 1."""
    source = np.random.default_rng(seed)
    x, y = source.uniform(3, size - 3, (2, n, 1, 1))
    rows, columns = np.mgrid[:size, :size]
    return 1 / (1 + np.exp(2 * (np.hypot(columns - x, rows - y) - 3)))


def recipe_of(tmp_path, x, method="atlas", **fields):
    np.save(tmp_path / "x.npy", x)
    data = {"name": "examples", "file": str(tmp_path / "x.npy")}
    model, schedule = (ATLAS, STEPS) if method == "atlas" else (PLAIN, LENGTH)
    base = Recipe("own", {"licence": "MIT"}, data, model, schedule, method=method, threads=1)
    return replace(base, **fields)


def trained(tmp_path, x, method="atlas", **fields):
    recipe = recipe_of(tmp_path, x, method, **fields)
    prior = train(recipe, tmp_path / "out", progress=False)
    return prior, held_out_metrics(prior, recipe.load_data())


def sigma(value):
    return {"model": ATLAS | {"sigma_x": value}}


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """Of the images from 0 to 1: the prior of each method, and its relative error."""
    folder = tmp_path_factory.mktemp("usual")
    found = {method: trained(folder, disks(), method) for method in ("atlas", "ae", "vae")}
    return {name: (prior, metrics["relative_error"]) for name, (prior, metrics) in found.items()}


UNITS = [
    pytest.param(255 * disks(), 25.5, id="0..255"),
    pytest.param((255 * disks()).astype(np.uint8), 25.5, id="bytes"),
    pytest.param((65535 * disks()).astype(">u2"), 6553.5, id="16 bits"),
    pytest.param(1e-3 * disks(), 1e-4, id="0..0.001"),
    pytest.param(1e-12 * disks(), 1e-13, id="0..1e-12"),
    pytest.param(1e12 * disks(), 1e11, id="0..1e12"),
    pytest.param(-disks(), 0.1, id="negative"),
]


@pytest.mark.parametrize(("x", "sigma_x"), UNITS)
def test_the_same_images_are_learned_in_any_unit(tmp_path, usual, x, sigma_x):
    prior, metrics = trained(tmp_path, x, **sigma(sigma_x))
    assert metrics["relative_error"] < 1.5 * usual["atlas"][1]
    samples = prior.decode(prior.sample(50, 0))
    scale = float(np.abs(x.astype(float)).max())
    assert 0.5 * scale < samples.abs().max() < 2 * scale  # in the unit of the data


@pytest.mark.parametrize("method", ["ae", "vae"])
@pytest.mark.parametrize("x", [UNITS[1].values[0], UNITS[3].values[0]], ids=["bytes", "0..0.001"])
def test_autoencoders_learn_in_any_unit(tmp_path, usual, method, x):
    prior, metrics = trained(tmp_path, x, method)
    assert metrics["relative_error"] < 1.5 * usual[method][1]
    assert prior.settings.amplitude == pytest.approx(float(x.max()), rel=0.01)


def test_an_offset_is_no_matter(tmp_path, usual):
    x = 290 + 20 * disks()  # kelvin
    prior, _ = trained(tmp_path, x, **sigma(2.0))
    held_out = part_of(OwnExamples(tmp_path / "x.npy"), "held-out").x
    off = (prior.views(held_out)[1].amin(1) / (held_out - 290).flatten(1).norm(dim=1)).median()
    assert off < 1.5 * usual["atlas"][1]


def test_noise_in_the_unit_of_the_range_is_understood_and_said(tmp_path, usual):
    with pytest.warns(ValueRangeWarning, match=r"range from 0 to 0.000997.* share of the range"):
        _, metrics = trained(tmp_path, 1e-3 * (disks().round(3)))
    assert metrics["relative_error"] < 1.5 * usual["atlas"][1]


def test_noise_too_small_for_the_unit_is_said(tmp_path, usual):
    with pytest.warns(ValueRangeWarning, match=r"sigma_x = 0.1 does not fit .* from 0 to 254"):
        _, metrics = trained(tmp_path, (255 * disks()).astype(np.uint8))
    assert metrics["relative_error"] < 1.5 * usual["atlas"][1]


def test_noise_that_hides_everything_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"sigma_x = 50 does not fit to the data.*; 0\.0.* would fit"
    ):
        recipe_of(tmp_path, disks(), **sigma(50.0)).prepare()
    with pytest.raises(ValueError, match="sigma_x has to be above 0"):
        recipe_of(tmp_path, disks(), **sigma(-1.0)).prepare()


def test_noise_may_be_left_out(tmp_path, usual):
    model = {name: value for name, value in ATLAS.items() if name != "sigma_x"}
    prior, metrics = trained(tmp_path, 255 * disks(), model=model)
    assert metrics["relative_error"] < 1.5 * usual["atlas"][1]
    x = torch.from_numpy(255 * disks()).float()
    assert prior.settings.sigma_x == pytest.approx(fitting_noise(None, 255, x), rel=0.1)


def test_an_amplitude_is_taken_at_its_word(tmp_path):
    chart = ATLAS["chart"] | {"amplitude": 1.0}
    recipe = recipe_of(tmp_path, 255 * disks(), model=ATLAS | {"chart": chart, "sigma_x": 1e4})
    settings = recipe.prepare().prior.settings
    assert settings.chart["amplitude"] == 1.0 and settings.sigma_x == 1e4


def test_densities_and_penalties_are_those_of_the_other_unit():
    """The same networks in two units: the same energies, and densities that differ by the unit's volume."""
    network = {"network": "dense", "options": {"hidden": 16}}
    make = {"dim": 2, "charts": 2, "chart": network}
    torch.manual_seed(0)
    one = Atlas(AtlasConfig(x_shape=(5,), sigma_x=0.1, **make)).double()
    chart = network | {"amplitude": 8.0, "background": 3.0}
    other = Atlas(AtlasConfig(x_shape=(5,), sigma_x=0.8, **(make | {"chart": chart}))).double()
    other.load_state_dict(one.state_dict())
    point = one.sample(20, 0)
    x = one.decode(point) + 0.05 * torch.randn(20, 5, dtype=torch.float64)
    torch.testing.assert_close(other.decode(point), 3 + 8 * one.decode(point))
    torch.testing.assert_close(other.encode(3 + 8 * x, point.chart).z, one.encode(x, point.chart).z)
    torch.testing.assert_close(other.energies(3 + 8 * x), one.energies(x))
    torch.testing.assert_close(hidden_penalty(other, point.z), hidden_penalty(one, point.z))
    noise = torch.ones_like(point.z)
    penalties = [lipschitz_penalty(atlas, point.z, noise) for atlas in (one, other)]
    torch.testing.assert_close(*penalties)
    mine, its = (
        log_likelihood(atlas, images, torch.Generator().manual_seed(0))
        for atlas, images in ((one, x), (other, 3 + 8 * x))
    )
    torch.testing.assert_close(its, mine - 5 * np.log(8))
    assert torch.equal(other.log_prob(point), one.log_prob(point))


@pytest.mark.parametrize("method", ["atlas", "ae"])
def test_the_unit_is_stored_with_the_prior(tmp_path, method):
    in_unit = sigma(25.5) if method == "atlas" else {}
    recipe = recipe_of(tmp_path, 255 * disks(), method, **in_unit)
    prior = train(recipe, tmp_path / "out" / "checkpoints", progress=False)
    store(recipe, prior, tmp_path / "out")
    loaded = load_prior(tmp_path / "out")
    point = prior.sample(5, 0)
    x = prior.decode(point)
    assert torch.equal(loaded.decode(point), x) and x.max() > 100
    assert torch.equal(loaded.encode(x, point.chart).z, prior.encode(x, point.chart).z)


def test_latents_are_fitted_in_the_unit_of_the_data():
    config = {"x_shape": (3,), "dim": 2, "options": {"hidden": 8}, "components": 2}
    one, other = (Autoencoder(AutoencoderConfig(**config, amplitude=a)) for a in (1.0, 100.0))
    other.load_state_dict(one.state_dict())
    x = torch.randn(50, 3)
    for prior, scale in ((one, 1), (other, 100)):
        prior.requires_grad_(False).fit_latents(scale * x, seed=0)
    torch.testing.assert_close(other.latent_box, one.latent_box)
    torch.testing.assert_close(other.decode(one.sample(5, 0)), 100 * one.decode(one.sample(5, 0)))


# What is in a file ---------------------------------------------------------------------------------


def read(tmp_path, x, **options):
    np.save(tmp_path / "x.npy", x)
    return OwnExamples(tmp_path / "x.npy", **options)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_channels_last_are_refused(tmp_path, channels):
    images = np.random.default_rng(0).random((20, 16, 12, channels))
    with pytest.raises(ValueError, match=r"channels last, expected \(n, C, H, W\)"):
        read(tmp_path, images)
    assert read(tmp_path, np.moveaxis(images, -1, 1)).x_shape == (channels, 16, 12)


def test_one_picture_is_no_set_of_images(tmp_path):
    picture = np.random.default_rng(0).random((64, 48, 3))
    with pytest.raises(ValueError, match="looks like one picture with its channels last"):
        read(tmp_path, picture)
    assert read(tmp_path, picture[:, None]).x_shape == (1, 48, 3)


@pytest.mark.parametrize("shape", [(20, 3, 4, 4), (20, 1, 8, 2), (20, 6, 6), (20, 3, 3, 3)])
def test_small_images_are_not_taken_for_channels_last(tmp_path, shape):
    read(tmp_path, np.random.default_rng(0).random(shape))


def test_a_generator_of_channels_last_is_refused(tmp_path, monkeypatch):
    class Pictures:
        x_shape = (16, 16, 3)

        def sample(self, n, generator=None):
            return torch.rand((n, 16, 16, 3), generator=generator), torch.zeros(n, 1)

    for method in ("atlas", "ae"):
        recipe = recipe_of(tmp_path, disks(), method)
        monkeypatch.setattr(Recipe, "load_data", lambda self: Pictures())
        with pytest.raises(ValueError, match=r"channels last, expected \(n, C, H, W\)"):
            recipe.prepare()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, ">i2", np.int64, np.float16, ">f8"])
def test_numbers_of_any_dtype(tmp_path, dtype):
    x = ((np.arange(30)[:, None] >> np.arange(5)) & 1).astype(dtype)  # all different
    data = read(tmp_path, x)
    assert data.part("train").x.dtype == torch.float32
    rows = data.part("train").numbers
    assert np.array_equal(data.part("train").x.numpy(), x[rows].astype(np.float32))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.full((9, 3), np.nan), "9 of 9 examples hold NaN"),
        (np.array([[1.0, 2.0], [np.inf, 1.0], [0.0, 3.0]]), "1 of 3 examples hold NaN"),
        (np.full((9, 3), 1e60), "beyond the range of float32"),
        (np.full((9, 3), 1 + 1j), "expected numbers"),
        (np.full((9, 3), 2**62 + 1), "integers that float64 cannot tell apart"),
        (np.full((9, 3), "a"), "expected numbers"),
        (np.zeros((9, 3), dtype="datetime64[s]"), "expected numbers"),
        (np.ones(9), "expected numbers"),
        (np.ones((2, 2, 2, 2, 2)), "expected numbers"),
        (np.ones((0, 3)), "expected numbers"),
        (np.ones((9, 3)), "all of 9 examples are the same"),
    ],
)
def test_what_is_no_set_of_examples_is_refused(tmp_path, x, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RepeatedExamples)
        with pytest.raises(ValueError, match=message):
            read(tmp_path, x)


def test_tails_below_the_range_of_float32_are_no_matter(tmp_path):
    x = np.random.default_rng(0).random((20, 3))
    x[3, 1] = 1e-60
    assert (read(tmp_path, x).part("train").x >= 0).all()


def test_differences_that_rounding_hides_are_refused(tmp_path):
    x = 1e6 + 1e-3 * np.random.default_rng(0).random((40, 6))
    with pytest.raises(ValueError, match="differences are lost in the rounding of float32"):
        recipe_of(tmp_path, x).prepare()


@pytest.mark.parametrize("copies", [2, 5])
def test_no_copy_of_a_held_out_example_is_learned(tmp_path, copies):
    x = np.repeat(np.random.default_rng(0).random((40, 3)), copies, axis=0)
    with pytest.warns(RepeatedExamples, match=f"{40 * (copies - 1)} of {40 * copies} examples"):
        data = read(tmp_path, x)
    learned, kept = (data.part(split).x for split in ("train", "held-out"))
    assert len(learned) + len(kept) == len(x)
    assert not (learned[:, None] == kept).all(dim=2).any()
    assert 0.05 < len(kept) / len(x) < 0.2


def test_the_split_of_different_examples_stays_what_it_was(tmp_path):
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    data = read(tmp_path, np.arange(100.0).reshape(50, 2))
    assert data.part("held-out").numbers.tolist() == order[:5].tolist()
    assert data.part("train").numbers.tolist() == order[5:].tolist()


@pytest.mark.parametrize(
    ("n", "method", "message"),
    [
        (1, "atlas", "too few to hold some out"),
        (2, "atlas", "examples are the same"),
        (3, "ae", "3 are needed, for components = 3"),
    ],
)
def test_sets_that_are_too_small_are_refused_before_training(tmp_path, n, method, message):
    with pytest.raises(ValueError, match=message):
        recipe_of(tmp_path, disks(n), method).prepare()


def test_more_components_than_examples_to_fit_them_to_are_refused(tmp_path):
    with pytest.raises(ValueError, match="fitted = 2 examples, but .* 3 components"):
        recipe_of(tmp_path, disks(), "ae", schedule=LENGTH | {"fitted": 2}).prepare()


@pytest.mark.parametrize("method", ["atlas", "ae"])
def test_sets_that_are_just_large_enough_are_learned(tmp_path, method):
    recipe = recipe_of(tmp_path, disks(6), method)
    json.dumps(card(recipe, train(recipe, tmp_path, progress=False)), allow_nan=False)


def test_empty_images_among_others_are_no_matter(tmp_path):
    x = np.concatenate([disks(60), np.zeros((60, 12, 12))])
    x[60:, 0, 0] = np.linspace(0, 1e-9, 60)  # different, but as good as empty
    x[60] = 0
    recipe = recipe_of(tmp_path, x)
    found = card(recipe, train(recipe, tmp_path, progress=False))
    json.dumps(found, allow_nan=False)


def test_a_training_in_vain_says_so(tmp_path):
    recipe = recipe_of(tmp_path, disks(), schedule=STEPS | {"learning_rate": 1e-9})
    with pytest.warns(NothingLearned, match=r"range from .* to 0.99.* sigma_x is 0.1"):
        train(recipe, tmp_path, progress=False)


def test_a_training_that_learned_says_nothing(tmp_path, usual):
    data = read(tmp_path, disks())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for prior, _ in usual.values():
            warn_if_nothing_learned(prior, data, 0)


class AsNumpy:
    """A data set whose examples are what numpy makes: bytes."""

    x_shape = (4,)

    def sample(self, n, generator=None):
        angle = torch.rand(n, generator=generator).numpy() * 6
        x = np.stack([np.cos(angle), np.sin(angle), np.cos(angle), angle / 6], axis=1)
        return (100 + 100 * x).astype(np.uint8), angle[:, None]


@pytest.mark.parametrize("method", ["atlas", "ae"])
def test_data_sets_may_make_arrays_of_numpy(tmp_path, monkeypatch, method):
    recipe = recipe_of(tmp_path, disks(), method, **(sigma(10.0) if method == "atlas" else {}))
    monkeypatch.setattr(Recipe, "load_data", lambda self: AsNumpy())
    prior = train(recipe, tmp_path, progress=False)
    assert held_out_metrics(prior, AsNumpy(), n=100)["relative_error"] < 0.5
