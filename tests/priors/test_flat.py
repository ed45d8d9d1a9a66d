"""Flat autoencoders: quotients, pairs from formulas and from graphs, training, descent in the tube."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from onmanifold import (
    ChartRetraction,
    Gaussian,
    Point,
    ProjectionRetraction,
    load_dataset,
    solve,
)
from onmanifold.geometry import jacobian, locate, pullback_metric
from onmanifold.priors.datasets import Sphere, TorusDisk, stream
from onmanifold.priors.flat import GeodesicPairs, GraphPairs, Pairs
from onmanifold.priors.flat.embedding import FlatSchedule, quotients
from onmanifold.priors.training.choice import planned
from onmanifold.priors.training.recipe import Recipe
from onmanifold.priors.training.run import Run, train
from onmanifold.testing import check_prior

TINY = Recipe(
    name="tiny",
    card={"description": "for tests"},
    data={"name": "sundial", "size": 8, "width": 0.3, "opacity": 4.0, "elevation": 40.0},
    model={"dim": 3, "options": {"hidden": 64}},
    schedule={
        "length": 2600,
        "encoder": 800,
        "batch_size": 64,
        "learning_rate": 5e-3,
        "examples": 1500,
        "fitted": 1500,
    },
    loss={"eps": 0.5, "bending": 0.05, "noise": 0.3},
    method="flat",
    threads=1,
)
SHORT = replace(TINY, schedule=TINY.schedule | {"length": 300, "encoder": 150, "batch_size": 16})


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    return train(TINY, tmp_path_factory.mktemp("tiny"), progress=False)


@pytest.fixture(scope="module")
def data():
    return TINY.load_data()


@pytest.fixture(scope="module")
def inner(data):
    """200 images well inside the manifold, beyond whose border nothing was learned."""
    return replace(data, elevation=65.0).sample(200, stream(0, "held-out"))[0]


@pytest.fixture(scope="module")
def distance_off(data):
    """How far images are from the nearest of 10 000 true ones, as a share of the images' spread."""
    known = data.sample(10_000, stream(0, "held-out", 3))[0].flatten(1)
    spread = (known - known.mean(dim=0)).norm(dim=1).mean()
    return lambda x: torch.cdist(x.flatten(1), known).amin(dim=1) / spread


# Quotients ----------------------------------------------------------------------------------------


def arcs(share, n=50, length=0.2):
    """Arcs of a circle of radius 1 in the plane, and a point at that share of each."""
    begin = torch.linspace(0, 6, n, dtype=torch.float64)

    def at(t):
        angle = begin + t * length
        return torch.stack([angle.cos(), angle.sin()], dim=1)

    whole = torch.ones(n, dtype=torch.float64)
    return Pairs(at(0.0), at(1.0), at(share), length * whole, share * whole)


@pytest.mark.parametrize("share", [0.5, 0.4])
def test_quotients_of_a_circle_are_speed_and_curvature(share):
    p, b = quotients(torch.nn.Identity(), arcs(share))
    torch.testing.assert_close(p, torch.ones_like(p), rtol=0, atol=2e-3)
    torch.testing.assert_close(b.norm(dim=1), torch.ones_like(p), rtol=0, atol=0.02)
    scale = torch.nn.Linear(2, 3, bias=True, dtype=torch.float64)
    scale.weight.data = 3 * torch.eye(3, 2, dtype=torch.float64)
    p, b = quotients(scale, arcs(share))
    torch.testing.assert_close(p, torch.full_like(p, 3.0), rtol=2e-3, atol=0)
    torch.testing.assert_close(b.norm(dim=1), torch.full_like(p, 3.0), rtol=0.02, atol=0)


