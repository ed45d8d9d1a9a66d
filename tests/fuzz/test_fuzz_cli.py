"""The command line with random options: 0 where all is right, else 2 and one line, never a traceback."""

import json
import math
import re

import numpy as np
import pytest
from hypothesis import strategies as st
from judge import FOREIGN
from PIL import Image

from onmanifold import Solution, commands
from onmanifold.cli import main
from onmanifold.pretrained import save_prior

SIDE = 6
SPOILED = [
    "abc",
    "",
    "1,5",
    "null",
    "true",
    "NaN",
    "inf",
    "1e400",
    "40.7",
    "-3",
    "0",
    "[1]",
    "{}",
    "1e-400",
    "é",
    "9" * 30,
]
GOOD = {
    "--noise": ["0.1", "1e-2", "3"],
    "--df": ["4", "2.5"],
    "--starts": ["1", "3"],
    "--steps": ["2", "9"],
    "--seed": ["0", "17"],
    "--device": ["cpu"],
    "--key": ["y"],
}
BAD = {
    "--device": ["foo", "meta", "cuda:99", "", "mps"],
    "--key": ["z"],
    "--prior": ["nothing", "../x", "."],
    "--operator": ["blurr", "", "eit"],
}
TABLES = {
    "size": ["3", "[3, 5]", "null"],
    "boundary": ["zero", '"reflect"', "circular"],
    "method": ["fft", "auto"],
}


def shades(segment):
    """Images of one grey value, as the kind of prior that the made-up package names."""

    class Shades(segment):
        def __init__(self, n=SIDE):
            super().__init__(n)
            self.x_shape = (n, n)

        def decode_chart(self, z, chart):
            return self.slope * z[:, :, None].expand(-1, *self.x_shape)

        def encode_chart(self, x, chart):
            return x.flatten(1).mean(dim=1, keepdim=True) / self.slope

    Shades.__module__, Shades.__qualname__ = segment.__module__, segment.__qualname__
    return Shades


@pytest.fixture
def setting(third_party, tmp_path, monkeypatch, capsys):
    """Folders with measurements of every kind, a small prior, and figures that cost nothing."""
    y = np.linspace(0, 1, SIDE * SIDE).reshape(SIDE, SIDE)
    with_nan = np.where(y < 0.1, np.nan, y)
    kinds = {
        "good.npy": y,
        "f2.npy": y.astype("f2"),
        "int.npy": (9 * y).astype(int),
        "batch.npy": np.stack([y, 1 - y]),
        "nan.npy": with_nan,
        "inf.npy": np.where(y > 0.9, np.inf, y),
        "bool.npy": y > 0.5,
        "complex.npy": y + 1j,
        "empty.npy": y[:0],
        "shape.npy": y[:-1],
        "huge.npy": 1e300 * y,
        "all-nan.npy": np.full_like(y, np.nan),
    }
    for name, values in kinds.items():
        np.save(tmp_path / name, values)
    np.savez(tmp_path / "two.npz", y=y, z=y[:-1])
    np.savez(tmp_path / "one.npz", y=y)
    picture = Image.fromarray((255 * y).astype("u1"))
    for mode in ("L", "RGB", "RGBA", "LA", "P", "1"):
        picture.convert(mode).save(tmp_path / f"{mode}.png")
    (tmp_path / "text.npy").write_text("1 2 3")
    (tmp_path / "y.txt").write_text("1 2 3")
    monkeypatch.setattr(third_party, "Segment", shades(third_party.Segment))
    save_prior(third_party.Segment(), tmp_path / "prior")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("onmanifold.plot.style.png", lambda figure, dpi: b"")
    monkeypatch.setattr(Solution, "plot", lambda self, **_: None)
    monkeypatch.setattr(Solution, "plot_convergence", lambda self: None)
    return tmp_path


MEASUREMENTS = [
    "good.npy",
    "good.npy",
    "good.npy",
    "f2.npy",
    "int.npy",
    "batch.npy",
    "nan.npy",
    "inf.npy",
    "bool.npy",
    "complex.npy",
    "empty.npy",
    "shape.npy",
    "huge.npy",
    "all-nan.npy",
    "two.npz",
    "one.npz",
    "L.png",
    "RGB.png",
    "RGBA.png",
    "LA.png",
    "P.png",
    "1.png",
    "text.npy",
    "y.txt",
    "missing.npy",
    ".",
    "",
]


