"""The examples on images run with the pretrained priors and find what they look for."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from onmanifold import prior_names

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name, cwd, **environment):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), "out"],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def need(prior):
    if prior not in prior_names():
        pytest.skip(f"the pretrained prior {prior!r} does not exist yet")


def numbers(printed, after):
    """The numbers of the line that begins with ``after``."""
    line = re.search(rf"^{after}: (.*)$", printed, re.MULTILINE)
    return [float(word) for word in re.findall(r"\d+\.\d+", line[1])]


def test_restore_digits(tmp_path, shared_data):
    need("mnist")
    printed = run("restore_digits.py", tmp_path, ONMANIFOLD_DATA=str(shared_data))
    for problem in ("blurred", "half missing"):
        ratios = numbers(printed, problem)
        assert len(ratios) == 6 and sum(ratios) / 6 > 15
    assert (tmp_path / "out" / "digits.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("example", "prior", "what", "image"),
    [
        ("light_direction.py", "sundial", "error of the direction", "light.png"),
        ("object_pose.py", "rotating-object", "error of the pose", "pose.png"),
    ],
)
def test_coordinates_are_found(example, prior, what, image, tmp_path):
    need(prior)
    angles = numbers(run(example, tmp_path), what)
    assert len(angles) == 6 and sorted(angles)[3] < 5
    assert (tmp_path / "out" / image).stat().st_size > 10_000
