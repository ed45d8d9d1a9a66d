"""The examples on the toy manifolds run on small settings, and find what they look for."""

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name, *arguments, cwd):
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert (cwd / arguments[0]).stat().st_size > 10_000
    return done.stdout


def test_descend(tmp_path):
    printed = run("descend.py", "descend.png", 3, cwd=tmp_path)
    left = dict(re.findall(r"(\S+): at most ([\d.]+) from the target", printed))
    least = {"ring": 0.0, "two-circles": 0.5, "sphere": 1.0, "torus": 1.0}
    assert set(left) >= {"two-circles", "sphere", "torus"}
    for name, distance in left.items():
        assert abs(float(distance) - least[name]) < 0.1


def test_walk(tmp_path):
    printed = run("walk.py", "walk.png", 40, cwd=tmp_path)
    farthest = [float(value) for value in re.findall(r"at most ([\d.]+)\n", printed)]
    assert len(farthest) == 4 and max(farthest) < 0.1
    assert float(re.search(r"at most ([\d.]+) off a great circle", printed)[1]) < 0.1


def test_sample_atlas(tmp_path):
    printed = run("sample_atlas.py", "samples.png", 300, cwd=tmp_path)
    shares = [float(value) for value in re.findall(r"([\d.]+)% of the samples", printed)]
    assert len(shares) >= 3 and min(shares) > 95


def test_learn_charts(tmp_path):
    printed = run("learn_charts.py", "charts.png", 60, cwd=tmp_path)
    errors = [float(value) for value in re.findall(r"within ([\d.]+)% of their norm", printed)]
    assert len(errors) == 3
    assert errors[2] < errors[0] and errors[2] < 60
