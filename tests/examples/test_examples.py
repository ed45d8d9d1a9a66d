"""The examples run, on a small setting where they take one, and find what they look for."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from skimage.io import imsave

from onmanifold import load_dataset

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name, *arguments, cwd):
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_deblur_bars(tmp_path):
    printed = run("deblur_bars.py", "bars.png", cwd=tmp_path)
    assert "3 of 3 converged" in printed
    assert (tmp_path / "bars.png").stat().st_size > 10_000


def test_deblur_scene(tmp_path):
    printed = run("deblur_scene.py", "scenes.png", "--cases", 2, "--patience", 1, cwd=tmp_path)
    assert "counted correctly: 2 of 2" in printed
    assert float(re.search(r"union ([\d.]+)", printed)[1]) > 0.8
    assert (tmp_path / "scenes.png").stat().st_size > 10_000


def test_two_balls_eit(tmp_path):
    printed = run("two_balls_eit.py", "balls.png", cwd=tmp_path)
    assert float(re.search(r"relative error ([\d.]+)", printed)[1]) < 0.1
    assert (tmp_path / "balls.png").stat().st_size > 10_000


def test_look_at_results(tmp_path):
    printed = run("look_at_results.py", "results", 1, cwd=tmp_path)
    assert "1 of 1 converged" in printed and "to the last bit: True" in printed
    names = {"panels.png", "path.png", "points.png", "convergence.png", "charts.png", "descent.gif"}
    assert all((tmp_path / "results" / name).stat().st_size > 5_000 for name in names)
    assert (tmp_path / "results" / "solution" / "solution.json").is_file()


def test_voltages_of_pyeit_become_an_image(tmp_path):
    pytest.importorskip("pyeit", reason="pyEIT simulates these voltages")
    assert "208 voltages" in run("eit_pyeit.py", ".", cwd=tmp_path)
    call = ["eit", "reference.csv", "data.csv", "--protocol", "pyeit16"]
    command = [sys.executable, "-m", "onmanifold", *call]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    [found] = json.loads((tmp_path / "eit-images" / "numbers.json").read_text())["frames"]
    assert found["consistent"]
    best = max(found["counts"], key=lambda count: count["probability"])
    assert (best["resistive"], best["conductive"]) == (1, 1)
    image = np.load(tmp_path / "eit-images" / "image.npy")[0]  # log of the background's multiple
    half = len(image) / 2
    for inside, place in ((image < -1, (0.4, 0.4)), (image > 1, (-0.4, -0.2))):
        row, column = (index.mean() + 0.5 for index in np.nonzero(inside))
        assert np.hypot(column / half - 1 - place[0], 1 - row / half - place[1]) < 0.05


def test_own_images(tmp_path):
    folder = tmp_path / "mine" / "some"
    folder.mkdir(parents=True)
    for i, image in enumerate(load_dataset("torus-disk").sample(150, 0)[0]):
        imsave(folder / f"{i}.png", np.uint8(255 * image[0]), check_contrast=False)
    printed = run("own_images.py", "out", "mine", 100, cwd=tmp_path)
    assert 'load_prior("out/prior")' in printed
    blurred, restored = (
        [float(n) for n in re.findall(r"[\d.]+(?=,| dB)", line)]
        for line in printed.splitlines()[-2:]
    )
    assert len(blurred) == len(restored) == 4
    assert (tmp_path / "out" / "restored.png").stat().st_size > 10_000


def test_coordinates(tmp_path):
    printed = run("coordinates.py", tmp_path, cwd=tmp_path)
    apart = [float(line.split()[-1]) for line in printed.splitlines() if "apart" in line]
    assert apart[0] < 1e-3 < 0.1 < apart[1]
    assert (tmp_path / "coordinates.png").stat().st_size > 10_000


def test_own_operator(tmp_path):
    printed = run("own_operator.py", cwd=tmp_path)
    assert "FAIL" not in printed and "3 of 3 converged" in printed


def test_body_of_ones_own(tmp_path):
    try:
        import gmsh  # noqa: F401
    except (ImportError, OSError) as error:
        pytest.skip(f"gmsh does not import: {error}")
    printed = run("eit_body.py", "body.png", cwd=tmp_path)
    assert "16 of 16 determined" in printed
    lung, elsewhere = map(float, re.search(r"lungs (\S+) S/m, elsewhere (\S+) S", printed).groups())
    assert lung < -0.1 and abs(elsewhere) < 0.1 * abs(lung)
    assert (tmp_path / "body.png").stat().st_size > 10_000


def test_measured_tank(shared_data, tmp_path):
    folder = shared_data / "ktc2023" / "training"
    files = folder / "ref.mat", folder / "data4.mat"
    printed = run("ktc_tank.py", *files, "tank.png", cwd=tmp_path)
    first = next(line for line in printed.splitlines() if "objects" in line)
    assert first.startswith("1 resistive and 0 conductive objects")
    assert (tmp_path / "tank.png").stat().st_size > 5_000


def test_measured_disk(shared_data, tmp_path):
    folder = shared_data / "htc2022"
    printed = run(
        "htc_disk.py", folder / "solid_30.mat", folder / "td_30.mat", "d.png", cwd=tmp_path
    )
    assert printed.startswith("4 holes: ") and "consistent with the data: True" in printed
    assert (tmp_path / "d.png").stat().st_size > 5_000
