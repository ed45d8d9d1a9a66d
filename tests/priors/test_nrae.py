"""Neighbourhood reconstruction: its Taylor polynomials, its graph, its losses, and a trained one."""

import gzip
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from onmanifold.geometry import locate
from onmanifold.priors.autoencoder import Autoencoder, AutoencoderConfig
from onmanifold.priors.autoencoder.loss import AutoencoderSchedule, LossOptions
from onmanifold.priors.baselines.losses import AE
from onmanifold.priors.datasets import OwnExamples, Sine, Spiral, part_of
from onmanifold.priors.datasets.own import RepeatedExamples
from onmanifold.priors.datasets.rotated_digit import RotatedDigit
from onmanifold.priors.nrae import (
    NRAEL,
    NRAEQ,
    NRAEOptions,
    taylor,
)
from onmanifold.priors.training.recipe import Recipe
from onmanifold.priors.training.run import train
from onmanifold.testing import check_prior

TINY = Recipe(
    name="tiny",
    card={"description": "for tests"},
    data={"name": "sine", "noise": 0.1},
    model={"dim": 1, "options": {"hidden": 16}},
    schedule={"length": 300, "batch_size": 16, "learning_rate": 1e-2},
    loss={"neighbours": 4, "drawn": 2},
    method="nrae-l",
    threads=1,
)


class Quadratic(nn.Module):
    """``c + L z + z Q z`` for each of several outputs."""

    def __init__(self, dim, outputs, square=1.0):
        super().__init__()
        self.constant = nn.Parameter(torch.randn(outputs))
        self.linear = nn.Parameter(torch.randn(outputs, dim))
        self.square = nn.Parameter(square * torch.randn(outputs, dim, dim))

    def forward(self, z):
        return self.constant + z @ self.linear.T + torch.einsum("oij,bi,bj->bo", self.square, z, z)


def training(cls, data, options, model=None, seed=0):
    torch.manual_seed(seed)
    if model is None:
        model = Autoencoder(AutoencoderConfig(data.x_shape, 1, options={"hidden": 16}))
    return cls(model, data, AutoencoderSchedule(batch_size=8), options, seed)


def double(method):
    """The same in 64 bits, to compare with formulas."""
    return method.double()


def direct(method, batch):
    """The loss as the paper writes it: one pair of centre and neighbour after the other."""
    options, model = method.options, method.model
    order = {NRAEL: 1, NRAEQ: 2}[type(method)]
    total = 0.0
    for x, numbers in zip(batch["x"], batch["neighbours"], strict=True):
        z = model.encoder(x[None])[0]
        value = model.decoder(z[None])[0].flatten()
        slope = torch.autograd.functional.jacobian(
            lambda code: model.decoder(code[None])[0].flatten(), z
        )
        total = total + (x.flatten() - value).square().sum()
        for near in method.examples[numbers]:
            move = model.encoder(near[None])[0] - z
            found = value + slope @ move
            if order == 2:
                bends = [
                    torch.autograd.functional.hessian(
                        lambda code, i=i: model.decoder(code[None])[0].flatten()[i], z
                    )
                    for i in range(len(value))
                ]
                found = found + torch.stack([move @ curved @ move for curved in bends]) / 2
            total = total + options.kernel * (near.flatten() - found).square().sum()
    return total / (len(batch["x"]) * (options.neighbours + 1) * batch["x"][0].numel())


def test_taylor_polynomials_of_a_quadratic_map():
    torch.manual_seed(0)
    f = Quadratic(3, 5).double()
    z, moves = torch.randn(4, 3).double(), torch.randn(4, 6, 3).double()
    exact = f((z[:, None] + moves).flatten(0, 1)).unflatten(0, (4, 6))
    value, second = taylor(f, z, moves, 2)
    torch.testing.assert_close(value, f(z))
    torch.testing.assert_close(second, exact)
    _, first = taylor(f, z, moves, 1)
    curved = torch.einsum("oij,bmi,bmj->bmo", f.square, moves, moves)
    torch.testing.assert_close(first, exact - curved)


@pytest.mark.parametrize("cls", [NRAEL, NRAEQ])
@pytest.mark.parametrize("decoder", ["quadratic", "network"])
def test_loss_is_the_sum_over_neighbourhoods(cls, decoder):
    method = training(cls, Spiral(size=30), NRAEOptions(neighbours=3, kernel=0.7))
    if decoder == "quadratic":
        method.model.decoder = Quadratic(1, 2)
    double(method)
    batch = method.draw(0)
    torch.testing.assert_close(method.loss(batch), direct(method, batch))


def test_all_agree_where_the_decoder_is_linear():
    torch.manual_seed(0)
    losses = []
    for cls in (NRAEL, NRAEQ):
        method = training(cls, Sine(), NRAEOptions(neighbours=4, kernel=1.0))
        torch.manual_seed(1)
        method.model.decoder = Quadratic(1, 2, square=0.0)
        batch = double(method).draw(0)
        losses.append(method.loss(batch))
        near = method.examples[batch["neighbours"]].flatten(0, 1)
        around = (method.reconstruction(near) - near).square().mean()
        own = (method.reconstruction(batch["x"]) - batch["x"]).square().mean()
        torch.testing.assert_close(losses[-1], (own + 4 * around) / 5)
    torch.testing.assert_close(*losses)


