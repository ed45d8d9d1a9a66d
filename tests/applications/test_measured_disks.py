"""The pipeline of drilled disks on a simulated disk, and its command."""

import json

import numpy as np
import pytest
import torch
from ct_cases import ANGLES, DISK, HOLES, beam, sinogram, values, write
from PIL import Image

from onmanifold.applications import disks
from onmanifold.applications.disks import command, reconstruction
from onmanifold.cli import main
from onmanifold.operators.ct import Sinogram, calibrate_disk, htc
from onmanifold.priors.scene import Arrangement, RadialOutlines, Scene


@pytest.fixture(scope="module")
def prior():
    arrangement = Arrangement(radius=0.13, spread=0.45, counts=(0.1, 0.3, 0.3, 0.3))
    return Scene(RadialOutlines(4), 1, 48, arrangement).eval()


@pytest.fixture(scope="module")
def scanner():
    return calibrate_disk(sinogram((), "solid.mat"))


@pytest.fixture(scope="module")
def truth():
    at = htc.PIXEL * (np.arange(512) - 255.5)
    inside = [
        (at - d.centre[0]) ** 2 + (-at[:, None] - d.centre[1]) ** 2 < d.radius**2
        for d in (DISK, *HOLES)
    ]
    return inside[0] & ~inside[1] & ~inside[2]


@pytest.fixture
def quick(monkeypatch, prior):
    """Smaller images and scenes, fewer steps."""
    command._prior.cache_clear()
    monkeypatch.setattr(command, "disk_prior", lambda: prior)
    for name, value in (("SIZE", 64), ("_STEPS", 120), ("_ROUNDS", 1)):
        monkeypatch.setattr(f"onmanifold.applications.disks.images.{name}", value)
    yield
    command._prior.cache_clear()


def test_holes_are_found_and_counted(quick, scanner, prior, truth):
    found = disks.reconstruct(scanner, sinogram(), prior)
    assert htc.score(found.material, truth) > 0.97
    assert max(found.counts, key=found.counts.get) == 2 and found.consistent
    assert sum(found.counts.values()) == pytest.approx(1.0)
    assert found.probabilities.shape == (512, 512)
    assert 0 <= found.probabilities.min() and found.probabilities.max() <= 1
    sure = np.abs(found.probabilities - 0.5) > 0.45
    assert ((found.probabilities > 0.5) == truth)[sure].mean() > 0.99
    np.testing.assert_allclose(found.disk.centre, DISK.centre, atol=0.05)
    assert found.uncertainty.max() <= 0.5 and found.linearizations > 0


def test_data_that_no_scene_explains_are_marked(quick, scanner, prior, truth):
    """A half-dense block is no hole: no scene explains it."""
    odd = values()
    odd[:, 120:150] += 0.4
    found = disks.reconstruct(scanner, Sinogram.of(odd, beam(), "odd.mat"), prior)
    assert not found.consistent
    first, _ = disks.binary_image(disks.prepare(scanner, Sinogram.of(odd, beam())))
    assert (found.material == (disks.picture(first[0, 0], found.disk) > 0.5)).all()


def test_missing_pixels_do_not_count(quick, scanner, prior, truth):
    data = values()
    data[:, 140] = np.nan
    data[5] = np.nan
    some = Sinogram.of(np.delete(data, 5, 0), beam(np.delete(ANGLES, 5)), "some.mat")
    found = disks.reconstruct(scanner, some, prior)
    assert htc.score(found.material, truth) > 0.96


def test_regions_are_cut_at_their_necks(prior):
    mask = torch.zeros(48, 48, dtype=torch.bool)
    mask[10:20, 10:20] = mask[10:20, 24:34] = mask[14:16, 20:24] = True
    assert len(reconstruction.cut_regions(prior, mask)) == 2


