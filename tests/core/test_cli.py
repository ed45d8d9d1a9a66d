"""The command line: what it writes, and what bad input gets."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.io
from matplotlib.image import imsave

from onmanifold.cli import main
from onmanifold.commands.choices import METHODS
from onmanifold.commands.reconstruct import _batch, _texts
from onmanifold.pretrained import load_prior, prior_names, save_prior


def run(*arguments):
    """Exit code of a call."""
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    return caught.value.code


@pytest.fixture
def measured(third_party, tmp_path):
    """A measurement of x = (1, 1, 1, 1) by Sums, and the arguments that solve for it."""
    file = tmp_path / "y.npy"
    np.save(file, np.array([4.0, 1.0]))
    return ["solve", "--operator", "sums", "--prior", "segment", "--measurement", file]


def refused(capsys, *arguments):
    """The one line on stderr of a call that exits with code 2."""
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


def test_solve_writes_figures_numbers_and_arrays(measured, tmp_path, capsys):
    out = tmp_path / "new" / "out"
    assert run(*measured, "--noise", 0.01, "--output", out, "--seed", 3) == 0
    figures = ["convergence.png", "reconstruction.png"]
    written = sorted(p.name for p in out.iterdir())
    assert written == sorted(["arrays.npz", "numbers.json", *figures])
    for figure in figures:
        assert (out / figure).read_bytes()[:4] == b"\x89PNG"
    with np.load(out / "arrays.npz") as arrays:
        np.testing.assert_allclose(arrays["x"], np.ones((1, 4)), atol=1e-3)
        assert {"z", "chart", "spread"} <= set(arrays)
    numbers = json.loads((out / "numbers.json").read_text())
    assert numbers["operator"] == "sums"
    assert numbers["noise"] == 0.01
    assert numbers["seed"] == 3
    assert len(numbers["prior_sha256"]) == 64
    (one,) = numbers["measurements"]
    assert one["converged"] is True
    assert one["misfit"] < one["expected_misfit"]
    assert "written to" in capsys.readouterr().out
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["out"]


def test_operator_options(measured, tmp_path):
    out = tmp_path / "out"
    assert run(*measured, "--option", "times=2", "--noise", 0.01, "--output", out) == 0
    with np.load(out / "arrays.npz") as arrays:
        np.testing.assert_allclose(arrays["x"], np.full((1, 4), 0.5), atol=1e-3)


def test_options_are_names_with_values():
    assert _texts(["std=15", "c=x=y", "d="]) == {"std": "15", "c": "x=y", "d": ""}
    for pairs, says in ((["std"], "NAME=VALUE"), (["std=1", "std=2"], "twice")):
        with pytest.raises(ValueError, match=says):
            _texts(pairs)


def test_formats_of_measurements(measured, tmp_path):
    np.savez(tmp_path / "one.npz", y=np.array([4, 1]))
    np.savez(tmp_path / "two.npz", y=np.array([4.0, 1.0]), z=np.zeros(3))
    scipy.io.savemat(tmp_path / "y.mat", {"y": np.array([[4.0], [1.0]])})
    np.save(tmp_path / "batch.npy", np.array([[4.0, 1.0], [-4.0, -1.0]]))
    for file, extra in (("one.npz", []), ("two.npz", ["--key", "y"]), ("y.mat", [])):
        out = tmp_path / f"{file}-out"
        assert run(*measured[:-1], tmp_path / file, *extra, "--output", out) == 0
        with np.load(out / "arrays.npz") as arrays:
            np.testing.assert_allclose(arrays["x"], np.ones((1, 4)), atol=1e-3)
    assert run(*measured[:-1], tmp_path / "batch.npy", "--output", tmp_path / "b") == 0
    with np.load(tmp_path / "b" / "arrays.npz") as arrays:
        np.testing.assert_allclose(arrays["x"][1], -np.ones(4), atol=1e-3)


def test_missing_entries(measured, tmp_path, capsys):
    np.save(tmp_path / "nan.npy", np.array([np.nan, 1.0]))
    call = [*measured[:-1], tmp_path / "nan.npy", "--output", tmp_path / "out"]
    assert "NaN" in refused(capsys, *call, "--noise", 0.01)
    assert "--noise" in refused(capsys, *call, "--nan-is-missing")
    assert not (tmp_path / "out").exists()
    assert run(*call, "--noise", 0.01, "--nan-is-missing") == 0
    with np.load(tmp_path / "out" / "arrays.npz") as arrays:
        np.testing.assert_allclose(arrays["x"], np.ones((1, 4)), atol=1e-3)


def test_noise_with_outliers(measured, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(*measured, "--noise", 0.01, "--df", 3, "--output", out) == 0
    numbers = json.loads((out / "numbers.json").read_text())
    assert numbers["df"] == 3
    expected = 2 * 2 * (2 * math.log(2) - 1)  # two entries, psi(2) - psi(3/2)
    assert numbers["measurements"][0]["expected_misfit"] == pytest.approx(expected)


def test_images_are_measurements_too(third_party, tmp_path, capsys):
    call = ["--operator", "sums", "--prior", "segment", "--measurement", tmp_path / "y.png"]
    grey = np.full((3, 5, 3), 0.5)  # stored in colour
    coloured = grey * [1.0, 0.5, 0.0]  # colours come first
    for image, shape in ((grey, "(3, 5)"), (coloured, "(3, 3, 5)")):
        imsave(tmp_path / "y.png", image)
        err = refused(capsys, "solve", *call, "--output", tmp_path / "out")
        assert f"an array of shape {shape}" in err
        assert "(B, 2)" in err
    imsave(tmp_path / "y.png", np.concatenate([grey, np.full((3, 5, 1), 0.5)], axis=2))
    assert "transparent" in refused(capsys, "solve", *call, "--output", tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"--operator": "sum"}, "unknown operator 'sum'; did you mean 'sums'"),
        ({"--prior": "segments"}, "unknown prior 'segments'; did you mean 'segment'"),
        ({"--measurement": "nowhere.npy"}, "no file nowhere.npy"),
        ({"--measurement": "y.txt"}, "expected a file of type .npy, .npz, .mat, .png"),
        ({"--noise": "-1"}, "std has to be positive"),
        ({"--noise": "nan"}, "std has to be positive"),
        ({"--df": "3"}, "--df needs the noise level: --noise"),
        ({"--noise": "0.1", "--df": "-3"}, "df has to be above 0"),
        ({"--noise": "loud"}, "--noise takes a number or estimate, got 'loud'"),
        ({"--noise": "estimate", "--df": "3"}, "--df needs a number for --noise"),
        ({"--noise": "estimate", "--prior-weight": "discrepancy"}, "leave out one of them"),
        ({"--method": "newton"}, "unknown method 'newton'"),
        ({"--prior-weight": "much"}, "a number, discrepancy or l-curve, got 'much'"),
        ({"--prior-weight": "-1", "--noise": "0.1"}, "prior_weight"),
        ({"--posterior": "laplase", "--noise": "0.1"}, "did you mean 'laplace'"),
        ({"--posterior": "laplace"}, "--posterior needs the noise level: --noise"),
        (
            {"--posterior": "laplace", "--noise": "0.1", "--prior-weight": "0.5"},
            "leave out --prior-weight",
        ),
        ({"--posterior": "explore", "--noise": "0.1"}, "has no jumps"),
        ({"--operator": "nowhere:A"}, "nowhere does not import"),
        ({"--operator": "json:nothing"}, "is no object of a module"),
        ({"--operator": "json:__name__"}, "operator"),
        ({"--option": "times=-1"}, "times has to be positive"),
        ({"--option": "size=3"}, "'sums' has no option 'size'"),
        ({"--option": "times"}, "NAME=VALUE"),
        ({"--device": "gpu9"}, "device 'gpu9'"),
        ({"--starts": "0"}, "start"),
        ({"--frobnicate": "1"}, "--frobnicate"),
    ],
)
def test_bad_input_is_one_line(measured, tmp_path, capsys, change, says):
    arguments = dict(zip(measured[1::2], measured[2::2], strict=True)) | change
    pairs = [text for pair in arguments.items() for text in pair]
    assert says in refused(capsys, "solve", *pairs, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_files_are_one_line(measured, third_party, tmp_path, capsys):
    call = [*measured[:-1]]
    for name, content in (
        ("a.npy", b"\x93NUMPY"),
        ("b.npz", b"PK"),
        ("c.mat", b"x"),
        ("d.png", b""),
    ):
        (tmp_path / name).write_bytes(content)
        err = refused(capsys, *call, tmp_path / name, "--output", tmp_path / "out")
        assert f"not a readable {name[1:]}" in err
    np.save(tmp_path / "object.npy", np.array([{}]), allow_pickle=True)
    err = refused(capsys, *call, tmp_path / "object.npy", "--output", tmp_path / "out")
    assert "pickle" in err
    weights = tmp_path / "site" / "acme_pretrained" / "segment" / "weights.safetensors"
    whole = weights.read_bytes()
    altered = whole[:-1] + bytes([whole[-1] ^ 1])
    for content, says in ((whole[:-1], "truncated"), (altered, "sha256")):
        weights.write_bytes(content)
        assert says in refused(capsys, *measured, "--output", tmp_path / "out")


def test_output_that_is_a_file(measured, tmp_path, capsys):
    assert "is a file" in refused(capsys, *measured, "--output", measured[-1])
    assert "is a file" in refused(capsys, *measured, "--output", measured[-1] / "below")


def test_usage_errors_are_one_line(capsys):
    assert "sovle" in refused(capsys, "sovle")
    assert "--operator" in refused(capsys, "solve")


def test_bugs_keep_their_traceback(measured, tmp_path):
    call = [str(a) for a in measured]
    call[call.index("sums")] = "broken"
    with pytest.raises(AttributeError, match="a bug"):
        main([*call, "--option", "order=1", "--output", str(tmp_path / "out")])


def test_what_a_factory_raises_names_operator_and_options(
    measured, tmp_path, monkeypatch, third_party, capsys
):
    def fails(x_shape, *, times=1.0):
        raise ValueError("math domain error")

    monkeypatch.setattr(third_party, "sums", fails)
    err = refused(capsys, *measured, "--option", "times=2", "--output", tmp_path / "out")
    assert "operator 'sums' cannot be made with times=2: math domain error" in err


def test_lists(third_party, capsys):
    assert run("priors") == 0
    assert "segment" in capsys.readouterr().out
    assert run("priors", "segment") == 0
    assert json.loads(capsys.readouterr().out)["value_range"] == [-2, 2]
    assert run("operators") == 0
    out = capsys.readouterr().out
    assert "times=1.0" in out
    assert "blur" in out


def test_commands_of_plugins(third_party, capsys):
    assert run("--help") == 0
    out = capsys.readouterr().out
    for name in ("priors", "operators", "solve", "train", "demo", "hello"):
        assert name in out
    assert "Greet." in out
    assert run("hello", "--name", "world") == 0
    assert capsys.readouterr().out == "hello world\n"


def test_a_command_that_does_not_import_says_so(third_party, tmp_path, capsys):
    (tmp_path / "site" / "acme_manifolds.py").write_text("import no_such_package")
    sys.modules.pop("acme_manifolds")
    assert run("--help") == 0
    assert "not available" in capsys.readouterr().out
    assert "No module named 'no_such_package'" in refused(capsys, "hello")


def test_calling_a_command_imports_no_other_plugin():
    code = (
        "import sys; from onmanifold.cli import main\n"
        "try: main(['priors'])\n"
        "except SystemExit: pass\n"
        "plugins = ('onmanifold.operators.', 'onmanifold.priors.training')\n"
        "print([m for m in sys.modules if m.startswith(plugins)])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "[]"


def test_run_as_a_module():
    command = [sys.executable, "-m", "onmanifold", "--version"]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    assert out.stdout.count(".") == 2


def test_version(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out.count(".") == 2


@pytest.mark.parametrize(
    "option", ["times=abc", "times=1,5", "times=null", "times=true", "times=NaN"]
)
def test_options_of_another_type_are_one_line(third_party, measured, tmp_path, capsys, option):
    third_party.sums.__annotations__["times"] = float
    err = refused(capsys, *measured, "--option", option, "--output", tmp_path / "out")
    assert "operator 'sums': times has to be a number" in err


@pytest.mark.parametrize("name", ["name", "x_shape"])
def test_options_named_like_arguments_of_the_loader(measured, tmp_path, capsys, name):
    err = refused(capsys, *measured, "--option", f"{name}=3", "--output", tmp_path / "out")
    assert f"has no option '{name}'" in err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"--seed": str(10**30)}, "a seed has to be an int of 64 bits"),
        ({"--device": "meta"}, "device 'meta' cannot be used"),
        ({"--device": "foo"}, "device 'foo' cannot be used"),
        ({"--key": "y"}, "one array, which has no name"),
        ({"--starts": "1" * 5000}, "--starts"),
        ({"--noise": "1e-400"}, "std has to be positive"),
    ],
)
def test_more_bad_input_is_one_line(measured, tmp_path, capsys, change, says):
    extra = [text for pair in change.items() for text in pair]
    assert says in refused(capsys, *measured, *extra, "--output", tmp_path / "out")


def test_numbers_say_whether_the_data_are_consistent(measured, tmp_path, capsys):
    """Two sums of four equal entries are 4 : 1; a measurement of 4 : 2 is far from that."""
    np.save(tmp_path / "both.npy", np.array([[4.0, 1.0], [4.0, 2.0]]))
    out = tmp_path / "out"
    call = [*measured[:-1], tmp_path / "both.npy", "--output", out]
    assert run(*call, "--noise", 0.01) == 0
    assert "measurement 1: inconsistent with the noise, p = " in capsys.readouterr().out
    good, bad = json.loads((out / "numbers.json").read_text())["measurements"]
    assert good["consistent"] is True and good["p_value"] > 0.01
    assert bad["consistent"] is False and bad["p_value"] < 1e-9
    with np.load(out / "arrays.npz") as arrays:
        assert arrays["consistent"].tolist() == [True, False]
        np.testing.assert_allclose(arrays["p_value"], [good["p_value"], bad["p_value"]], rtol=1e-5)
    assert run(*call) == 0  # least squares: nothing says how large a misfit may be
    for one in json.loads((out / "numbers.json").read_text())["measurements"]:
        assert one["consistent"] is None and one["p_value"] is None


def test_nan_points_to_the_option_that_allows_it(measured, tmp_path, capsys):
    np.save(tmp_path / "nan.npy", np.array([np.nan, 1.0]))
    call = [*measured[:-1], tmp_path / "nan.npy", "--output", tmp_path / "out", "--noise", 0.01]
    err = refused(capsys, *call)
    assert "holds 1 NaN of 2 entries" in err and "--nan-is-missing" in err


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.array([1e300, 1.0]), "beyond the range"),  # of the prior's float32
        (np.array([4, 2**62 + 1]), "float64 cannot tell apart"),
        (np.array([4 + 1j, 1]), "complex"),
        (np.array([True, False]), "boolean"),
        (np.array(["4", "1"]), "real numbers"),
        (np.array([np.inf, 1.0]), "infinite"),
    ],
)
def test_measurements_that_would_lose_something(measured, tmp_path, capsys, values, says):
    np.save(tmp_path / "y.npy", values)
    assert says in refused(capsys, *measured, "--output", tmp_path / "out")


@pytest.mark.parametrize("dtype", ["f2", ">f4", ">f8", "g", "i1", "u1", ">i4"])
def test_measurements_of_every_dtype(measured, tmp_path, dtype):
    np.save(tmp_path / "y.npy", np.array([4, 1]).astype(dtype))
    assert run(*measured, "--output", tmp_path / "out") == 0
    with np.load(tmp_path / "out" / "arrays.npz") as arrays:
        np.testing.assert_allclose(arrays["x"], np.ones((1, 4)), atol=1e-3)


def test_a_grey_image_serves_where_colours_are_expected(tmp_path):
    grey = np.linspace(0, 1, 15, dtype=np.float32).reshape(3, 5)
    batch = _batch(tmp_path / "y.png", grey, (3, 3, 5))
    assert batch.shape == (1, 3, 3, 5)
    assert (batch == grey).all()
    with pytest.raises(ValueError, match=r"shape \(3, 5\), expected \(3, 3, 5\)"):
        _batch(tmp_path / "y.npy", grey, (3, 3, 5))


def test_letters_beyond_ascii_in_any_locale(third_party, tmp_path):
    """Folders, cards and what is printed of them, where Python's own encoding is ASCII."""
    folder = tmp_path / "prüfstand"
    card = {"name": "segment", "description": "Straße, 直線"}
    save_prior(third_party.Segment(), folder / "vörbild", card)
    text = folder.joinpath("vörbild", "card.json").read_bytes()
    escaped = json.loads(text)
    raw = json.dumps(escaped, ensure_ascii=False).encode()  # as an editor writes it
    folder.joinpath("vörbild", "card.json").write_bytes(raw)
    np.save(folder / "y.npy", np.array([4.0, 1.0]))
    options = ["--operator", "sums", "--prior", "prüfstand/vörbild", "--output", "prüfstand/süd"]
    environment = os.environ | {
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONPATH": str(tmp_path / "site"),
    }
    for arguments, says in (
        (["solve", *options, "--measurement", "prüfstand/y.npy"], "written to"),
        (["priors", "prüfstand/vörbild"], "Stra"),
        (["priors"], "segment"),
    ):
        command = [sys.executable, "-m", "onmanifold", *arguments]
        done = subprocess.run(command, capture_output=True, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert says in done.stdout.decode()
    recorded = json.loads((folder / "süd" / "numbers.json").read_bytes())
    assert recorded["measurement"] == "prüfstand/y.npy"


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_name(measured, tmp_path, method):
    out = tmp_path / "out"
    assert run(*measured, "--noise", 0.1, "--method", method, "--output", out) == 0
    assert json.loads((out / "numbers.json").read_text())["method"] == method
    with np.load(out / "arrays.npz") as arrays:
        np.testing.assert_allclose(arrays["x"], np.ones((1, 4)), atol=0.1)


@pytest.mark.parametrize("weight", ["0.5", "l-curve", "discrepancy"])
def test_the_weight_of_the_prior(measured, tmp_path, weight):
    out = tmp_path / "out"
    assert run(*measured, "--noise", 0.1, "--prior-weight", weight, "--output", out) == 0
    assert json.loads((out / "numbers.json").read_text())["prior_weight"] == weight


@pytest.mark.parametrize("way", ["laplace", "sample"])
def test_standard_deviations_in_the_files(measured, tmp_path, capsys, way):
    out = tmp_path / "out"
    assert run(*measured, "--noise", 0.1, "--posterior", way, "--output", out) == 0
    with np.load(out / "arrays.npz") as arrays:  # sums 4 x and x of noise 0.1
        expected = np.full((1, 4), 0.1 / np.sqrt(17))
        np.testing.assert_allclose(arrays["std"], expected, rtol=0.2)
    assert {"laplace": "Laplace of 1", "sample": "R-hat"}[way] in capsys.readouterr().out


@pytest.mark.parametrize("name", ["A", "made", "Made", "operator"])
def test_an_operator_of_ones_own(measured, tmp_path, monkeypatch, name):
    (tmp_path / "own_sums.py").write_text(
        "import torch\n"
        "from onmanifold import as_operator\n"
        "def A(x): return torch.stack([x.sum(1), x[:, 0]], dim=1)\n"
        "def made(x_shape, *, times=1.0): return as_operator(lambda x: times * A(x), x_shape)\n"
        "class Made:\n"
        "    def __new__(cls, x_shape, *, times=1.0): return made(x_shape, times=times)\n"
        "operator = as_operator(A, (4,))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    call = list(measured)
    call[call.index("sums")] = f"own_sums:{name}"
    options = ["--option", "times=2"] if name in ("made", "Made") else []
    assert run(*call, *options, "--noise", 0.01, "--output", tmp_path / "out") == 0
    with np.load(tmp_path / "out" / "arrays.npz") as arrays:
        expected = np.full((1, 4), 0.5 if options else 1.0)
        np.testing.assert_allclose(arrays["x"], expected, atol=1e-2)
    sys.modules.pop("own_sums")


def test_an_estimated_noise_level(third_party, tmp_path, capsys):
    """Both sums are 4 : 1; what differs from that is noise."""
    np.save(tmp_path / "y.npy", np.array([[4.0, 1.1]]))
    call = ["solve", "--operator", "sums", "--prior", "segment", "--noise", "estimate"]
    call += ["--measurement", tmp_path / "y.npy", "--output", tmp_path / "out"]
    assert run(*call) == 0
    assert "noise level estimated" in capsys.readouterr().out
    (one,) = json.loads((tmp_path / "out" / "numbers.json").read_text())["measurements"]
    assert one["consistent"] is None and one["noise_std"] == pytest.approx(0.1, rel=0.2)


def test_priors_of_the_search_path(third_party, tmp_path, monkeypatch, capsys):
    name = "a-prior-whose-name-is-far-longer-than-others"
    save_prior(third_party.Segment(), tmp_path / "mine" / name, {"description": "mine"})
    (tmp_path / "more").mkdir()
    places = [tmp_path / "mine", tmp_path / "more", ""]
    monkeypatch.setenv("ONMANIFOLD_PRIORS", os.pathsep.join(map(str, places)))
    monkeypatch.setenv("COLUMNS", "80")
    assert run("priors") == 0
    out = capsys.readouterr().out
    assert name in out and "\N{HORIZONTAL ELLIPSIS}" not in out
    assert max(map(len, out.splitlines())) <= 80
    assert all(known in out for known in prior_names()) and name in prior_names()
    assert load_prior(name).card["description"] == "mine"


def test_search_paths_that_hold_no_priors(third_party, tmp_path, monkeypatch, capsys):
    save_prior(third_party.Segment(), tmp_path / "mine" / "segment")
    for place, says in (
        (tmp_path / "nowhere", "which is no folder"),
        (tmp_path / "mine", "there are two priors 'segment'"),
        (tmp_path / "mine" / "segment", "is a stored prior itself"),
    ):
        monkeypatch.setenv("ONMANIFOLD_PRIORS", str(place))
        assert says in refused(capsys, "priors")