def test_drawn_neighbours_give_the_whole_loss_in_the_mean():
    method = double(training(NRAEQ, Sine(), NRAEOptions(neighbours=4, drawn=0)))
    batch = method.draw(0)
    parts = [method.loss(batch | {"neighbours": batch["neighbours"][:, [i]]}) for i in range(4)]
    torch.testing.assert_close(torch.stack(parts).mean(), method.loss(batch))


def test_drawn_neighbours_are_different_neighbours_and_follow_from_the_step():
    method = training(NRAEL, Sine(), NRAEOptions(neighbours=6, drawn=3))
    batch = method.draw(5)
    assert batch["neighbours"].shape == (8, 3)
    assert torch.equal(batch["neighbours"], method.draw(5)["neighbours"])
    assert not torch.equal(batch["neighbours"], method.draw(6)["neighbours"])
    for row, numbers in zip(batch["rows"], batch["neighbours"], strict=True):
        assert set(numbers.tolist()) <= set(method.graph[row].tolist())
        assert len(set(numbers.tolist())) == 3


CONV = {"channels": [8, 4], "patch": 2, "hidden": 8, "groups": 2}


@pytest.mark.parametrize("cls", [NRAEL, NRAEQ])
@pytest.mark.parametrize(
    ("network", "options"), [("dense", {"hidden": 8}), ("conv", CONV)], ids=["dense", "conv"]
)
def test_gradients_of_images(cls, network, options, tmp_path):
    """Finite, and right: along a random direction the loss changes as they say."""
    images = np.random.default_rng(0).normal(size=(20, 8, 8)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    torch.manual_seed(0)
    model = Autoencoder(AutoencoderConfig((1, 8, 8), 2, network, options))
    for parameter in model.parameters():  # residual blocks start as the identity
        parameter.data += 0.1 * torch.randn_like(parameter)
    data = OwnExamples(tmp_path / "images.npy")
    method = double(training(cls, data, NRAEOptions(neighbours=3, drawn=2), model))
    batch = method.draw(0)
    trained = list(method.parameters())
    gradients = torch.autograd.grad(method.loss(batch), trained)
    assert all(bool(torch.isfinite(g).all()) and bool((g != 0).any()) for g in gradients)
    directions = [torch.randn_like(p) for p in trained]
    expected = sum(float((g * v).sum()) for g, v in zip(gradients, directions, strict=True))
    losses = []
    for step in (1e-5, -2e-5):  # there, and to the other side
        for p, v in zip(trained, directions, strict=True):
            p.data += step * v
        losses.append(float(method.loss(batch).detach()))
    assert abs((losses[0] - losses[1]) / 2e-5 - expected) < 1e-5 * abs(expected) + 1e-8


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ({"neighbours": 50}, "neighbours has to be below the number of examples, 50; got 50"),
        ({"neighbours": 0}, "neighbours has to be at least 1"),
        ({"neighbours": 2.5}, "neighbours has to be an int"),
        ({"kernel": 0.0}, "kernel has to be above 0"),
        ({"kernel": math.nan}, "kernel has to be above 0"),
        ({"drawn": -1}, "drawn has to be at least 0"),
        ({"drawn": 5}, "drawn has to be at most neighbours, 4; got 5"),
        ({"lambda": 1.0}, "lambda"),
    ],
)
def test_bad_numbers_are_refused_before_training(loss, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, loss=TINY.loss | loss).prepare()


def test_copies_are_no_neighbours_and_bad_examples_are_refused(tmp_path):
    points = np.random.default_rng(0).normal(size=(40, 3))
    points[7] = points[3]
    np.save(tmp_path / "twice.npy", np.repeat(points, 2, axis=0))
    recipe = replace(TINY, data={"name": "examples", "file": str(tmp_path / "twice.npy")})
    with pytest.warns(RepeatedExamples, match="41 of 80 examples repeat others"):
        method = recipe.prepare()
    assert len(method.examples) == len(method.examples.unique(dim=0)) > 30
    data = Sine()
    broken = data.part("train")
    broken.x[4, 1] = math.nan
    data.part = lambda split: broken
    with pytest.raises(ValueError, match="data: 1 of 50 examples hold NaN"):
        training(NRAEL, data, NRAEOptions())


@pytest.mark.parametrize("method", ["nrae-l", "nrae-q"])
def test_trained_prior_has_the_properties(method, tmp_path):
    recipe = replace(TINY, method=method)
    prior = train(recipe, tmp_path, progress=False)
    check_prior(prior)
    x = part_of(recipe.load_data(), "train").x
    located = locate(prior, x)
    off = (prior.decode(located) - x).norm(dim=1)
    assert off.mean() < 0.2


