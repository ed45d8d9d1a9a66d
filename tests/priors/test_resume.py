"""Training is what it says when it is resumed: by content, on any device, after any interruption."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from onmanifold.priors.datasets import Bar, Sphere, TwoCircles
from onmanifold.priors.training import Recipe, train
from onmanifold.priors.training.checkpoints import FILE, read_checkpoint
from onmanifold.priors.training.identity import fingerprint
from onmanifold.storage import DamagedFile

CHART = {"network": "dense", "couplings": 2, "options": {"hidden": 8}}
MODEL = {"dim": 1, "charts": 2, "sigma_x": 0.1, "chart": CHART}
SCHEDULE = {"seeding": 5, "joint": 10, "overlap": 5, "batch_size": 16, "pool": 50}


def points(seed=0, n=60):
    angle = np.random.default_rng(seed).uniform(0, 6, n)
    return np.stack([np.cos(angle), np.sin(angle), angle / 6], axis=1)


def recipe_of(file, **fields):
    data = {"name": "examples", "file": str(file)}
    return replace(Recipe("own", {}, data, MODEL, SCHEDULE, threads=1), **fields)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data, and the checkpoint of a training of them."""
    folder = tmp_path_factory.mktemp("trained")
    np.save(folder / "x.npy", points())
    train(recipe_of(folder / "x.npy"), folder / "out", progress=False)
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "copy")
    return tmp_path / "copy"


def resume(folder, recipe=None):
    recipe = recipe or recipe_of(folder / "x.npy")
    return train(recipe, folder / "out", resume=True, progress=False)


def other_examples(x):
    return points(seed=1)


def another_order(x):
    return x[::-1]


def one_value(x):
    x[7, 1] += 1e-3
    return x


def more(x):
    return np.concatenate([x, points(seed=2, n=1)])


@pytest.mark.parametrize("change", [other_examples, another_order, one_value, more])
def test_other_examples_under_the_same_name_are_refused(folder, change):
    np.save(folder / "x.npy", change(points()))
    with pytest.raises(ValueError, match="the examples of the data are others than there"):
        resume(folder)


def test_another_part_held_out_is_refused(folder):
    data = {"name": "examples", "file": str(folder / "x.npy"), "held_out": 0.2}
    with pytest.raises(ValueError, match="held_out.*; the examples of the data are others"):
        resume(folder, recipe_of(None, data=data))


@pytest.mark.parametrize("place", ["elsewhere", "working directory", "npz", "float32"])
def test_the_same_examples_are_the_same_wherever_they_are(folder, tmp_path, monkeypatch, place):
    before = read_checkpoint(folder / "out")["module"]
    file = tmp_path / "y.npy"
    np.save(file, points())
    if place == "working directory":
        monkeypatch.chdir(tmp_path)
        file = "y.npy"
    elif place == "npz":
        file = tmp_path / "y.npz"
        np.savez(file, some=points())
    elif place == "float32":  # what networks see
        np.save(file, points().astype(np.float32))
    again = resume(folder, recipe_of(file, name="renamed"))
    assert all(torch.equal(before[f"atlas.{k}"], v) for k, v in again.state_dict().items())


def test_generators_are_told_by_what_they_make():
    close = fingerprint(Sphere()) * (1 + 1e-6)
    assert (close - fingerprint(Sphere())).abs().max() < 1e-3
    assert fingerprint(Bar(size=32)).shape != fingerprint(Bar(size=16)).shape


def test_a_generator_that_changed_is_refused(tmp_path, monkeypatch):
    recipe = Recipe("c", {}, {"name": "two-circles"}, MODEL, SCHEDULE, threads=1)
    train(recipe, tmp_path, progress=False)
    train(recipe, tmp_path, resume=True, progress=False)
    monkeypatch.setattr(Recipe, "load_data", lambda self: TwoCircles(radius=1.1))
    with pytest.raises(ValueError, match="examples of the data are others"):
        train(recipe, tmp_path, resume=True, progress=False)


@pytest.mark.parametrize("step", [0, 10])
def test_a_checkpoint_of_another_device_is_read_here(folder, monkeypatch, step):
    state = read_checkpoint(folder / "out") | {"step": step}
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:3")
    torch.save(state, folder / "out" / FILE)
    monkeypatch.undo()
    tensors = read_checkpoint(folder / "out")["module"].values()
    assert {value.device.type for value in tensors} == {"cpu"}
    resume(folder)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def damaged(data, middle=5):
    return {
        "empty": b"",
        "truncated": data[:-100],
        "half": data[:middle],
        "zeros": bytes(len(data)),
        "text": b"not a checkpoint",
        "hole": data[:middle] + bytes(2000) + data[middle + 2000 :],
        "bit": data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :],
    }


