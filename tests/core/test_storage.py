"""Priors on disk: what was written comes back, and nothing else is ever accepted."""

import hashlib
import json
import os
import pickle

import pytest
import torch

from onmanifold import pretrained, storage
from onmanifold.pretrained import load_prior, save_prior
from onmanifold.storage import DamagedFile
from onmanifold.testing import check_prior


@pytest.fixture
def folder(third_party, tmp_path):
    prior = third_party.Segment(5)
    prior.slope.data.fill_(3.0)
    save_prior(prior, tmp_path / "stored", {"name": "line", "licence": "MIT", "metrics": {"a": 1}})
    return tmp_path / "stored"


def edit_card(folder, **fields):
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | fields))


def test_round_trip(folder, third_party):
    prior = load_prior(folder)
    assert isinstance(prior, third_party.Segment)
    assert prior.x_shape == (5,)
    assert prior.slope == 3.0
    assert not prior.training
    assert not any(p.requires_grad for p in prior.parameters())
    assert sorted(os.listdir(folder)) == ["card.json", "weights.safetensors"]
    assert "saved and loaded" in str(check_prior(prior))


def test_card(folder):
    card = json.loads((folder / "card.json").read_text())
    weights = (folder / "weights.safetensors").read_bytes()
    assert card["sha256"] == hashlib.sha256(weights).hexdigest()
    assert card | {"sha256": ""} == {
        "schema": 1,
        "kind": "segment",
        "config": {"n": 5},
        "x_shape": [5],
        "dim": 1,
        "num_charts": 1,
        "dtype": "float32",
        "sha256": "",
        "name": "line",
        "licence": "MIT",
        "metrics": {"a": 1},
    }


def test_dtype(third_party, tmp_path):
    prior = third_party.Segment().double()
    prior.slope.data.fill_(1 / 3)
    save_prior(prior, tmp_path / "double")
    assert load_prior(tmp_path / "double").slope == prior.slope  # to the last bit
    assert load_prior(tmp_path / "double", dtype=torch.float32).dtype == torch.float32
    with pytest.raises(TypeError, match="float32 or float64"):
        save_prior(third_party.Segment().half(), tmp_path / "half")


def test_truncated(folder):
    weights = folder / "weights.safetensors"
    data = weights.read_bytes()
    for other in (data[:-3], data + b"123"):
        weights.write_bytes(other)
        with pytest.raises(
            DamagedFile, match=f"has {len(other)} bytes, its header announces {len(data)}"
        ):
            load_prior(folder)


def test_altered(folder):
    weights = folder / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    stored = hashlib.sha256(data).hexdigest()
    data[-1] ^= 1
    weights.write_bytes(data)
    found = hashlib.sha256(data).hexdigest()
    with pytest.raises(DamagedFile, match=f"(?s)truncated or altered.*{found}.*{stored}"):
        load_prior(folder)


class Bomb:
    """Unpickling this says so."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


@pytest.mark.parametrize("hash_fits", [False, True])
@pytest.mark.parametrize("writer", [pickle.dump, torch.save])
def test_pickled(folder, writer, hash_fits):
    weights = folder / "weights.safetensors"
    with open(weights, "wb") as stream:
        writer(Bomb(), stream)
    if hash_fits:  # an attacker would write the card, too
        edit_card(folder, sha256=hashlib.sha256(weights.read_bytes()).hexdigest())
    with pytest.raises(DamagedFile, match="never read"):
        load_prior(folder)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"config": {"n": 6}}, "says x_shape"),
        ({"config": {"m": 6}}, "do not fit Segment"),
        ({"config": 3}, "says config 3"),
        ({"config": {"n": {}}}, "x_shape"),
        ({"kind": {"a": 1}}, "says kind"),
        ({"num_charts": 10**12}, "says num_charts"),
        ({"num_charts": "1"}, "says num_charts"),
        ({"x_shape": [10**6, 10**6]}, "says x_shape"),
        ({"x_shape": 5}, "says x_shape"),
        ({"dim": True}, "says dim"),
        ({"sha256": 7}, "says sha256"),
        ({"dtype": ["float32"]}, "dtype"),
        ({"x_shape": [4]}, "says x_shape"),
        ({"dim": 2}, "says dim"),
        ({"dtype": "float8"}, "dtype"),
    ],
)
def test_card_that_does_not_fit(folder, fields, says):
    edit_card(folder, **fields)
    with pytest.raises(DamagedFile, match=says):
        load_prior(folder)


def test_weights_of_another_prior(folder):
    data = pretrained.write_tensors({"slopes": torch.ones(3)})
    (folder / "weights.safetensors").write_bytes(data)
    edit_card(folder, sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(DamagedFile, match="slope"):
        load_prior(folder)


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", "null", "\x80"])
def test_damaged_card(folder, text):
    (folder / "card.json").write_bytes(text.encode("latin1"))
    with pytest.raises(DamagedFile, match=r"card\.json"):
        load_prior(folder)


def test_other_kind_and_schema(folder):
    edit_card(folder, kind="segmnt")
    with pytest.raises(LookupError, match="unknown kind of prior 'segmnt'; did you mean 'segment'"):
        load_prior(folder)
    edit_card(folder, schema=2)
    with pytest.raises(ValueError, match="schema 2"):
        load_prior(folder)


def test_missing_files(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        load_prior(tmp_path / "nowhere")
    (folder / "weights.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="weights.safetensors"):
        load_prior(folder)
    (folder / "card.json").unlink()
    with pytest.raises(FileNotFoundError, match="card.json"):
        load_prior(folder)


def test_saving_refuses(third_party, tmp_path):
    with pytest.raises(ValueError, match=r"\['dim'\]"):
        save_prior(third_party.Segment(), tmp_path / "a", {"dim": 3})
    with pytest.raises(ValueError, match="JSON"):
        save_prior(third_party.Segment(), tmp_path / "a", {"metrics": float("nan")})
    with pytest.raises(TypeError, match="JSON"):
        save_prior(third_party.Segment(), tmp_path / "a", {"metrics": torch.ones(1)})

    class Unregistered(third_party.Segment):
        pass

    with pytest.raises(ValueError, match="no entry point"):
        save_prior(Unregistered(), tmp_path / "a")
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="expected a folder"):
        save_prior(third_party.Segment(), tmp_path / "file")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "site"]


def test_a_failed_save_leaves_nothing(third_party, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        save_prior(third_party.Segment(), tmp_path / "stored")
    assert [p.name for p in tmp_path.iterdir()] == ["site"]


def test_a_failed_save_keeps_what_was_there(folder, third_party, monkeypatch):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def full(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        save_prior(third_party.Segment(9), folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_saving_over_an_old_prior(folder, third_party):
    (folder / "notes.txt").write_text("mine")
    save_prior(third_party.Segment(9), folder)
    assert load_prior(folder).x_shape == (9,)
    assert (folder / "notes.txt").read_text() == "mine"
