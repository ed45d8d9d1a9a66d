"""The losses of the autoencoders to compare with, and their training."""

import math

import pytest
import torch
from torch.func import jacrev, vmap

from onmanifold import load_prior
from onmanifold.pretrained import save_prior
from onmanifold.priors.autoencoder import AutoencoderConfig
from onmanifold.priors.autoencoder.loss import AutoencoderSchedule
from onmanifold.priors.baselines import losses
from onmanifold.priors.baselines.losses import (
    contraction,
    discrepancy,
    divergence_from_normal,
    log_ratio_spread,
)
from onmanifold.priors.baselines.topological import tree_edges, tree_loss, witness_filtration
from onmanifold.priors.networks import mlp
from onmanifold.priors.training.recipe import Recipe
from onmanifold.priors.training.run import train

METHODS = ("ae", "vae", "wae", "dae", "cae", "grae", "spae", "topo-ae", "witness-ae")
POINTS = {"name": "swiss-roll"}
IMAGES = {"name": "two-balls", "size": 16, "min_radius": 1.5, "max_radius": 3.0}
IMAGES |= {"max_centre": 5.5, "disk": 7.5, "gap": 1.0}


def recipe(method, data=POINTS, loss=None, **schedule):
    schedule = {"length": 5, "batch_size": 16, "examples": 60} | schedule
    loss = {"witnesses": 30} if loss is None and method == "witness-ae" else loss or {}
    model = {"dim": 2, "options": {"hidden": 16}, "components": 2}
    return Recipe(f"small-{method}", {}, data, model, schedule, loss, method=method, threads=1)


@pytest.fixture
def no_umap(monkeypatch):
    """The first principal components in place of UMAP, whose import takes half a minute."""

    def components(x, dim, neighbours, seed):
        x = x - x.mean(dim=0)
        z = x @ torch.linalg.svd(x, full_matrices=False).Vh[:dim].T
        return z / z.std()

    monkeypatch.setattr(losses, "embedding", components)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("data", [POINTS, IMAGES], ids=["vectors", "images"])
def test_trains_and_gives_a_prior_that_can_be_stored(method, data, no_umap, tmp_path):
    prior = train(recipe(method, data), tmp_path / "run", progress=False)
    save_prior(prior, tmp_path / "prior", {"name": method})
    stored = load_prior(tmp_path / "prior")
    point = stored.sample(4, 0)
    x = stored.decode(point)
    torch.testing.assert_close(x, prior.decode(point))
    assert torch.isfinite(x).all()
    assert set(prior.state_dict()) == set(stored.state_dict())


@pytest.mark.parametrize("method", METHODS)
def test_its_loss_falls_and_repeats_itself(method, no_umap):
    def falling(steps):
        torch.manual_seed(0)
        module = recipe(method, length=200, examples=100).prepare()
        optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
        for step in range(steps):
            loss = module.loss(module.draw(step))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield float(loss.detach())

    first = list(falling(40))
    assert list(falling(3)) == first[:3]
    assert sum(first[-5:]) < 0.7 * sum(first[:5])


def test_convolutional_networks_too(no_umap, tmp_path):
    options = {"channels": [8, 8], "patch": 4, "hidden": 16, "groups": 2}
    for method in ("vae", "cae"):  # the two that need more of the encoder than its codes
        small = recipe(method, IMAGES)
        small.model.update(network="conv", options=options)
        module = small.prepare()
        module.loss(module.draw(0)).backward()
        assert all(torch.isfinite(p.grad).all() for p in module.model.encoder.parameters())


def test_divergence_of_normal_densities():
    mean, log_variance = normal(3, 2), normal(3, 2, seed=1)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (log_variance / 2).exp()),
        torch.distributions.Normal(0.0, 1.0),
    ).sum(dim=1)
    torch.testing.assert_close(divergence_from_normal(mean, log_variance), expected)


def test_vae_is_the_evidence_bound_times_its_variance():
    module = recipe("vae", loss={"variance": 0.3}).prepare()
    batch = module.draw(0)
    x, encoder = batch["x"], module.model.encoder
    mean, deviation = encoder(x), (module.log_variance(x) / 2).exp()
    decoded = module.model.decoder(mean + deviation * batch["noise"])
    normal_of = torch.distributions.Normal
    evidence = normal_of(decoded, math.sqrt(0.3)).log_prob(x).sum(1) + 1.5 * math.log(0.6 * math.pi)
    divergence = torch.distributions.kl_divergence(
        normal_of(mean, deviation), normal_of(0.0, 1.0)
    ).sum(dim=1)
    expected = 2 * 0.3 / 3 * (divergence - evidence).mean()
    torch.testing.assert_close(module.loss(batch), expected, rtol=1e-4, atol=1e-6)


