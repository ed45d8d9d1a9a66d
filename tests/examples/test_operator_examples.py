"""The examples on operators run, on a small setting where they take one, and find what they look for."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from onmanifold.operators.native import require_dolfinx

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name, *arguments, cwd):
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def errors(printed, after):
    """The numbers of the line that begins with ``after``, in order."""
    line = re.search(rf"^{after}:? (.*)$", printed, re.MULTILINE)
    return sorted(map(float, re.findall(r"\d+\.\d+", line[1])))


def test_count_photons(tmp_path):
    printed = run("count_photons.py", "out", cwd=tmp_path)
    assert "4 of 4 converged" in printed
    assert errors(printed, "counts: relative error")[1] < 0.15
    assert (tmp_path / "out" / "photons.png").stat().st_size > 10_000


def test_phase_retrieval(tmp_path):
    printed = run("phase_retrieval.py", "out", cwd=tmp_path)
    assert errors(printed, "relative error")[1] < 0.15
    assert (tmp_path / "out" / "phases.png").stat().st_size > 10_000


def test_darcy(tmp_path):
    try:
        require_dolfinx()
    except ImportError as error:
        pytest.skip(str(error))
    pytest.importorskip("lightning", reason="lightning is missing: pip install onmanifold[train]")
    if not (shutil.which("cc") or shutil.which("gcc")):
        pytest.skip("dolfinx compiles forms with a C compiler, and there is none")
    printed = run("darcy.py", "out", 60, 200, cwd=tmp_path)
    assert max(errors(printed, "relative error of the logarithm")) < 0.8  # no channel: 1 or so
    assert (tmp_path / "out" / "darcy.png").stat().st_size > 10_000