def test_straight_lines_do_not_bend():
    x = torch.randn((20, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y, half = x + 1, torch.full((20,), 0.3, dtype=torch.float64)
    pairs = Pairs(x, y, 0.7 * x + 0.3 * y, torch.full_like(half, 3**0.5), half)
    p, b = quotients(torch.nn.Identity(), pairs)
    torch.testing.assert_close(p, torch.ones_like(p))
    assert b.abs().max() < 1e-10


# Pairs by the data's own formulas -----------------------------------------------------------------


def test_geodesic_pairs_say_how_far_apart_they_are():
    data = TorusDisk(size=16)
    pairs = GeodesicPairs(data, 0.6).draw(500, stream(0, "train"))
    a, b = data.pairs(500, 0.6, stream(0, "train"))
    assert torch.equal(pairs.start, data.render(a)) and torch.equal(pairs.end, data.render(b))
    assert torch.equal(pairs.distance, data.distance_between(a, b))
    assert torch.equal(pairs.between, data.render(data.average(a, b)))
    assert (pairs.share == 0.5).all()


class Wrong(TorusDisk):
    """A disk on a torus, and one thing wrong with it."""

    fault = ""

    def pairs(self, n, eps, generator):
        a, b = super().pairs(n, eps, generator)
        return (
            (a, a) if self.fault == "zero" else (a, a + 3 * (b - a) if self.fault == "far" else b)
        )

    def render(self, centre):
        x = super().render(centre)
        return {"nan": x / 0 * 0, "shape": x[..., 1:]}.get(self.fault, x)

    def average(self, a, b):
        return self.geodesic(a, b, 0.7 if self.fault == "average" else 0.5)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("zero", r"Wrong.pairs gives pairs of zero distance"),
        ("far", r"apart, eps is 0.5"),
        ("nan", "NaN"),
        ("shape", r"images of shape \(1, 8, 7\), but its x_shape is \(1, 8, 8\)"),
        ("average", "Wrong.average is not in the middle"),
    ],
)
def test_wrong_data_are_found_before_training(fault, message):
    data = Wrong(size=8)
    object.__setattr__(data, "fault", fault)
    with pytest.raises(ValueError, match=message):
        GeodesicPairs(data, 0.5)


# Pairs of a graph ---------------------------------------------------------------------------------


def sphere(n):
    return Sphere(noise=0.0).sample(n, torch.Generator().manual_seed(0))[0]


def test_graph_pairs_agree_with_great_circles():
    x = sphere(4000)
    found = GraphPairs(x, k=20)
    pairs = found.select(torch.arange(len(found)))
    cosine = (pairs.start.double() * pairs.end.double()).sum(dim=1)
    error = (pairs.distance * found.unit / cosine.acos() - 1).abs()
    assert error.median() < 0.02
    point = (1 - pairs.share[:, None]) * pairs.start + pairs.share[:, None] * pairs.end
    off = (pairs.between - point / point.norm(dim=1, keepdim=True)).norm(dim=1) / found.unit
    assert (off / pairs.distance).median() < 0.12
    assert ((pairs.share > 1 / 3) & (pairs.share < 2 / 3)).all()
    assert len(found) > 4000  # enough of them
    short = GraphPairs(x, k=20, eps=0.15)
    assert 0 < len(short) < len(found) and short.length.max() <= 0.15


def nan_at(x, row):
    x = x.clone()
    x[row] = math.nan
    return x


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (sphere(20), {"k": 20}, "k has to be below the number of examples, 20; got 20"),
        (sphere(20), {"k": 0}, "k"),
        (
            torch.cat([sphere(50), sphere(50)[:1]]),
            {},
            r"2 of 51 examples repeat others \(such as 0 and 50\)",
        ),
        (nan_at(sphere(50), 3), {}, "NaN"),
        (sphere(50), {"eps": 1e-4}, "eps = 0.0001"),
        (sphere(50), {"eps": -1.0}, "eps"),
        (sphere(50), {"straight": 1.5}, "straight"),
    ],
)
def test_graphs_that_cannot_be(x, options, message):
    with pytest.raises(ValueError, match=message):
        GraphPairs(x, **options)


# Training -----------------------------------------------------------------------------------------


def test_encoder_then_decoder():
    torch.manual_seed(0)
    module = SHORT.prepare()
    networks = module.model.encoder, module.model.decoder
    phases = (0, *networks), (60, *networks), (150, *reversed(networks))
    for (step, trained, resting), key in zip(phases, ("aim", "start", "noise"), strict=True):
        assert key in module.draw(step)
        module.zero_grad()
        module.loss(module.draw(step)).backward()
        assert all(p.grad is not None for p in trained.parameters())
        assert all(p.grad is None for p in resting.parameters())
    schedule = FlatSchedule(length=2000, encoder=1000)
    rates = [schedule.rate(step) for step in (0, 60, 999, 1000, 1060, 1999)]
    assert rates[0] < 0.1 < 0.9 < rates[1] and rates[2] < 0.02
    assert rates[3:] == rates[:3]