def test_vae_encoder_alone_learns_the_inverse_between_the_examples():
    module = recipe("vae", loss={"variance": 0.3, "inverse": 2.0}).prepare()
    batch = module.draw(0)
    z, model = batch["sample"], module.model
    expected = 2.0 * (model.encoder(model.decoder(z)) - z).square().mean()
    error = module.inverse_error(z)
    torch.testing.assert_close(error, expected)
    plain = recipe("vae", loss={"variance": 0.3}).prepare()
    plain.load_state_dict(module.state_dict())
    assert set(plain.draw(0)) == set(batch) - {"sample"}
    torch.testing.assert_close(module.loss(batch), plain.loss(batch) + expected)
    error.backward()
    assert all(p.grad is None for p in model.decoder.parameters())
    assert all(p.grad is not None for p in model.encoder.parameters())


def test_discrepancy_of_a_small_case():
    z, w = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [5.0]])
    expected = 0.0
    for scale in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0):

        def kernel(a, b, constant=2 * scale):
            return constant / (constant + (a - b) ** 2)

        expected += kernel(0, 1) + kernel(2, 5)
        expected -= (kernel(0, 2) + kernel(0, 5) + kernel(1, 2) + kernel(1, 5)) / 2
    torch.testing.assert_close(discrepancy(z, w), torch.tensor(expected))


def test_discrepancy_is_zero_in_the_mean_for_equal_densities():
    values = torch.stack([discrepancy(*normal(2, 20, 3, seed=seed)) for seed in range(400)])
    assert abs(values.mean()) < 4 * values.std() / 20
    assert discrepancy(normal(200, 3), normal(200, 3, seed=1) + 0.5) > 0.05


def test_the_exact_contraction_is_the_jacobian_norm():
    network = mlp(5, 8, 3).double()
    x = normal(4, 5).requires_grad_()
    expected = torch.stack([vmap(jacrev(network))(x[i : i + 1]).square().sum() for i in range(4)])
    found = contraction(x, network(x), torch.eye(3, dtype=x.dtype).expand(4, 3, 3))
    torch.testing.assert_close(found, expected)


def test_the_estimated_contraction_is_unbiased():
    method = recipe("cae").prepare()
    every = torch.zeros(4000, dtype=torch.long)
    directions = method.extras(every, torch.Generator().manual_seed(0))["directions"]

    def norms(x, directions):
        many = x[None].clone().requires_grad_().expand(len(directions), -1)
        return contraction(many, method.model.encoder(many), directions).detach()

    # the example where the directions matter most: where the encoder is conformal they do not
    x = max(method.examples[:40], key=lambda x: norms(x, directions[:100]).std())
    (expected,) = norms(x, torch.eye(2)[None])
    drawn = norms(x, directions)
    assert drawn.std() > 0.05 * expected
    assert abs(drawn.mean() - expected) < 4 * drawn.std() / math.sqrt(4000)


def test_spread_of_log_ratios():
    x = normal(6, 4)
    orthogonal = torch.linalg.qr(normal(4, 4, seed=1))[0]
    assert log_ratio_spread(x, 0.1 * x @ orthogonal) < 1e-5
    square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    flat = torch.tensor([[0.0], [1.0], [-1.0]])  # ratios 1, 1 and sqrt(2) / 2
    logs = torch.tensor([0.0, 0.0, math.log(math.sqrt(2) / 2)])
    torch.testing.assert_close(log_ratio_spread(square, flat), logs.std(correction=0))


def test_equal_points_leave_no_trace_in_the_spread():
    x = normal(4, 3)
    z = normal(4, 2, seed=1).requires_grad_()
    twice = log_ratio_spread(x[[0, 1, 2, 2]], z[[0, 1, 2, 2]])
    (gradient,) = torch.autograd.grad(twice, z)
    assert torch.isfinite(twice) and torch.isfinite(gradient).all()