def test_pictures_have_the_disks_place():
    share = disks.picture(torch.zeros(1, 8, 8)[0], DISK)
    rows, columns = np.nonzero(share > 0.5)
    assert htc.PIXEL * (columns.mean() - 255.5) == pytest.approx(DISK.centre[0], abs=0.02)
    assert htc.PIXEL * (255.5 - rows.mean()) == pytest.approx(DISK.centre[1], abs=0.02)
    assert len(rows) == pytest.approx(np.pi * (DISK.radius / htc.PIXEL) ** 2, rel=0.002)


def run(*arguments):
    """The exit code of a command line."""
    with pytest.raises(SystemExit) as end:
        main([*arguments])
    return end.value.code


# The command ----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, truth):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "solid.mat", ())
    write(tmp_path / "in" / "tx_30.mat")
    Image.fromarray(np.where(truth, 255, 0).astype(np.uint8)).save(tmp_path / "in" / "tx_true.png")
    return tmp_path


def test_measured_disk(quick, folder, capsys, truth):
    out = folder / "out"
    given = str(folder / "in")
    code = run("disk", given, str(out), "7", "--truth", given, "--jobs", "1")
    printed = capsys.readouterr().out
    assert (
        code == 0 and "tx_30" in printed and all(len(line) <= 80 for line in printed.splitlines())
    )
    assert {p.name for p in out.iterdir()} == {
        "tx_30.png",
        "tx_30-page.png",
        "page.png",
        "numbers.json",
    }
    picture = np.asarray(Image.open(out / "tx_30.png"))
    assert htc.score(picture > 127, truth) > 0.97 and set(np.unique(picture)) == {0, 255}
    (case,) = json.loads((out / "numbers.json").read_text())["cases"]
    assert case["case"] == "tx_30" and case["consistent"] and case["score"] > 0.97
    assert case["counts"][0]["holes"] == 2


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["8"], "levels are 1 to 7"),
        (["1"], "tx_30.mat covers 30 degrees, level 1 has 90"),
        (["7", "--solid", "in/none.mat"], "none.mat"),
        (["7", "--solid", "in/tx_30.mat"], "it has holes"),
        (["7", "--truth", "elsewhere"], "there is no tx_30_true.png or tx_true.png"),
    ],
)
def test_bad_input_writes_nothing(folder, monkeypatch, capsys, arguments, what):
    monkeypatch.chdir(folder)
    assert run("disk", "in", "out", *arguments) == 2
    error = capsys.readouterr().err
    assert what in error and not (folder / "out").exists()


def test_a_folder_without_a_solid_disk_or_data(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    (folder / "in" / "tx_30.mat").rename(folder / "in" / "solid_2.mat")
    assert run("disk", "in", "out", "7") == 2
    assert "found solid.mat, solid_2.mat" in capsys.readouterr().err
    (folder / "in" / "solid_2.mat").unlink()
    assert run("disk", "in", "out", "7") == 2
    assert "no measurement of a disk with holes" in capsys.readouterr().err


def test_inconsistent_data_are_said_on_exit(folder, monkeypatch, capsys):
    def found(*_):
        blank = np.ones((512, 512))
        return disks.Reconstruction(blank > 0, blank, {3: 1.0}, 0.0, DISK, command.check, 1.0)

    monkeypatch.chdir(folder)
    monkeypatch.setattr(command, "_reconstruct", found)
    monkeypatch.setattr(command, "numbers_of", lambda results: b"{}")
    assert run("disk", "in", "out", "7", "--jobs", "1") == command.INCONSISTENT
    printed = capsys.readouterr()
    assert "?" in printed.out and "rely less on it" in printed.err


def test_two_processes_find_the_same(quick, scanner, prior):
    first, ready = disks.binary_image(disks.prepare(scanner, sinogram()))
    one, two = (disks.disk_posterior(ready, first, prior, jobs=jobs) for jobs in (1, 2))
    assert torch.equal(one.mode, two.mode) and torch.equal(one.log_mass, two.log_mass)
