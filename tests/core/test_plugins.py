"""Names: what is installed is found, also from other packages; what is not is refused helpfully."""

import subprocess
import sys

import pytest
import torch

from onmanifold.entry_points import plugins
from onmanifold.plugins import dataset_names, load_dataset, load_operator, operator_names
from onmanifold.pretrained import load_prior, prior_card, prior_names, save_prior


def test_own_operators_are_found():
    assert {"blur", "eit"} <= set(operator_names())
    assert {"bar", "mnist"} <= set(dataset_names())
    blur = load_operator("blur", (16, 16), size=5, std=1.0)
    assert blur.y_shape == (16, 16)


def test_importing_the_core_imports_no_plugin():
    code = (
        "import onmanifold, onmanifold.plugins as r, sys; r.operator_names();"
        "print([m for m in sys.modules if m.startswith(('onmanifold.operators', 'onmanifold.priors'))])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_third_party_plugins(third_party):
    assert {"sums", "blur"} <= set(operator_names())
    assert isinstance(load_operator("sums", (4,), times=2.0), third_party.Sums)
    assert "segment" in prior_names()
    assert isinstance(load_prior("segment"), third_party.Segment)
    assert load_prior("segment", dtype=torch.float64).dtype == torch.float64
    card = prior_card("segment")
    assert card["kind"] == "segment"
    assert card["value_range"] == [-2, 2]


def test_a_prior_is_also_found_by_its_folder(third_party, tmp_path, monkeypatch):
    save_prior(third_party.Segment(7), tmp_path / "mine")
    assert load_prior(tmp_path / "mine").x_shape == (7,)
    assert load_prior(str(tmp_path / "mine")).x_shape == (7,)
    monkeypatch.chdir(tmp_path)
    assert load_prior("mine").x_shape == (7,)
    assert load_prior("./mine").x_shape == (7,)
    assert prior_card("mine")["x_shape"] == [7]
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        load_prior(tmp_path / "elsewhere")


def test_unknown_names(third_party):
    with pytest.raises(
        LookupError, match="unknown operator 'blurr'; did you mean 'blur'.*Known: .*eit"
    ):
        load_operator("blurr", (4,))
    with pytest.raises(LookupError, match="unknown data set 'bars'; did you mean 'bar'.*Known:"):
        load_dataset("bars")
    with pytest.raises(LookupError, match="unknown prior 'segmen'; did you mean 'segment'.*Known:"):
        load_prior("segmen")
    with pytest.raises(
        LookupError, match=r"unknown prior 'zzz'\. Known: .*segment.*, or the folder"
    ):
        prior_card("zzz")


def test_options(third_party):
    with pytest.raises(TypeError, match="'sums' has no option 'time'; its options: times"):
        load_operator("sums", (4,), time=2.0)
    with pytest.raises(TypeError, match="'broken' needs order"):
        load_operator("broken", (4,))
    with pytest.raises(TypeError, match="'blur' needs std"):
        load_operator("blur", (4, 4))
    with pytest.raises(ValueError, match="times has to be positive"):
        load_operator("sums", (4,), times=-1.0)
    with pytest.raises(
        TypeError, match="data set 'bar' has no option 'sizes'; its options: .*size"
    ):
        load_dataset("bar", sizes=32)
    with pytest.raises(TypeError, match="data set 'examples' needs file"):
        load_dataset("examples")


def test_a_name_claimed_twice(third_party, tmp_path):
    info = tmp_path / "site" / "rival-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rival\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[onmanifold.operators]\nsums = rival:sums\n")
    with pytest.raises(
        ValueError, match="two installed packages claim the name 'sums'.*(acme.*rival|rival.*acme)"
    ):
        plugins("onmanifold.operators")


def test_two_priors_of_one_name(third_party, tmp_path):
    site = tmp_path / "site"
    info = site / "rival-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rival\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[onmanifold.pretrained]\nrival = acme_pretrained\n")
    with pytest.raises(ValueError, match="there are two priors 'segment'"):
        load_prior("segment")
