"""Every example in a docstring runs, and so does every block of Python in README and docs."""

import doctest
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    "src/onmanifold": "onmanifold",
    "operators": "onmanifold.operators",
    "priors": "onmanifold.priors",
}
OPTIONAL = (
    *("dolfinx", "dolfinx_solver", "gmsh", "petsc4py", "mpi4py"),
    *("deepinv", "pylops", "pymanopt"),
)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def modules():
    for folder, package in FOLDERS.items():
        for file in sorted((ROOT / folder).rglob("*.py")):
            parts = file.relative_to(ROOT / folder).with_suffix("").parts
            if ">>>" in file.read_text(encoding="utf-8"):
                yield ".".join((package, *parts)).removesuffix(".__init__")


def pages():
    for file in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").glob("*.md")),
    ]:
        if BLOCK.search(file.read_text(encoding="utf-8")):
            yield file


@pytest.mark.parametrize("name", list(modules()))
def test_examples_in_docstrings(name):
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        missing = getattr(error.__cause__ or error, "name", None)
        if missing in OPTIONAL:
            pytest.skip(f"{name} needs {missing}, which is optional")
        raise
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    failed, tried = doctest.testmod(module, optionflags=flags)
    assert failed == 0, "see the output above"


@pytest.mark.parametrize("file", list(pages()), ids=lambda file: file.name)
def test_blocks_of_python(file, tmp_path, monkeypatch):
    """The blocks of a page run in order, in one namespace, as a reader would type them."""
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    text = file.read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        line = text[: block.start(1)].count("\n")
        code = compile("\n" * line + block.group(1), str(file), "exec")
        exec(code, namespace)


def test_the_readme_runs_with_every_warning_as_an_error(tmp_path):
    """In Python's development mode, and with our own warnings, which other tests let pass."""
    script = tmp_path / "readme.py"
    script.write_text("\n".join(BLOCK.findall((ROOT / "README.md").read_text())))
    command = [sys.executable, "-W", "error", "-X", "dev", script]
    environment = os.environ | {"MPLBACKEND": "Agg"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=500)