def test_noise_on_codes_is_normal_to_them():
    """On the sphere, as codes of an encoder that is the identity: no noise along it."""
    data = Sphere(noise=0.0)
    recipe = replace(
        SHORT,
        data={"name": "sphere", "noise": 0.0},
        model={"dim": 3},
        loss={"noise": 0.2, "k": 20},
        schedule=SHORT.schedule | {"batch_size": 500},
    )
    module = recipe.prepare()
    module.model.encoder = torch.nn.Identity()
    batch = module.draw(200)
    noise = module.beside(batch["rows"], batch["noise"]) - batch["x"]
    outward = (noise * batch["x"]).sum(dim=1)
    along = (noise - outward[:, None] * batch["x"]).norm(dim=1)
    assert 0.08 < outward.std() < 0.15  # 0.2 / sqrt(3): lengths are uniform up to the noise
    assert along.square().mean().sqrt() < 0.2 * outward.std()
    assert data.x_shape == (3,)


def test_noise_goes_out_over_the_border(data):
    """Codes of a flat disk: lights, seen from above."""
    module = replace(TINY, model={"dim": 2}, loss={"eps": 0.5, "noise": 0.3}).prepare()
    lights = data.sample(1500, stream(0, "seeding"))[1]
    module.model.encoder = torch.nn.Identity()
    module.examples = lights[:, :2]
    rows = torch.arange(1500)
    code = module.beside(rows, module.extras(rows, stream(0, "train"))["noise"])
    noise, radius = code - lights[:, :2], lights[:, :2].norm(dim=1)
    outermost = radius.max()
    inside, rim = radius < 0.85 * outermost, radius > 0.99 * outermost
    assert (noise[inside].norm(dim=1) < 1e-6).double().mean() > 0.97
    assert (noise[rim].norm(dim=1) > 0.01).double().mean() > 0.8
    outward = (noise[rim] * lights[rim, :2]).sum(dim=1) / radius[rim]
    assert (outward >= 0.8 * noise[rim].norm(dim=1) - 1e-6).double().mean() > 0.9


def test_interrupted_and_resumed_equals_uninterrupted(tmp_path):
    whole = train(SHORT, tmp_path / "whole", progress=False)

    class Interrupted(Exception):
        pass

    original = Run._write

    def after_two_epochs(self, loss):
        original(self, loss)
        if self.step == 200:
            raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "_write", after_two_epochs)
        with pytest.raises(Interrupted):
            train(SHORT, tmp_path / "parts", progress=False)
    resumed = train(SHORT, tmp_path / "parts", resume=True, progress=False)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_from_a_file_of_examples(tmp_path):
    np.save(tmp_path / "points.npy", sphere(600).numpy())
    recipe = replace(
        SHORT,
        data={"name": "examples", "file": str(tmp_path / "points.npy")},
        loss={"k": 20, "straight": 0.9, "noise": 0.1},
    )
    module = recipe.prepare()
    assert isinstance(module.pairs, GraphPairs)
    found = train(recipe, tmp_path / "run", progress=False)
    pairs = module.pairs.draw(500, stream(0, "held-out"))
    p, _ = quotients(found.encoder, pairs)
    assert ((p - 1).abs() < 0.2).double().mean() > 0.8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": {"eps": 4.0}}, "eps 4 is above the injectivity radius 3.142"),
        ({"loss": {"eps": 0.0}}, "loss: eps"),
        ({"loss": {"eps": 0.5, "bending": -1.0}}, "loss: bending"),
        ({"loss": {"eps": 0.5, "noise": math.nan}}, "loss: noise"),
        ({"loss": {"eps": 0.5, "k": 2000}}, "k = 2000 neighbours, but only 1500 examples"),
        ({"loss": {"eps": 0.5, "k": 1}}, "loss: k"),
        ({"loss": {"eps": 0.5, "lambda": 1.0}}, "lambda"),
        ({"schedule": {"length": 100, "encoder": 100}}, "encoder = 100 of length = 100"),
        ({"schedule": {"start": 1.0}}, "start = 1.0 has to be at least 0 and below 1"),
    ],
)
def test_bad_recipes_are_found_before_training(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes).prepare()


