"""Every prior comes back equal from pickle and deepcopy, and takes what numpy makes."""

import copy
import pickle

import numpy as np
import pytest
import torch

from onmanifold import load_prior, prior_names
from onmanifold.prior import Point
from onmanifold.priors import (
    Arrangement,
    AtlasConfig,
    AutoencoderConfig,
    BackgroundOffset,
    MeasurementParameters,
    RadialOutlines,
    Scene,
)
from onmanifold.priors.datasets import TwoBalls

MADE = {
    "background offset": lambda: BackgroundOffset(load_prior("two-balls"), np.float32(0.1)),
    "parameters": lambda: MeasurementParameters(load_prior("bar"), np.array([0.05, 0.1])),
    "radial": lambda: RadialOutlines(np.int64(4)),
    "small scene": lambda: Scene(
        RadialOutlines(), np.int64(1), np.int32(24), Arrangement(counts=np.array([0.5, 0.5]))
    ),
}
NAMES = [*prior_names(), *MADE]


def prior_of(name):
    return MADE[name]() if name in MADE else load_prior(name)


@pytest.mark.parametrize("way", ["pickle", "deepcopy"])
@pytest.mark.parametrize("name", NAMES)
def test_copies_are_equal(name, way):
    prior = prior_of(name).eval()
    copied = copy.deepcopy(prior) if way == "deepcopy" else pickle.loads(pickle.dumps(prior))
    point = prior.sample(3, 1)
    x = prior.decode(point)
    assert torch.equal(copied.sample(3, 1).z, point.z)
    assert torch.equal(copied.decode(point), x)
    assert torch.equal(copied.log_prob(point), prior.log_prob(point))
    assert torch.equal(copied.encode(x, point.chart).z, prior.encode(x, point.chart).z)
    assert copied.config() == prior.config() and not copied.training
    chart = torch.arange(prior.num_charts)
    assert torch.equal(copied.box_half_width(chart, x), prior.box_half_width(chart, x))


@pytest.mark.parametrize("name", ["bar", "outline", "sphere", *MADE])
def test_arrays_of_numpy_are_taken(name):
    prior = prior_of(name)
    point = prior.sample(np.int64(3), np.uint8(1))
    assert torch.equal(point.z, prior.sample(3, 1).z)
    x = prior.decode(point)
    same = Point(point.chart.numpy().astype(np.uint8), point.z.numpy())
    assert torch.equal(prior.decode(same), x)
    listed = Point(point.chart.tolist(), point.z.tolist())
    assert torch.equal(prior.log_prob(listed), prior.log_prob(point))
    found = prior.encode(x.double().numpy(), point.chart.numpy())
    assert torch.equal(found.z, prior.encode(x, point.chart).z)


@pytest.mark.parametrize("name", ["bar", "outline", *MADE])
@pytest.mark.parametrize("n", [0, -1, 2.5, True, "3"])
def test_numbers_of_samples_are_counts(name, n):
    with pytest.raises(ValueError, match="n has to be"):
        prior_of(name).sample(n)


@pytest.mark.parametrize(
    ("chart", "z", "message"),
    [
        ([0.0], [[1.0]], "chart has to be integers"),
        (torch.zeros(1), torch.ones(1, 1), "chart has to be integers"),
        (torch.tensor([True]), torch.ones(1, 1), "chart has to be integers"),
        ([0], [[1j]], "z cannot be used: it is complex"),
        ([0], [[True]], "z cannot be used: it is boolean"),
        ([0], np.ma.masked_array([[1.0]], mask=[[True]]), "masked"),
        ([0, 1], [[1.0]], "a Point takes chart"),
    ],
)
def test_what_is_no_point_is_refused(chart, z, message):
    with pytest.raises(ValueError, match=message):
        Point(chart, z)


def test_configurations_may_hold_what_numpy_makes():
    network = {"network": "dense", "options": {"hidden": 4}}
    config = AtlasConfig(np.array([3]), np.int64(1), np.int64(2), np.float32(0.5), chart=network)
    assert (type(config.dim), type(config.charts), type(config.sigma_x)) == (int, int, float)
    made = AutoencoderConfig((3,), np.int64(2), components=np.int32(3), amplitude=np.float64(2))
    assert (type(made.dim), type(made.components), type(made.amplitude)) == (int, int, float)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: BackgroundOffset(p, np.nan), "std has to be above 0"),
        (lambda p: BackgroundOffset(p, 0.1, np.ones(p.x_shape)), "known has to be a boolean"),
        (lambda p: MeasurementParameters(p, [0.1, -1.0]), "std has to hold a positive number"),
        (lambda p: MeasurementParameters(p, [0.1 + 1j]), "it is complex"),
        (lambda p: Scene(RadialOutlines(), kinds=30), "kinds make .* charts, more than"),
        (lambda p: Scene(RadialOutlines(), size=24.5), "size has to be an int"),
        (lambda p: Arrangement(counts=(0.5, float("nan"))), "counts has to hold frequencies"),
        (lambda p: RadialOutlines(1), "orders has to be at least 2"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(load_prior("two-balls"))


def test_masks_of_numpy_are_masks():
    prior = load_prior("two-balls")
    known = np.zeros(prior.x_shape, dtype=bool)
    known[0, :3] = True
    x = TwoBalls().sample(2, 0).x
    masks = known, torch.from_numpy(known)
    numpy, tensor = (BackgroundOffset(prior, 0.1, mask) for mask in masks)
    chart = torch.zeros(2, dtype=torch.long)
    assert torch.equal(numpy.encode(x, chart).z, tensor.encode(x, chart).z)