def _distance_to_sine(cls, options, seed):
    """Mean distance of a learned curve to the sine that its noisy examples come from."""
    torch.manual_seed(seed)
    model = Autoencoder(AutoencoderConfig((2,), 1, options={"hidden": 64}))
    method = cls(model, Sine(seed=seed), AutoencoderSchedule(batch_size=32), options, seed)
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-2)
    for step in range(1500):  # long enough for AE to follow the noise
        optimizer.zero_grad()
        method.loss(method.draw(step)).backward()
        optimizer.step()
    with torch.no_grad():
        z = method.model.encoder(method.examples)
        walk = torch.linspace(float(z.min()), float(z.max()), 500)[:, None]
        return float(method.data.distance(method.model.decoder(walk)).mean())


def test_neighbourhoods_keep_a_curve_from_following_noise():
    options = NRAEOptions(neighbours=8, drawn=2)
    plain = [_distance_to_sine(AE, LossOptions(), seed) for seed in range(3)]
    smooth = [_distance_to_sine(NRAEL, options, seed) for seed in range(3)]
    assert sum(smooth) < 0.85 * sum(plain)


@pytest.mark.parametrize("data", [Sine(), Spiral()])
def test_curves_are_finite_sets_with_parts_of_their_own(data):
    x = part_of(data, "train").x
    assert len(x) == data.size and torch.equal(x, part_of(data, "seeding").x)
    assert torch.equal(x, type(data)().part("train").x)
    for other in ("validation", "held-out"):
        assert torch.cdist(x, part_of(data, other).x).min() > 0
    assert torch.cdist(x, type(data)(seed=1).part("train").x).min() > 0
    ends = torch.tensor(data.ends)[:, None]
    drawn = data.draw(1000, torch.Generator().manual_seed(0))
    assert (drawn >= ends[0]).all() and (drawn <= ends[1]).all()
    assert data.distance(data.points(drawn)).max() < 1e-5
    off = type(data)(size=5000).part("train").x
    assert data.distance(off).square().mean().sqrt() < 1.2 * data.noise


def test_distance_to_a_curve():
    data = Spiral()
    dense = data.points(torch.linspace(*data.ends, 20_000)[:, None])
    x = 3 * torch.randn((600, 2), generator=torch.Generator().manual_seed(0))
    nearest = torch.cdist(x, dense, compute_mode="donot_use_mm_for_euclid_dist").amin(dim=1)
    torch.testing.assert_close(data.distance(x), nearest, atol=1e-4, rtol=0)


def test_curves_refuse_bad_numbers():
    with pytest.raises(ValueError, match="Sine: size"):
        Sine(size=0)
    with pytest.raises(ValueError, match="Spiral: noise"):
        Spiral(noise=-1.0)


def _idx(array):
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(head + array.astype(np.uint8).tobytes())


@pytest.fixture
def digits(tmp_path):
    """A folder with a made-up data set: one bright block right of the centre in each image."""
    images = np.zeros((20, 28, 28))
    images[:, 12:16, 18:22] = 255
    for prefix in ("train", "t10k"):
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(_idx(images))
        (tmp_path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(_idx(np.arange(20) % 10))
    return tmp_path


def test_digit_turns_counterclockwise_and_shifts_to_the_right(digits):
    turned = RotatedDigit(folder=digits)
    there = turned.render(torch.tensor([[0.0], [math.pi / 2], [math.pi]]))
    torch.testing.assert_close(there[0], turned.digit)
    torch.testing.assert_close(there[1], turned.digit.rot90(1, (1, 2)), atol=1e-5, rtol=0)
    torch.testing.assert_close(there[2], turned.digit.rot90(2, (1, 2)), atol=1e-5, rtol=0)
    shifted = RotatedDigit(turn=0.0, shift=6.0, folder=digits)
    there = shifted.render(torch.tensor([[0.0], [3.0], [6.0]]))
    torch.testing.assert_close(there[1], shifted.digit, atol=1e-5, rtol=0)
    torch.testing.assert_close(there[2], shifted.digit.roll(3, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(there[0], shifted.digit.roll(-3, 2), atol=1e-5, rtol=0)


def test_digit_is_a_finite_set_with_held_out_images_in_between(digits):
    data = RotatedDigit(steps=10, folder=digits)
    learned, held_out = data.part("train"), data.part("held-out")
    assert learned.x.shape == (10, 1, 28, 28)
    torch.testing.assert_close(held_out.numbers - learned.numbers, torch.full((10,), math.pi / 20))
    x, angle = data.sample(5, torch.Generator().manual_seed(0))
    torch.testing.assert_close(x, data.render(angle))
    method = training(NRAEL, data, NRAEOptions(neighbours=2))
    assert method.loss(method.draw(0)) > 0


def test_digit_refuses_bad_input(digits):
    with pytest.raises(ValueError, match="nothing moves"):
        RotatedDigit(turn=0.0, folder=digits)
    with pytest.raises(
        ValueError, match="2 training images of label 3, numbered from 0; got number 5"
    ):
        RotatedDigit(number=5, folder=digits)
    with pytest.raises(ValueError, match="0 training images of label 11"):
        RotatedDigit(label=11, folder=digits)