@st.composite
def calls(draw):
    """Arguments of ``onmanifold solve``, most of them right."""
    options = {
        "--operator": "blur",
        "--prior": "prior",
        "--measurement": draw(st.sampled_from(MEASUREMENTS)),
        "--output": "out",
    }
    for name in draw(st.lists(st.sampled_from(sorted(GOOD)), unique=True, max_size=4)):
        options[name] = draw(st.sampled_from(GOOD[name]))
    if draw(st.integers(0, 2)) == 0:
        name = draw(st.sampled_from(sorted({*GOOD, *BAD, "--typo"})))
        options[name] = draw(st.sampled_from([*BAD.get(name, []), *SPOILED]))
    tables = {"std": draw(st.sampled_from(["1", "0.7", "[1, 2]"]))}
    for name in draw(st.lists(st.sampled_from(sorted(TABLES)), unique=True, max_size=2)):
        tables[name] = draw(st.sampled_from(TABLES[name]))
    if draw(st.integers(0, 2)) == 0:
        tables[draw(st.sampled_from(["std", "typo", "x_shape", "name", *TABLES]))] = draw(
            st.sampled_from(SPOILED)
        )
    arguments = [text for pair in options.items() for text in pair]
    for name, text in tables.items():
        arguments += ["--option", f"{name}={text}"]
    if draw(st.booleans()):
        arguments.append("--nan-is-missing")
    if draw(st.integers(0, 9)) == 0:
        arguments.pop(draw(st.integers(0, len(arguments) - 1)))
    return ["solve", *arguments], options, tables


def right(options, tables, flags):
    """Whether a call has to be refused, as far as its options say by themselves."""
    for name in ("--noise", "--df"):
        if name in options and not positive(options[name]):
            return False
    for name in ("--starts", "--steps"):
        if name in options and not re.fullmatch(r"[1-9]\d{0,3}", options[name]):
            return False
    if "--df" in options and "--noise" not in options:
        return False
    if not re.fullmatch(r"[+-]?\d+", options.get("--seed", "0")) or "--typo" in options:
        return False
    if (
        options.get("--device", "cpu") != "cpu"
        or options["--operator"] != "blur"
        or options["--prior"] != "prior"
    ):
        return False
    if set(tables) - {"std", *TABLES}:
        return False
    if not re.fullmatch(r"\d+(\.\d+)?|\[\d+, \d+\]", tables["std"]) or tables["std"] == "0":
        return False
    known = {
        "size": r"[1-9]\d*|\[3, 5\]|null",
        "boundary": r'zero|"reflect"|circular',
        "method": "fft|auto",
    }
    return all(re.fullmatch(known[name], tables[name]) for name in TABLES if name in tables)


def positive(text):
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def check(setting, capsys, one):
    arguments, options, tables = one
    out = setting / "out" / "numbers.json"
    out.unlink(missing_ok=True)
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    err = capsys.readouterr().err
    if caught.value.code != 0:
        assert caught.value.code == 2 and not out.exists()
        lines = [line for line in err.splitlines() if line.startswith("onmanifold: ")]
        assert len(lines) == 1 and "Traceback" not in err, err
        assert not FOREIGN.search(lines[0]), lines[0]
        return
    assert right(options, tables, arguments), f"accepted {arguments}"
    numbers = json.loads(out.read_bytes(), parse_constant=pytest.fail)
    for each in numbers["measurements"]:
        assert each["consistent"] in (True, False, None)
        assert (each["p_value"] is None) == ("--noise" not in options)
    assert options["--measurement"] not in BROKEN, f"accepted {options['--measurement']}"
    missing = options["--measurement"] in ("nan.npy",)
    assert not missing or "--nan-is-missing" in arguments


BROKEN = {
    "inf.npy",
    "bool.npy",
    "complex.npy",
    "empty.npy",
    "shape.npy",
    "huge.npy",
    "all-nan.npy",
    "text.npy",
    "y.txt",
    "missing.npy",
    ".",
    "",
}


def test_solve(fuzz, setting, capsys):
    assert commands.solve  # the command under test
    fuzz(lambda one: check(setting, capsys, one), calls(), 900)


def test_any_words(fuzz, setting, capsys):
    words = st.sampled_from(
        [
            "solve",
            "priors",
            "operators",
            "tank",
            "atlas-report",
            "--help",
            "--version",
            "-x",
            "ring",
            "nowhere",
            "",
            "é",
            "--output",
            "out",
            "--level",
            "3",
            "--",
            "\udcff",
        ]
    )

    def check_words(arguments):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        out, err = capsys.readouterr()
        assert caught.value.code in (0, 2) and "Traceback" not in err

    fuzz(check_words, st.lists(words, max_size=5), 300)