def test_tree_of_hand_made_distances():
    distances = torch.tensor(
        [[0.0, 1, 4, 3], [1.0, 0, 2, 5], [4.0, 2, 0, 6], [3.0, 5, 6, 0]], requires_grad=True
    )
    edges = {tuple(sorted(edge)) for edge in torch.stack(tree_edges(distances)).T.tolist()}
    assert edges == {(0, 1), (1, 2), (0, 3)}


def test_tree_joins_equal_points():
    rows, columns = tree_edges(torch.zeros(3, 3))
    assert len(rows) == len(columns) == 2


def test_tree_loss_looks_at_the_trees_of_both():
    data = torch.tensor([[0.0, 1, 2], [1.0, 0, 3], [2.0, 3, 0]])  # tree 01, 02
    latent = torch.tensor([[0.0, 1, 5], [1.0, 0, 2], [5.0, 2, 0]])  # tree 01, 12
    torch.testing.assert_close(tree_loss(data, latent), torch.tensor(0.5 * (9 / 2 + 1 / 2)))
    assert tree_loss(data, data) == 0


def test_witness_filtration_of_a_loop():
    landmarks, witnesses = normal(5, 3), normal(7, 3, seed=1)
    found = witness_filtration(landmarks, witnesses)
    distances = torch.cdist(landmarks, witnesses)
    for i in range(5):
        for j in range(5):
            expected = 0.0 if i == j else min(float(max(d)) for d in distances[[i, j]].T)
            assert found[i, j] == pytest.approx(expected)


def test_witnesses_follow_the_manifold():
    """The ends of an open circle are near each other, but no example lies between them."""
    angles = torch.linspace(0, 1.8 * math.pi, 200, dtype=torch.float64)
    circle = torch.stack([angles.cos(), angles.sin()], dim=1)
    ends, side = circle[[0, -1]], circle[[0, 33]]
    half_chord = torch.dist(*ends) / 2
    assert witness_filtration(ends, circle)[0, 1] > 1.8 * half_chord
    assert witness_filtration(side, circle)[0, 1] < 1.1 * torch.dist(*side) / 2


@pytest.mark.parametrize(
    ("method", "loss", "schedule", "message"),
    [
        ("vae", {"variance": 0.0}, {}, "loss: variance has to be above 0"),
        ("vae", {"inverse": -1.0}, {}, "loss: inverse has to be above 0"),
        ("wae", {"weight": -1.0}, {}, "loss: weight has to be above 0"),
        ("wae", {}, {"batch_size": 1}, "batch_size has to be at least 2"),
        ("dae", {"noise": 0.0}, {}, "loss: noise has to be above 0"),
        ("grae", {"neighbours": 60}, {}, "loss: neighbours 60, but each of 60 examples has 59"),
        ("grae", {"neighbours": 1}, {}, "loss: neighbours has to be at least 2"),
        ("grae", {"neighbours": 2}, {"examples": 3}, "dim 2 is too large to embed 3 examples"),
        ("spae", {}, {"batch_size": 2}, "batch_size has to be at least 3"),
        ("topo-ae", {}, {"batch_size": 1}, "batch_size has to be at least 2"),
        ("witness-ae", {"witnesses": 61}, {}, "loss: witnesses 61, but there are 60 examples"),
        ("witness-ae", {"weight": math.nan, "witnesses": 9}, {}, "loss: weight"),
        ("dae", {"weight": 1.0}, {}, "weight"),
    ],
)
def test_bad_options_are_refused_before_training(method, loss, schedule, message):
    with pytest.raises(ValueError, match=message):
        recipe(method, loss=loss, **schedule).prepare()


@pytest.mark.slow
def test_umap_gives_targets_that_repeat_themselves():
    pytest.importorskip("umap")
    small = recipe("grae", examples=100)
    first, again = small.prepare().targets, small.prepare().targets
    assert torch.equal(first, again)
    assert first.shape == (100, 2)
    torch.testing.assert_close(first.std(), torch.tensor(1.0))
    torch.testing.assert_close(first.mean(dim=0), torch.zeros(2), rtol=0, atol=1e-5)


def test_configurations_are_those_of_the_recipe():
    module = recipe("vae", IMAGES).prepare()
    found = module.model.settings
    values = {"background": found.background, "amplitude": found.amplitude}  # of the data
    assert found == AutoencoderConfig((1, 16, 16), **recipe("vae").model, **values)
    assert module.schedule == AutoencoderSchedule(**recipe("vae").schedule)
