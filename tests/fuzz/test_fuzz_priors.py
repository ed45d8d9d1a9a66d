"""load_prior of changed cards and weights: refused, or the prior that was stored."""

import hashlib
import json
import shutil

import pytest
import torch
from hypothesis import strategies as st
from judge import Refused, outcome
from safetensors.torch import load, save
from test_fuzz_files import CHANGES, changed

from onmanifold import load_prior
from onmanifold.plugins import load_dataset
from onmanifold.pretrained import prior_card

JSON = st.recursive(
    st.sampled_from([None, True, False, 0, 1, -1, 2.5, 10**30, 1e308, float("nan"), "", "x", "float16", "atlas",
                     "../../etc/passwd", "ring"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "dim", "kind"]), inner, max_size=2),
    max_leaves=6,
)  # fmt: skip
BOUND = (
    "schema",
    "kind",
    "config",
    "x_shape",
    "dim",
    "num_charts",
    "dtype",
    "sha256",
    "chart_dims",
)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A stored prior's folder, and what it decodes."""
    from onmanifold.pretrained import _folder

    folder = tmp_path_factory.mktemp("prior") / "ring"
    shutil.copytree(str(_folder("ring")), folder)
    prior = load_prior(folder)
    point = prior.sample(5, 0)
    return folder, point, prior.decode(point)


def copy(original, tmp_path):
    target = tmp_path / "changed"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(original[0], target)
    return target


def check_same(folder, original):
    _, point, x = original
    found = outcome(lambda: load_prior(folder))
    if isinstance(found, Refused):
        return
    assert torch.equal(found.decode(point), x), "another prior than was stored"


def check_card(tmp_path, original, one):
    """One field, or one option of the configuration, replaced by any JSON."""
    place, value, drop = one
    folder = copy(original, tmp_path)
    card = json.loads((folder / "card.json").read_bytes())
    table = card["config"] if place >= len(BOUND) else card
    names = list(card["config"]) if place >= len(BOUND) else BOUND
    name = names[place % len(names)]
    if drop:
        table.pop(name, None)
    else:
        table[name] = value
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    found = outcome(lambda: load_prior(folder))
    if isinstance(found, Refused):
        return
    _, point, _ = original
    assert torch.isfinite(found.decode(found.sample(5, 0))).all()
    assert list(found.x_shape) == card["x_shape"] and found.dim == card["dim"]


def check_bytes(tmp_path, original, one):
    file, changes = one
    folder = copy(original, tmp_path)
    data = (folder / file).read_bytes()
    (folder / file).write_bytes(changed(data, changes))
    if file == "weights.safetensors" or json_error((folder / file).read_bytes()):
        check_same(folder, original)
    else:
        found = outcome(lambda: load_prior(folder))
        assert isinstance(found, Refused) or torch.isfinite(found.decode(found.sample(5, 0))).all()


def json_error(data):
    try:
        json.loads(data)
    except ValueError:
        return True
    return False


def check_tensors(tmp_path, original, one):
    """Other tensors with a fitting sha256: refused, or those that the file holds."""
    which, kind = one
    folder = copy(original, tmp_path)
    tensors = load((folder / "weights.safetensors").read_bytes())
    name = sorted(tensors)[which % len(tensors)]
    value = tensors[name]
    if kind == "drop":
        del tensors[name]
    else:
        tensors[name] = {
            "double": value.double(), "int": value.long(), "more": torch.cat([value.flatten(), value.flatten()[:1]]),
            "nan": torch.full_like(value, torch.nan), "inf": torch.full_like(value, torch.inf),
            "empty": value.flatten()[:0], "bool": value != 0, "complex": value.to(torch.complex64),
        }[kind]  # fmt: skip
    data = save({k: v.contiguous() for k, v in tensors.items()})
    (folder / "weights.safetensors").write_bytes(data)
    card = json.loads((folder / "card.json").read_bytes())
    card["sha256"] = hashlib.sha256(data).hexdigest()
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    found = outcome(lambda: load_prior(folder))
    if isinstance(found, Refused):
        return
    assert kind not in ("drop", "more", "empty", "nan", "complex"), f"{kind} weights were taken"
    read = found.state_dict()[name]
    assert torch.equal(read, tensors[name].to(read)), "other weights than the file holds"


def check_names(name):
    found = outcome(lambda: prior_card(name))
    assert isinstance(found, Refused) or name in ("ring",)


def check_dataset(one):
    name, options = one
    found = outcome(lambda: load_dataset(name, **options))
    if isinstance(found, Refused):
        return
    for value in options.values():
        assert not isinstance(value, bool | str | type(None) | dict | list), options
    x, _ = found.sample(3, 0)
    assert x.shape == (3, *found.x_shape) and torch.isfinite(x).all(), options


def test_cards(fuzz, tmp_path, original):
    strategy = st.tuples(st.integers(0, 30), JSON, st.booleans())
    fuzz(lambda one: check_card(tmp_path, original, one), strategy, 500)


def test_bytes(fuzz, tmp_path, original):
    strategy = st.tuples(st.sampled_from(["card.json", "weights.safetensors"]), CHANGES)
    fuzz(lambda one: check_bytes(tmp_path, original, one), strategy, 400)


def test_tensors(fuzz, tmp_path, original):
    kinds = ["drop", "double", "int", "more", "nan", "inf", "empty", "bool", "complex"]
    fuzz(
        lambda one: check_tensors(tmp_path, original, one),
        st.tuples(st.integers(0, 200), st.sampled_from(kinds)),
        300,
    )


def test_names(fuzz):
    fuzz(
        check_names,
        st.text(max_size=20) | st.sampled_from(["ring", "..", ".", "/", "ring/", "../ring", "\0"]),
        200,
    )


def test_data_sets(fuzz):
    names = {"bar": ["size", "length", "width"], "ring": ["inner", "outer", "noise"], "two-circles": ["radius"],
             "sphere": ["radius", "noise"], "swiss-roll": ["width"], "torus": ["major"], "spiral": ["size", "seed"]}  # fmt: skip
    values = st.one_of(
        st.integers(-2, 40),
        st.floats(allow_nan=True),
        st.sampled_from([True, None, "3", [1], {}, 2**70]),
    )
    strategy = st.sampled_from(sorted(names)).flatmap(
        lambda n: st.tuples(
            st.just(n), st.dictionaries(st.sampled_from(names[n]), values, max_size=2)
        )
    )
    fuzz(check_dataset, strategy, 300)
