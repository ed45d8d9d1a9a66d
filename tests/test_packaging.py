"""What a package needs beside code: all its files, pinned versions, and the rule about imports."""

import importlib
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = {
    "src/onmanifold": "onmanifold",
    "operators": "onmanifold/operators",
    "priors": "onmanifold/priors",
}
SKIPPED = shutil.ignore_patterns("__pycache__", "*.egg-info")


def files():
    """All files of the package, by their paths once installed."""
    for folder, target in FOLDERS.items():
        for file in sorted((ROOT / folder).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                yield str(Path(target) / file.relative_to(ROOT / folder))


@pytest.fixture
def checkout(tmp_path):
    """The files that a wheel is made of, with the links between the folders."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for folder in ("src", "operators", "priors"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=SKIPPED, symlinks=True)
    return tmp_path


def build(kind, folder):
    """Build a wheel or an sdist of a folder; return its path."""
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}('.'))"
    built = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    return folder / built.stdout.split()[-1]


def test_wheel_holds_every_file_once(checkout):
    with zipfile.ZipFile(build("wheel", checkout)) as wheel:
        inside = [name for name in wheel.namelist() if name.startswith("onmanifold/")]
    assert sorted(inside) == sorted(files()), "see package-data in pyproject.toml"


def test_source_distribution_makes_the_same_wheel(checkout, tmp_path):
    with tarfile.open(build("sdist", checkout)) as sdist:
        assert all(member.isfile() or member.isdir() for member in sdist), "a link"
        sdist.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    with (
        zipfile.ZipFile(build("wheel", checkout)) as direct,
        zipfile.ZipFile(build("wheel", unpacked)) as indirect,
    ):
        assert sorted(direct.namelist()) == sorted(indirect.namelist())


def test_a_new_file_is_visible_at_once():
    for folder, target in FOLDERS.items():
        package = importlib.import_module(target.replace("/", "."))
        assert Path(package.__file__).resolve().parent == ROOT / folder


def test_entry_points_are_those_of_pyproject():
    for group, named in PROJECT["project"]["entry-points"].items():
        known = {entry.name: entry.value for entry in entry_points(group=group)}
        assert named.items() <= known.items(), f"{group}: install the package again (make setup)"


def test_every_entry_point_loads():
    for group in PROJECT["project"]["entry-points"]:
        for entry in entry_points(group=group):
            assert entry.load() is not None


def test_lock_pins_versions_and_hashes_and_names_no_address():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"https?:|index-url|find-links|trusted-host|file:", text)
    blocks = re.split(r"\n(?=\S)", "\n".join(x for x in text.splitlines() if not x.startswith("#")))
    assert len(blocks) > 50
    for block in blocks:
        assert re.match(r"[\w.-]+==[\w.+!]+( ; [^\\]+)? \\\n", block), block[:80]
        assert "--hash=sha256:" in block


def test_lock_holds_every_dependency():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = set(re.findall(r"^([\w.-]+)==", text, re.MULTILINE))
    extras = PROJECT["project"]["optional-dependencies"].values()
    for requirement in [*PROJECT["project"]["dependencies"], *(r for e in extras for r in e)]:
        name = re.match(r"[\w.-]+", requirement).group().lower()
        assert name in locked, "make lock"


@pytest.fixture
def tree(tmp_path):
    """The package as it is once installed, with the configuration beside it."""
    shutil.copytree(ROOT / "src", tmp_path, dirs_exist_ok=True, ignore=SKIPPED)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "line", "verdict"),
    [
        ("solve.py", "", "0 broken"),
        ("solve.py", "from onmanifold.operators import Blur", "broken"),
        ("descent/loop.py", "from onmanifold.solve import solve", "broken"),
        ("geometry.py", "def f():\n    import onmanifold.descent.loop", "broken"),
        ("operators/blur.py", "import onmanifold.priors.datasets.bar", "broken"),
        ("new.py", "x = 1", "not listed as layers"),
    ],
)
def test_imports_between_the_parts(tree, file, line, verdict):
    with open(tree / "onmanifold" / file, "a", encoding="utf-8") as stream:
        stream.write(f"\n{line}\n")
    code = (
        "import sys; sys.path.insert(0, ''); from importlinter.cli import lint_imports as lint;"
        "sys.exit(lint(config_filename='pyproject.toml', no_cache=True))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, check=False
    )
    out = " ".join((done.stdout + done.stderr).split())
    assert verdict in out
    assert (done.returncode == 0) == (verdict == "0 broken"), out
