"""Training in one call: from a user's examples to a stored prior and its report."""

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.io import imsave

import onmanifold
from onmanifold import InputError, load_prior, prior_card, train_prior
from onmanifold.cli import main
from onmanifold.errors import MissingPackage
from onmanifold.priors.datasets import OwnExamples, Sphere
from onmanifold.priors.training import Recipe
from onmanifold.priors.training.choice import (
    chosen_dimension,
    chosen_method,
    error_by_dimension,
    planned,
    shortened,
)
from onmanifold.priors.training.linear import PCA
from onmanifold.priors.training.progress import Reporter
from onmanifold.priors.training.run import Run, train
from onmanifold.priors.training.watch import Watch

QUICK = {"dim": 3, "steps": 30, "progress": False}


def disks(n=120, height=14, width=11, seed=0):
    """Images of a disk anywhere, from 0 to 1."""
    source = np.random.default_rng(seed)
    top, left = source.uniform(3, height - 3, (n, 1, 1)), source.uniform(3, width - 3, (n, 1, 1))
    rows, columns = np.mgrid[:height, :width]
    return 1 / (1 + np.exp(2 * (np.hypot(columns - left, rows - top) - 3)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a prior of images that were given in memory, what was returned and printed."""
    folder = tmp_path_factory.mktemp("trained") / "disks"
    script = (
        "import sys, numpy as np, onmanifold\n"
        "prior = onmanifold.train_prior(np.load(sys.argv[1]), dim=3, steps=300, output=sys.argv[2])\n"
    )
    np.save(folder.parent / "x.npy", 255 * disks())
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        script,
        str(folder.parent / "x.npy"),
        str(folder),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout, done.stderr


def test_one_call_makes_a_prior_that_beats_principal_components(trained):
    folder, _, _ = trained
    card = prior_card(folder)
    assert card["recipe"]["method"] == "nrae-l" and card["x_shape"] == [1, 14, 11]
    metrics = card["metrics"]
    assert metrics["relative_error"] < 0.8 * metrics["pca_relative_error"]
    assert metrics["psnr"] > metrics["pca_psnr"] + 1
    samples = load_prior(folder).decode(load_prior(folder).sample(20, 0))
    assert 128 < samples.max() < 400  # in the unit of the data


def test_the_card_says_what_the_data_were(trained):
    data = prior_card(trained[0])["data"]
    assert data["kind"] == "ndarray" and data["shape"] == [1, 14, 11] and data["examples"] == 120
    assert (data["train"], data["held_out"], data["validation"]) == (102, 12, 6)
    assert data["range"][0] >= 0 and 250 < data["range"][1] <= 255
    assert len(data["sha256"]) == 64
    recipe = Recipe.read(trained[0] / "recipe.toml")
    assert recipe.model["dim"] == 3 and recipe.data["held_out"] == 0.1
    with pytest.raises(InputError, match="its examples were in memory: pass them"):
        recipe.load_data()


def test_what_is_printed_fits_a_terminal_and_loads(trained):
    folder, printed, log = trained
    assert all(len(line) <= 80 or str(folder) in line for line in printed.splitlines())
    metrics = prior_card(folder)["metrics"]
    assert (
        f"{metrics['relative_error']:.1%}" in printed and f"{metrics['pca_psnr']:.1f} dB" in printed
    )
    line = printed.splitlines()[-1]
    assert eval(line, {"load_prior": load_prior}).dim == 3
    assert "training: step 300 of 300, 0 s left, held-out error" in log  # without a terminal


def test_the_report_is_a_page_of_images(trained):
    page = np.asarray(Image.open(trained[0] / "report.png").convert("RGB"))
    assert page.shape[1] > 900 and page.std() > 20


@pytest.mark.parametrize(
    ("shape", "method"),
    [((1, 28, 28), "ae"), ((1, 15, 22), "nrae-l"), ((3, 17, 13), "atlas"), ((2, 9, 20), "ae")],
)
def test_images_of_any_size_and_any_number_of_channels(tmp_path, shape, method):
    x = torch.rand((30, *shape), generator=torch.Generator().manual_seed(0))
    prior = train_prior(x, method, 2, steps=4, progress=False, output=tmp_path / "p")
    assert prior.x_shape == shape and prior.decode(prior.sample(2, 0)).shape == (2, *shape)


@pytest.mark.parametrize("kind", ["npy", "folder", "points", "generator", "name"])
def test_all_kinds_of_data(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", disks())
    (tmp_path / "images").mkdir()
    for i, image in enumerate(disks(40)):
        imsave(tmp_path / "images" / f"{i:02}.png", (255 * image).astype(np.uint8))
    points = np.random.default_rng(0).normal(size=(60, 3))
    data = {
        "npy": "x.npy",
        "folder": "images",
        "points": points,
        "generator": Sphere(),
        "name": "ring",
    }
    shape = {"npy": (1, 14, 11), "folder": (1, 14, 11), "name": (2,)}.get(kind, (3,))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the prior comes no nearer")
        prior = train_prior(data[kind], **QUICK | {"dim": 2})
    assert prior.x_shape == shape
    (folder,) = tmp_path.glob("*-prior")
    assert (
        folder.name == {"npy": "x", "folder": "images", "name": "ring"}.get(kind, "own") + "-prior"
    )
    if kind in ("npy", "folder"):  # the recipe can be trained again
        assert Recipe.read(folder / "recipe.toml").load_data().x_shape == shape


def test_the_error_of_the_decoder_is_measured_where_examples_suffice(tmp_path):
    few = train_prior(disks(600), "ae", 2, steps=50, progress=False, output=tmp_path / "few")
    assert few.decoder_error is None  # 30 validation examples
    ring = train_prior("ring", "ae", 1, steps=100, progress=False, output=tmp_path / "ring")
    error = load_prior(tmp_path / "ring").decoder_error
    off = ring.views(onmanifold.load_dataset("ring").sample(500, 1)[0])[1].square().mean()
    assert 0.3 < error.variance.sum() / off < 1.5


def test_the_recipe_beside_the_weights_trains_them_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", disks())
    prior = train_prior("x.npy", **QUICK)
    again = train(Recipe.read("x-prior/recipe.toml"), "again", progress=False).half().float()
    assert prior.decoder_error is None  # of few examples
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in prior.state_dict().items())


def test_interrupted_and_resumed_equals_uninterrupted(tmp_path, monkeypatch):
    arguments = QUICK | {"steps": 300}
    whole = train_prior(disks(), output=tmp_path / "whole", **arguments)
    original = Run._write

    def interrupted(self, loss):
        original(self, loss)
        if self.step == 200:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_prior(disks(), output=tmp_path / "parts", **arguments)
    assert not (tmp_path / "parts" / "card.json").exists()
    with pytest.raises(InputError, match="is of nrae-l in 3 dimensions, not of ae"):
        train_prior(disks(), "ae", output=tmp_path / "parts", resume=True)
    with pytest.raises(InputError, match="examples of the data are others"):
        train_prior(disks(seed=1), output=tmp_path / "parts", resume=True, **arguments)
    resumed = train_prior(disks(), output=tmp_path / "parts", resume=True, progress=False)
    assert all(torch.equal(v, resumed.state_dict()[k]) for k, v in whole.state_dict().items())


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (np.arange(90) % 10, {}, "look like labels"),
        (np.ones((40, 8, 8)), {}, "all of 40 examples are the same"),
        (np.full((40, 8, 8), np.nan), {}, "40 of 40 examples hold NaN"),
        (disks(20), {"dim": 40}, "dim = 40, but there are only 17 examples to learn from"),
        (disks(20), {"dim": 0}, "dim has to be at least 1"),
        (disks(), {"dim": 200}, r"dim = 200, but an example has 154 numbers \(1, 14, 11\)"),
        (disks(2), {}, "too few to hold some out"),
        (disks(), {"method": "nrae"}, "unknown method 'nrae'; known: auto, ae, atlas"),
        (disks(), {"steps": 0}, "steps has to be at least 1"),
        (disks(), {"held_out": 1.5}, "held_out has to be above 0 and below 1"),
        (disks(), {"resize": (7,)}, "resize has to be a height and a width"),
        ("no-such-folder", {}, "there is no file or folder no-such-folder"),
    ],
)
def test_nothing_is_written_of_what_cannot_be_learned(tmp_path, data, options, message):
    with pytest.raises((InputError, FileNotFoundError), match=message):
        train_prior(data, output=tmp_path / "p", **{"dim": 3, "progress": False} | options)
    assert not list(tmp_path.iterdir())


def test_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    for i, image in enumerate(disks(40, 20, 20)):
        imsave(tmp_path / "images" / f"{i:02}.png", (255 * image).astype(np.uint8))
    imsave(tmp_path / "images" / "copy.png", (255 * disks(40, 20, 20)[0]).astype(np.uint8))
    arguments = ["--data", "images", "--method", "ae", "--dim", "2", "--steps", "20"]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert run("train", *arguments, "--resize", "10x12") == 0
    printed = capsys.readouterr()
    assert 'load_prior("./images-prior")' in printed.out
    assert "onmanifold: images: 1 of 41 examples repeat others; copies" in printed.err
    (tmp_path / "images" / "copy.png").unlink()
    assert Recipe.read("sphere").with_data("images").load_data().x_shape == (1, 20, 20)
    assert prior_card("./images-prior")["x_shape"] == [1, 10, 12]
    for wrong, message in [
        ([], "train needs examples, --data FILE"),
        (["--data", "images", "--resize", "10"], "--resize takes HEIGHTxWIDTH"),
        (["--data", "images", "--charts", "2"], "need a recipe"),
        (["sphere", "--method", "ae"], "says its own method"),
        (["--data", "nothing"], "there is no file or folder nothing"),
    ]:
        assert run("train", *wrong) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.splitlines()) == 1


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


def test_a_missing_package_is_said_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingPackage, match=r"scikit-learn.*pip install 'onmanifold\[train\]'"):
        train_prior(disks(), output=tmp_path / "p", **QUICK)
    assert not (tmp_path / "p").exists()
    assert run("train", "sphere", "--output", str(tmp_path / "q")) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_training_imports():
    code = "import sys, onmanifold; onmanifold.train_prior; "
    code += "print([m for m in sys.argv[1:] if m in sys.modules])"
    slow = ["sklearn", "umap", "numba", "torch._dynamo", "sympy", "torchvision", "skimage"]
    found = subprocess.run([sys.executable, "-c", code, *slow], capture_output=True, text=True)
    assert found.stdout.strip() == "[]"
    assert "train_prior" in dir(onmanifold)
    with pytest.raises(AttributeError, match="no attribute 'train_pior'"):
        onmanifold.train_pior  # noqa: B018


# Choices ------------------------------------------------------------------------------------------


def test_dimension_is_chosen_by_what_lowers_the_error():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((1200, 4), generator=generator) @ torch.randn((4, 60), generator=generator)
    errors = error_by_dimension(x[:1000], x[1000:])
    assert list(errors) == [1, 2, 4, 8] and chosen_dimension(errors) == 4


@pytest.mark.parametrize(
    ("n", "shape", "method"),
    [
        (20, (3,), "atlas"),
        (20, (200,), "nrae-l"),
        (20, (1, 28, 28), "nrae-l"),
        (3000, (1, 28, 28), "ae"),
        (3000, (1, 9, 9), "nrae-l"),  # by dense networks
    ],
)
def test_method_follows_from_kind_and_number_of_examples(n, shape, method):
    assert chosen_method(torch.zeros(1, *shape).expand(n, *shape)) == method


@pytest.mark.parametrize(("side", "rate"), [(28, 4e-3), (64, 1e-3)])
def test_networks_of_two_grids_learn_at_a_lower_rate(side, rate):
    """At 0.004 colour images of 64 x 64 pixels stayed at 42 % where 0.001 led to 13 % in 1000 steps."""
    data = OwnExamples.of(torch.rand(40, 3, side, side, generator=torch.Generator().manual_seed(0)))
    for method in ("ae", "nrae-l"):
        recipe = planned(data, {"name": "in memory"}, name="own", method=method, dim=2)
        assert recipe.schedule["learning_rate"] == rate


def test_fewer_steps_keep_the_proportions_of_the_phases():
    schedule = {"seeding": 500, "joint": 4000, "overlap": 1000, "learning_rate": 1e-3}
    for steps in (7, 55, 1000):
        assert sum(v for v in shortened(schedule, steps).values() if isinstance(v, int)) == steps
    assert shortened({"length": 9, "encoder": 6}, 3) == {"length": 3, "encoder": 2}


def test_principal_components_are_the_best_linear_prior():
    x = torch.randn((60, 12), generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 13)
    centred = x - x.mean(dim=0)
    left, values, right = torch.linalg.svd(centred, full_matrices=False)
    exact = left[:, :4] * values[:4] @ right[:4] + x.mean(dim=0)
    torch.testing.assert_close(PCA.fit(x, 4).project(x), exact, rtol=1e-3, atol=1e-3)


# Watching -----------------------------------------------------------------------------------------


def method_of(patience):
    recipe = planned(
        onmanifold.priors.datasets.OwnExamples.of(disks(), validation=0.1), {"name": "in memory"},
        name="x", method="ae", dim=2, steps=1000,
    )  # fmt: skip
    recipe = Recipe(**{**recipe.__dict__, "schedule": recipe.schedule | {"patience": patience}})
    data = onmanifold.priors.datasets.OwnExamples.of(disks(), validation=0.1)
    return recipe, recipe.prepare(data), data


def test_training_stops_when_the_error_no_longer_falls_and_keeps_the_best_weights(
    tmp_path, monkeypatch
):
    recipe, _, data = method_of(patience=200)
    errors = iter([0.5, 0.3, 0.4, 0.35, 0.2])
    seen = {}

    def error(self, x):
        seen[len(seen)] = {k: v.clone() for k, v in self.method.model.decoder.state_dict().items()}
        return next(errors)

    monkeypatch.setattr(Watch, "_error", error)
    prior = train(recipe, tmp_path, data=data, progress=False)
    assert len(seen) == 4  # 200 steps after the least
    best = prior.decoder.state_dict()
    assert all(torch.equal(best[k], v) for k, v in seen[1].items())
    rows = [line.split(",") for line in (tmp_path / "loss.csv").read_text().splitlines()]
    assert [(row[0], row[2]) for row in rows] == [
        ("100", "0.5"), ("200", "0.3"), ("300", "0.4"), ("400", "0.35"),
    ]  # fmt: skip


def test_the_error_is_that_of_examples_that_nothing_else_uses():
    _, method, data = method_of(patience=0)
    watch = Watch(method)
    assert {tuple(x.flatten().tolist()) for x in watch.x} == {
        tuple(x.flatten().tolist()) for x in data.part("validation").x
    }
    watch.look(100)
    x = data.part("validation").x
    with torch.no_grad():
        decoded = method.model.decode_chart(method.model.encode_chart(x, 0), 0)
    relative = ((decoded - x).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)).median()
    assert watch.curve == [(100, pytest.approx(float(relative), rel=1e-4))]
    assert method.training and not watch.weights


def test_a_log_gets_a_line_now_and_then(capsys, monkeypatch):
    clock = iter(np.arange(0.0, 1000.0, 9.0))
    monkeypatch.setattr("onmanifold.priors.training.progress.time.monotonic", lambda: next(clock))
    reporter = Reporter(1000, 0, True)
    with reporter.running():
        for step in range(100, 1001, 100):
            reporter.step(step, 0.1)
            reporter.looked(step, [(step, 1 / step)], step == 1000)
    lines = capsys.readouterr().err.splitlines()
    assert 2 < len(lines) < 9 and lines[-1].startswith("training: step 1000 of 1000, 0 s left")
    assert all(len(line) <= 80 for line in lines)
    silent = Reporter(10, 0, False)
    with silent.running():
        silent.looked(10, [], True)
    assert not capsys.readouterr().err


def test_a_card_is_plain_json(trained):
    json.dumps(prior_card(trained[0]), allow_nan=False)