@pytest.mark.parametrize("damage", [*damaged(b"0" * 9)])
def test_a_damaged_checkpoint_is_named(folder, damage):
    file = folder / "out" / FILE
    data = file.read_bytes()
    # amid the largest tensor: there are gaps in the file where a bit is no matter
    largest = max(
        read_checkpoint(folder / "out")["module"].values(), key=lambda value: value.numel()
    )
    start = data.index(largest.numpy().tobytes())
    file.write_bytes(damaged(data, start + largest.numel() * 2)[damage])
    with pytest.raises(DamagedFile, match=r"last\.ckpt is .*train without --resume") as refused:
        resume(folder)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    "content",
    [Bomb(), [1, 2], {"step": 5}, {"step": "5"}, torch.ones(3), {"module": Bomb(), "step": 1}],
)
def test_what_is_no_checkpoint_is_refused_and_nothing_is_unpickled(folder, content):
    torch.save(content, folder / "out" / FILE)
    with pytest.raises(DamagedFile, match=r"last\.ckpt is"):
        resume(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"step": -1}, {"step": 10**9}, {"step": True}, {"module": {}}, {"optimizer": {}},
        {"module": {"atlas.logits": 3}}, {"watch": {"curve": "x"}, "step": 10},
    ],
)  # fmt: skip
def test_a_checkpoint_that_contradicts_itself_is_refused(folder, change):
    state = read_checkpoint(folder / "out") | {"step": 10} | change
    torch.save(state, folder / "out" / FILE)
    with pytest.raises(DamagedFile, match="train without --resume"):
        resume(folder)


def test_recipes_may_hold_what_numpy_makes(tmp_path):
    np.save(tmp_path / "x.npy", points())
    model = MODEL | {"dim": np.int64(1), "sigma_x": np.float32(0.1)}
    options = {"hidden": np.int32(8)}
    recipe = recipe_of(
        tmp_path / "x.npy",
        data={"name": "examples", "file": tmp_path / "x.npy", "held_out": np.float64(0.1)},
        model=model | {"chart": CHART | {"options": options}},
        schedule=SCHEDULE | {"joint": np.int64(10), "learning_rate": np.float64(1e-3)},
        seed=np.int64(3),
        threads=np.int64(1),
    )
    train(recipe, tmp_path / "out", progress=False)
    train(recipe, tmp_path / "out", resume=True, progress=False)
    assert json.dumps(recipe.model) and recipe.seed == 3 and type(recipe.seed) is int


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seed": -1}, "seed has to be at least 0"),
        ({"seed": 2**40}, "seed has to be at most"),
        ({"seed": 1.5}, "seed has to be an int"),
        ({"threads": 0}, "threads has to be at least 1"),
        ({"precision": "16-mixed"}, "known: 32-true"),
        ({"model": None}, r"\[model\] has to be a table"),
        ({"data": {"name": object()}}, r"\[data\]: name has to be a number, text"),
    ],
)
def test_recipes_of_python_are_checked_as_files_are(fields, message):
    with pytest.raises(ValueError, match=message):
        recipe_of("x.npy", **fields)


def test_names_are_imported_when_they_are_used():
    code = "import sys, onmanifold.priors.training as t; print('onmanifold.priors.atlas' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code + "; t.train"], capture_output=True, text=True
    )
    assert "False" in found.stdout and found.returncode == 0


# Each training is a process of its own, forked where everything is imported already, and killed.
KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from onmanifold.priors.training import Recipe, train
from onmanifold.priors.training.checkpoints import read_checkpoint

chart = {"network": "dense", "couplings": 2, "options": {"hidden": 16}}
model = {"dim": 1, "charts": 2, "sigma_x": 0.05, "chart": chart}
schedule = {"seeding": 100, "joint": 200, "overlap": 100, "batch_size": 16, "lipschitz": 0.01}
recipe = Recipe("killed", {}, {"name": "two-circles"}, model, schedule, threads=1)

def forked(folder, resume):
    child = os.fork()
    if child == 0:
        prior = train(recipe, folder, resume=resume, progress=False)
        torch.save(prior.state_dict(), folder / "prior.pt")
        os._exit(0)
    return child

folder = Path(sys.argv[1])
began = time.monotonic()
assert os.waitpid(forked(folder / "whole", False), 0)[1] == 0
seconds = time.monotonic() - began
whole = torch.load(folder / "whole" / "prior.pt", weights_only=True)
source, equal, killed = random.Random(0), 0, []
for i in range(20):
    while True:  # until it is killed before its end
        child = forked(folder / str(i), False)
        time.sleep(source.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        if os.waitpid(child, 0)[1] == signal.SIGKILL:
            break
    state = read_checkpoint(folder / str(i))
    killed.append(0 if state is None else state["step"])
    assert os.waitpid(forked(folder / str(i), True), 0)[1] == 0
    again = torch.load(folder / str(i) / "prior.pt", weights_only=True)
    equal += all(torch.equal(again[name], value) for name, value in whole.items())
print(f"{equal} of 20 equal; a training takes {seconds:.1f} s; last checkpoints at steps {sorted(killed)}")
sys.exit(equal != 20)
"""


@pytest.mark.slow
def test_killed_at_twenty_random_moments_and_resumed_to_the_same_weights(tmp_path):
    found = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path], capture_output=True, text=True, timeout=1500
    )
    print(found.stdout, found.stderr[-2000:])
    assert found.returncode == 0