# The trained prior --------------------------------------------------------------------------------


def test_encoder_is_nearly_isometric(prior, data):
    def encoder(x):  # its network sees images in units of their amplitude
        return prior.encoder(prior.normalized(x))

    for eps in (0.5, 0.1):
        p, b = quotients(encoder, GeodesicPairs(data, eps).draw(1000, stream(0, "held-out")))
        assert ((p - 1).abs() <= 0.1).double().mean() > 0.9
        assert b.square().sum(dim=1).mean() < 2


def test_properties(prior):
    check_prior(prior)
    check_prior(prior.double())
    prior.float()


def test_decoder_maps_a_tube_to_the_manifold(prior, inner, distance_off):
    z = prior.encode_chart(inner, 0)
    columns = jacobian(prior, Point(torch.zeros(len(z), dtype=torch.long), z))
    values, vectors = torch.linalg.eigh(pullback_metric(columns))
    assert (
        values[:, 0] / values[:, 1]
    ).median() < 0.05  # one direction is normal, and means nothing
    for height in (-0.25, 0.25):
        beside = prior.decode_chart(z + height * vectors[:, :, 0], 0)
        assert distance_off(beside).quantile(0.95) < 0.15


@pytest.mark.parametrize("retraction", [ChartRetraction(), ProjectionRetraction()])
def test_retractions_and_descent_stay_near_the_manifold(
    prior, data, inner, distance_off, retraction
):
    point = locate(prior, inner)
    v = torch.randn(point.z.shape, generator=torch.Generator().manual_seed(0))
    moved = retraction(prior, point, 0.4 * v / v.norm(dim=1, keepdim=True))
    assert distance_off(prior.decode(moved)).quantile(0.95) < 0.15
    truth, _ = data.sample(30, stream(0, "held-out"))
    noise = 0.03 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))
    spread = (truth - truth.mean(dim=0)).flatten(1).norm(dim=1).mean()
    for fidelity in (None, Gaussian(0.03)):
        solution = solve(
            lambda x: x, truth + noise, prior, fidelity=fidelity, retraction=retraction
        )
        assert sum(solution.converged) >= 28
        assert distance_off(solution.x).max() < 0.25
        assert ((solution.x - truth).flatten(1).norm(dim=1) / spread).median() < 0.15


def test_located_points_lie_in_the_tube(prior, data, distance_off):
    x, _ = data.sample(200, stream(0, "held-out"))
    beside = x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    found = locate(prior, beside)
    on = prior.decode(found)
    assert distance_off(on).median() < 0.15 and distance_off(on).max() < 0.4
    trip = (prior.encode_chart(on, 0) - found.z).norm(dim=1)
    assert (trip <= prior.radius * 1.01).double().mean() > 0.95


def test_points_outside_the_tube_are_brought_back(prior, data):
    x, _ = data.sample(200, stream(0, "held-out"))
    z, chart = prior.encode_chart(x, 0), torch.zeros(200, dtype=torch.long)
    still = (prior.project_code(Point(chart, z)).z == z).all(dim=1)
    assert still.double().mean() > 0.97
    g = torch.Generator().manual_seed(0)
    away = z + 0.3 * torch.nn.functional.normalize(torch.randn(z.shape, generator=g), dim=1)
    trip = [
        (prior.encode_chart(prior.decode_chart(code, 0), 0) - code).norm(dim=1).median()
        for code in (away, prior.project_code(Point(chart, away)).z)
    ]
    assert trip[1] < prior.radius < trip[0]


@pytest.mark.parametrize("data", ["sundial", "swiss-roll"])
def test_default_recipes_can_be_trained(data):
    recipe = planned(load_dataset(data), {"name": data}, name="x", method="flat", dim=2)
    method = recipe.prepare()
    assert torch.isfinite(method.loss(method.draw(0)))
