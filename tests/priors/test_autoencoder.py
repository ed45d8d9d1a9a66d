"""Autoencoders as priors: density, learned inverse, tube; the training path that their methods share."""

from dataclasses import replace

import pytest
import torch

from onmanifold import ChartRetraction, ProjectionRetraction, load_dataset
from onmanifold.cli import main
from onmanifold.geometry import locate, nearest
from onmanifold.pretrained import load_prior, save_prior
from onmanifold.prior import Point
from onmanifold.priors.autoencoder import Autoencoder, AutoencoderConfig, GaussianMixture
from onmanifold.priors.autoencoder.loss import examples_of
from onmanifold.priors.datasets import Sphere, stream
from onmanifold.priors.networks import network_pair
from onmanifold.priors.training.choice import planned
from onmanifold.priors.training.evaluation import card
from onmanifold.priors.training.recipe import Recipe, method_names
from onmanifold.priors.training.run import train
from onmanifold.testing import CheckFailed, check_prior

TINY = Recipe(
    name="tiny",
    card={"description": "for tests"},
    data={"name": "swiss-roll"},
    model={"dim": 2, "options": {"hidden": 32}, "components": 3},
    schedule={"length": 400, "batch_size": 64, "learning_rate": 5e-3, "examples": 1000},
    method="ae",
    threads=1,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(TINY, tmp_path_factory.mktemp("ae"), progress=False)


def test_a_trained_autoencoder_has_the_properties(trained):
    report = check_prior(trained)
    assert any("what the prior claims" in check.name for check in report.checks)
    assert 0 < trained.inverse_error < 0.5


def test_an_encoder_may_learn_to_invert_the_decoder_between_the_examples(trained, tmp_path):
    """Of the same decoder; examples are reconstructed about as well as before."""
    better = train(
        replace(TINY, schedule=TINY.schedule | {"inverse": 300}), tmp_path, progress=False
    )
    for mine, other in zip(better.decoder.parameters(), trained.decoder.parameters(), strict=True):
        assert torch.equal(mine, other)
    assert better.inverse_error < 0.97 * trained.inverse_error
    x, _ = load_dataset("swiss-roll").sample(500, 3)
    off = [
        float((p.decode_chart(p.encode_chart(x, 0), 0) - x).norm(dim=1).median())
        for p in (better, trained)
    ]
    assert off[0] < 1.1 * off[1]


def test_tangents_of_a_batch_in_pieces_are_those_of_the_batch(trained, monkeypatch):
    z = trained.sample(7, 0).z
    whole = trained.columns_chart(z, 0)
    monkeypatch.setattr("onmanifold.prior._FRESH", 2 * 3 * whole[0, 0].numel())  # two rows a piece
    torch.testing.assert_close(trained.columns_chart(z, 0), whole)


def test_a_wrong_claim_about_the_inverse_is_found(trained):
    boastful = Autoencoder(trained.settings)
    boastful.load_state_dict(trained.state_dict())
    boastful.error.fill_(trained.inverse_error / 10)
    with pytest.raises(CheckFailed, match="what the prior claims"):
        check_prior(boastful.eval())


def test_an_autoencoder_is_stored_with_its_card(trained, tmp_path):
    written = card(TINY, trained)
    assert written["recipe"]["method"] == "ae"
    assert written["metrics"]["mean_squared_error"] > 0 and "overlap" not in written["metrics"]
    save_prior(trained, tmp_path / "prior", written)
    again = load_prior(tmp_path / "prior")
    point = again.sample(20, 0)
    torch.testing.assert_close(again.decode(point), trained.decode(point))


@pytest.mark.parametrize(
    ("network", "options", "encoder"),
    [
        ("dense", {"hidden": 8}, {"hidden": 40}),
        ("conv", {"channels": [4], "patch": 4, "hidden": 8}, {"channels": [12], "blocks": 2}),
    ],
)
def test_an_encoder_may_be_larger_than_the_decoder(network, options, encoder):
    decoders, encoders = zip(
        *(
            network_pair(network, 3, (1, 12, 12), each)
            for each in (options, options | {"encoder": encoder})
        ),
        strict=True,
    )
    sizes = [
        [sum(p.numel() for p in net.parameters()) for net in nets] for nets in (decoders, encoders)
    ]
    assert sizes[0][0] == sizes[0][1] and 2 * sizes[1][0] < sizes[1][1]
    assert encoders[1](decoders[1](torch.zeros(2, 3))).shape == (2, 3)


@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_whitened_codes_are_coordinates_of_the_same_manifold(kind):
    options = {"hidden": 16} | ({"channels": [8, 8], "patch": 2} if kind == "conv" else {})
    config = AutoencoderConfig((1, 8, 8), 3, kind, options, components=1)
    torch.manual_seed(0)
    plain = Autoencoder(config).double()
    white = Autoencoder(replace(config, whiten=True)).double()
    white.load_state_dict(plain.state_dict())
    x = torch.randn(500, 1, 8, 8, dtype=torch.float64)
    for model in (plain, white):
        model.requires_grad_(False).fit_latents(x, seed=0)
    codes = white.codes(x)
    assert (plain.codes(x).T.cov() - torch.eye(3)).abs().max() > 0.5
    torch.testing.assert_close(codes.mean(dim=0), torch.zeros(3).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(codes.T.cov(), torch.eye(3).double(), rtol=0, atol=1e-9)
    zeros = torch.zeros(len(x), dtype=torch.long)
    torch.testing.assert_close(white.project(x, zeros), plain.project(x, zeros))
    assert white.centre.abs().max() == 0 and (white.box > 2).all()


def test_resumed_equals_uninterrupted(tmp_path):
    whole = train(TINY, tmp_path / "whole", progress=False)
    again = train(TINY, tmp_path / "whole", resume=True, progress=False)  # finished: fits again
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_the_mixture_is_a_density_and_its_samples_follow_it():
    generator = torch.Generator().manual_seed(0)
    clusters = torch.tensor([[-2.0, 0.0], [2.0, 1.0]]).repeat(500, 1)
    z = clusters + 0.3 * torch.randn((1000, 2), generator=generator)
    density = GaussianMixture(dim=2, components=2).double()
    density.fit(z.double(), seed=0)
    axis = torch.linspace(-5, 5, 201, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    mass = density.log_prob(grid).exp().sum() * (axis[1] - axis[0]) ** 2
    assert abs(mass - 1) < 1e-3
    drawn = density.sample(4000, 1)
    torch.testing.assert_close(drawn.mean(dim=0), z.double().mean(dim=0), atol=0.1, rtol=0)
    torch.testing.assert_close(drawn.std(dim=0), z.double().std(dim=0), atol=0.1, rtol=0)


def test_locate_is_the_nearest_point(trained):
    exact = Autoencoder(trained.settings).double()
    exact.load_state_dict(trained.state_dict())
    point = exact.sample(5, 0)
    x = exact.decode(point) + 0.1
    found = locate(exact, x)
    miss = (exact.decode(found) - x).norm(dim=1)
    around = found.z[:, None] + 0.05 * torch.randn(5, 200, 2, dtype=torch.float64)
    others = exact.decode_chart(around.flatten(0, 1), 0).view(5, 200, -1)
    assert (miss[:, None] <= (others - x[:, None]).norm(dim=2) + 1e-9).all()
    start = exact.encode(x, found.chart)
    assert (miss <= (exact.decode(start) - x).norm(dim=1) + 1e-12).all()
    assert torch.equal(nearest(exact, found, x).z.isfinite(), torch.ones(5, 2, dtype=torch.bool))


class Circle(Autoencoder):
    """The unit circle in the plane, seen with a latent dimension too many."""

    def __init__(self):
        super().__init__(AutoencoderConfig((2,), 2, tube=True, options={"hidden": 4}))
        self.decoder = torch.nn.Sequential()
        self.encoder = Unit()
        self.radius.fill_(0.1)
        self.error.fill_(0.01)
        self.latent_box.fill_(2.0)


class Unit(torch.nn.Module):
    def forward(self, x):
        return x / x.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("retraction", [ChartRetraction(), ProjectionRetraction()])
def test_the_tube_brings_back_what_left_it(retraction):
    prior = Circle()
    point = Point(torch.zeros(2, dtype=torch.long), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    small = retraction(prior, point, torch.tensor([[0.0, 0.05], [0.02, 0.0]]))
    assert (small.z.norm(dim=1) > 1).all()  # near the circle nothing is changed
    far = retraction(prior, point, torch.tensor([[0.0, 1.0], [-0.8, 0.7]]))
    torch.testing.assert_close(far.z.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"dim": 4}}, r"dim 4 has to be from 1 to the size of \(3,\), 3"),
        ({"model": {"dim": 0}}, "dim has to be at least 1"),
        ({"model": {"network": "deep"}}, "unknown network 'deep'"),
        ({"model": {"width": 3}}, "width"),
        ({"schedule": {"length": 0}}, "schedule: length has to be at least 1"),
        ({"schedule": {"examples": 0}}, "schedule: examples"),
        ({"loss": {"weight": 1.0}}, "weight"),
        ({"method": "aee"}, "unknown method 'aee'; did you mean 'ae'"),
    ],
)
def test_what_cannot_be_trained_is_refused(tmp_path, change, message):
    changed = {k: v if isinstance(v, str) else getattr(TINY, k) | v for k, v in change.items()}
    with pytest.raises(ValueError, match=message):
        train(replace(TINY, **changed), tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_finite_examples_are_used_once_each():
    class Ten:
        x_shape = (1,)
        x = torch.arange(10.0)[:, None]

        def part(self, split):
            return self

    assert sorted(examples_of(Ten(), 100, 0).flatten().tolist()) == list(range(10))
    assert len(examples_of(Ten(), 4, 0).unique()) == 4
    drawn = examples_of(Sphere(), 7, 0)
    assert torch.equal(drawn, Sphere().sample(7, stream(0, "seeding"))[0])


def test_default_recipes_and_the_command_line(tmp_path, capsys):
    assert {"ae", "atlas"} <= set(method_names())
    recipes = {
        name: planned(load_dataset(name), {"name": name}, name="x", method=method, dim=2)
        for name, method in (("two-balls", "ae"), ("torus", "atlas"))
    }
    assert recipes["two-balls"].model["network"] == "conv"
    assert recipes["torus"].prepare().prior.num_charts == 4
    with pytest.raises(ValueError, match="only an atlas"):
        TINY.with_charts(2)
    folder = tmp_path / "out"
    options = ["--method", "ae", "--dim", "2", "--steps", "20", "--output", str(folder)]
    assert run("train", "--data", "sphere", *options) == 0
    assert load_prior(folder).x_shape == (3,)
    assert run("train", "ae", "--output", str(folder)) == 2
    assert "ae is a method: onmanifold train --data DATA --method ae" in capsys.readouterr().err


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return end.value.code
