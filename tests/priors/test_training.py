"""The training algorithm: weights of the phases, recipes, a run that is interrupted and resumed."""

import copy
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from onmanifold.priors.atlas import Atlas, AtlasConfig
from onmanifold.priors.atlas.algorithm import (
    AtlasSchedule,
    mixture_energies,
    mixture_weights,
    overlap_weights,
    weighted_loss,
)
from onmanifold.priors.atlas.seeding import Revival, spread_centres
from onmanifold.priors.datasets import TwoCircles, stream
from onmanifold.priors.training.checkpoints import read_checkpoint
from onmanifold.priors.training.evaluation import card, held_out_metrics
from onmanifold.priors.training.recipe import RECIPES, Recipe
from onmanifold.priors.training.run import Diverged, Run, train

CONFIG = AtlasConfig(
    (2,), 1, 3, 0.3, chart={"network": "dense", "couplings": 2, "options": {"hidden": 16}}
)

TINY = Recipe(
    name="tiny",
    card={"description": "for tests"},
    data={"name": "two-circles"},
    model={
        "dim": 1,
        "charts": 4,
        "sigma_x": 0.1,
        "chart": {"network": "dense", "couplings": 3, "options": {"hidden": 32}},
    },
    schedule={
        "seeding": 100,
        "joint": 150,
        "overlap": 100,
        "batch_size": 32,
        "learning_rate": 5e-3,
        "lipschitz": 0.01,
        "refresh": 70,
        "pool": 200,
    },
    threads=1,
)


@pytest.fixture
def atlas():
    torch.manual_seed(0)
    atlas = Atlas(CONFIG).double()
    for parameter in atlas.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return atlas


def test_mixture_weights_give_the_gradient_of_the_mixture_bound(atlas):
    x, noise = torch.randn(12, 2).double(), torch.randn(12, 1).double()
    twin = copy.deepcopy(atlas)
    weighted_loss(atlas, x, noise, mixture_weights(mixture_energies(atlas, x, noise))).backward()
    energies = twin.energies(x, noise) - twin.log_weights
    gamma = (-energies).softmax(dim=1)
    (gamma * energies).sum(dim=1).mean().backward()
    largest = max(p.grad.abs().max() for p in twin.parameters())
    for one, other in zip(atlas.parameters(), twin.parameters(), strict=True):
        assert (one.grad - other.grad).abs().max() < 1e-4 * largest


def test_overlap_weights_share_the_border_and_leave_the_interior(atlas):
    point = atlas.sample(400, 0)
    inner = 0.3 * point.z
    x = atlas.decode(point.at(inner))
    weights = overlap_weights(atlas, x, 1.5)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(400).double())
    plain = (atlas.log_weights - atlas.energies(x)).softmax(dim=1)
    deep = (atlas.encode(x, point.chart).z.abs() < 0.5).squeeze(1) & (
        plain.max(dim=1).values > 0.999
    )
    assert (weights[deep].argmax(1) == plain[deep].argmax(1)).all()
    # at the border of its own chart a point counts for the others more than before
    edge = atlas.decode(point.at(torch.full_like(inner, 0.95)))
    own = torch.arange(400), point.chart
    before = (atlas.log_weights - atlas.energies(edge)).softmax(dim=1)[own]
    after = overlap_weights(atlas, edge, 1.5)[own]
    assert (after <= before + 1e-9).all()


def test_centres_spread_over_clusters():
    generator = torch.Generator().manual_seed(0)
    clusters = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    points = clusters.repeat(50, 1) + torch.randn((150, 2), generator=generator)
    centres = spread_centres(points, 3)
    assert torch.cdist(clusters, centres).amin(dim=1).max() < 0.6


def test_interrupted_and_resumed_equals_uninterrupted(tmp_path):
    whole = train(TINY, tmp_path / "whole", progress=False)

    class Interrupted(Exception):
        pass

    def interrupt(*_):
        raise Interrupted

    original = Run._write

    def after_two_epochs(self, loss):
        original(self, loss)
        if self.step == 200:
            interrupt()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "_write", after_two_epochs)
        with pytest.raises(Interrupted):
            train(TINY, tmp_path / "parts", progress=False)
    resumed = train(TINY, tmp_path / "parts", resume=True, progress=False)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_training_learns_and_the_card_says_so(tmp_path):
    untrained = Atlas(AtlasConfig((2,), **TINY.model))
    trained = train(TINY, tmp_path, progress=False)
    before = held_out_metrics(untrained, TwoCircles(), n=200)
    written = card(TINY, trained)
    after = written["metrics"]
    assert after["relative_error"] < 0.5 * before["relative_error"]
    assert after["decode_encode"] < 1e-4
    assert abs(sum(after["chart_usage"]) - 1) < 1e-3
    assert written["name"] == "tiny" and written["recipe"]["seed"] == 0


def test_shipped_recipes_can_be_read():
    names = sorted(file.stem for file in RECIPES.glob("*.toml"))
    assert {"bar", "tank", "two-balls", "two-circles"} <= set(names)
    for name in names:
        recipe = Recipe.read(name)
        assert recipe.name == name and recipe.card["description"]


def test_bad_recipes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="shipped: bar, .*ring, .*sphere"):
        Recipe.read("no-such-recipe")
    file = tmp_path / "broken.toml"
    file.write_text("name = 'x'\nspeed = 3\n")
    with pytest.raises(ValueError, match=r"broken.toml: .*speed"):
        Recipe.read(file)
    file.write_text('name = "x"\nprecision = "16-mixed"\n[card]\n[data]\n[model]\n[schedule]\n')
    with pytest.raises(ValueError, match="known: 32-true, bf16-mixed"):
        Recipe.read(file)
    file.write_text("name = ")
    with pytest.raises(ValueError, match="broken.toml"):
        Recipe.read(file)


class Given:
    """A data set of the examples it is given."""

    def __init__(self, examples):
        self.examples, self.x_shape = examples, tuple(examples.shape[1:])

    def sample(self, n, generator):
        rows = torch.randint(len(self.examples), (n,), generator=generator)
        return self.examples[rows], rows[:, None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"dim": 3}}, r"dim 3 has to be from 1 to the size of \(2,\)"),
        (
            {"model": {"charts": 30}, "schedule": {"pool": 20}},
            "30 charts .*, but only 20 different examples",
        ),
        ({"model": {"speed": 1}}, "tiny: .*speed"),
        ({"model": {"chart": {"network": "conv"}}}, "tiny: .*channels"),
        ({"schedule": {"batch_size": 0}}, "batch_size has to be at least 1, got 0"),
        ({"schedule": {"joint": -1}}, "joint has to be at least 0, got -1"),
        ({"schedule": {"learning_rate": 0.0}}, "learning_rate has to be above 0"),
        ({"schedule": {"seeding": 0, "joint": 0, "overlap": 0}}, "at least 1"),
        ({"schedule": {"lipshitz": 0.1}}, "tiny: .*lipshitz"),
        ({"data": {"name": "klein-bottle"}}, "tiny: unknown data set 'klein-bottle'"),
        ({"data": {"name": "two-circles", "colour": 1}}, "tiny: .*colour"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_the_first_step(tmp_path, change, message):
    recipe = replace(TINY, **{key: getattr(TINY, key) | value for key, value in change.items()})
    with pytest.raises(ValueError, match=message):
        train(recipe, tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_images_that_the_grids_do_not_divide_have_room():
    networks = {"network": "conv", "options": {"channels": [4, 4], "patch": 4, "hidden": 8}}
    recipe = replace(TINY, data={"name": "bar", "size": 20}, model=TINY.model | {"chart": networks})
    atlas = recipe.prepare().prior
    point = atlas.sample(3, 0)
    x = atlas.decode(point)
    assert x.shape == (3, 1, 20, 20)
    torch.testing.assert_close(atlas.encode(x, point.chart).z, point.z, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (torch.full((5, 2), torch.nan), "200 of 200 examples hold NaN"),
        (torch.ones(5, 2), "all of 200 examples are the same"),
        (torch.arange(6.0).view(3, 2), "4 charts .*, but only 3 different examples"),
    ],
)
def test_data_that_cannot_be_learned_are_refused(monkeypatch, examples, message):
    monkeypatch.setattr(Recipe, "load_data", lambda self: Given(examples))
    with pytest.raises(ValueError, match=message):
        TINY.prepare()


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path):
    short = replace(TINY, schedule=TINY.schedule | {"seeding": 10, "joint": 10, "overlap": 0})
    done = train(short, tmp_path, progress=False)
    again = train(short, tmp_path, resume=True, progress=False)  # nothing is left to do
    for name, value in done.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    with pytest.raises(ValueError, match=r"belongs to another recipe \(seed: 0 there, 1 here\)"):
        train(replace(short, seed=1), tmp_path, resume=True, progress=False)
    with pytest.raises(ValueError, match=r"another recipe \(model: .* there, .* here\)"):
        train(short.with_charts(2), tmp_path, resume=True, progress=False)
    reworded = replace(short, name="other", card={"description": "in other words"})
    train(reworded, tmp_path, resume=True, progress=False)


def test_divergence_names_the_step_and_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    class Broken(TwoCircles):
        def sample(self, n, generator):
            x, coordinates = super().sample(n, generator)
            broken = stream(TINY.seed, "train", 130).initial_seed() == generator.initial_seed()
            return x * torch.nan if broken else x, coordinates

    monkeypatch.setattr(Recipe, "load_data", lambda self: Broken())
    with pytest.raises(Diverged, match=r"step 131: the loss is nan.* after step 100"):
        train(TINY, tmp_path, progress=False)
    state = read_checkpoint(tmp_path)
    assert state["step"] == 100
    assert all(torch.isfinite(v).all() for v in state["module"].values())


def test_dead_charts_are_seeded_anew(tmp_path, monkeypatch):
    recipe = replace(TINY, schedule=TINY.schedule | {"refresh": 30, "joint": 300, "overlap": 0})
    prepare = Recipe.prepare

    def with_a_dead_chart(self, data=None):
        module = prepare(self, data)
        module.centres[3] = 100.0  # no example is near, so seeding teaches this chart nothing
        module.atlas.logits.data[3] = -50.0
        return module

    monkeypatch.setattr(Recipe, "prepare", with_a_dead_chart)

    def smallest_share(dead):
        schedule = recipe.schedule | {"dead": dead}
        atlas = train(replace(recipe, schedule=schedule), tmp_path / f"{dead}", progress=False)
        return min(held_out_metrics(atlas, TwoCircles(), n=500)["chart_usage"])

    assert smallest_share(0.0) < 0.01
    assert smallest_share(0.1) > 0.05


def test_revival_splits_the_busiest_chart(atlas):
    x = torch.randn(400, 2).double()
    owner = (atlas.energies(x) - atlas.log_weights).argmin(dim=1)
    donor = int(torch.bincount(owner).argmax())
    dead = (donor + 1) % 3
    revival = Revival(3, 2, share=0.1, steps=5).double()
    revival.observe(torch.tensor([donor] * 50 + [(donor + 2) % 3] * 50))
    assert revival.dead() == [dead] and revival.dead() == []
    before = copy.deepcopy(atlas.charts[dead].state_dict())
    fresh = revival.revive(atlas, dead, x, step=10, seed=1)
    assert any((before[n] != v).any() for n, v in atlas.charts[dead].state_dict().items())
    own = {id(p) for part in (atlas.charts[dead], atlas.flows[dead]) for p in part.parameters()}
    assert {id(p) for p in fresh} == own
    assert atlas.logits[dead] == atlas.logits[donor]
    weights = torch.nn.functional.one_hot(owner, 3).double()
    claimed = revival.claim(weights, x, owner, step=12)
    moved = claimed[:, dead] > weights[:, dead]
    assert 0 < moved.sum() < (owner == donor).sum() and (owner[moved] == donor).all()
    assert torch.equal(revival.claim(weights, x, owner, step=15), weights)


def test_a_schedule_counts_its_steps():
    assert AtlasSchedule(seeding=1, joint=2, overlap=3).steps == 6


def test_training_never_reads_held_out_streams():
    x, _ = TwoCircles().sample(1000, stream(0, "held-out"))
    for step in range(50):
        batch, _ = TwoCircles().sample(256, stream(0, "train", step))
        assert not (x[:, None] == batch).all(dim=2).any()


TWO_PROCESSES = """
import sys
from pathlib import Path
from onmanifold.priors.training.recipe import Recipe
from onmanifold.priors.training.run import train
recipe = Recipe.read("tiny.toml")
train(recipe, Path(sys.argv[1]), progress=False, devices=int(sys.argv[2]))
"""


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path):
    lines = ['name = "tiny"', "threads = 1", "[card]", "[data]", 'name = "two-circles"', "[model]"]
    lines += ["dim = 1", "charts = 4", "sigma_x = 0.1", "[model.chart]", 'network = "dense"']
    lines += ["couplings = 2", "options = { hidden = 8 }", "[schedule]", "seeding = 20"]
    lines += ["joint = 30", "overlap = 20", "batch_size = 32"]
    (tmp_path / "tiny.toml").write_text("\n".join(lines))
    (tmp_path / "run.py").write_text(TWO_PROCESSES)
    for devices in (1, 2):
        command = [sys.executable, "run.py", f"out{devices}", str(devices)]
        subprocess.run(command, cwd=tmp_path, check=True, timeout=300, capture_output=True)
    one, two = (
        torch.load(tmp_path / f"out{n}" / "last.ckpt", weights_only=True)["module"] for n in (1, 2)
    )
    for name, value in one.items():
        if name == "revival.assigned":  # the first process counts its own share of the examples
            continue
        torch.testing.assert_close(value, two[name], rtol=1e-3, atol=1e-4, msg=name)
