"""``onmanifold eit``: voltages of pyEIT's kind in a CSV to an image; what bad files get."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from onmanifold.applications import eit as application
from onmanifold.applications.eit import reconstruction
from onmanifold.applications.eit.command import INCONSISTENT
from onmanifold.cli import main
from onmanifold.errors import InputError
from onmanifold.operators.eit import EIT, Implausible, Tank, assemble, named_protocol, polar_mesh
from onmanifold.pretrained import save_prior
from onmanifold.priors.scene import Arrangement, RadialOutlines, Scene
from onmanifold.solution import InconsistentWarning

PLACE = (0.42, 0.3)  # of the resistive object, radii; a quarter of a turn matters


def simulate(name="pyeit16", count=208, places=(PLACE,), contrast=0.2, noise=2e-4):
    """Voltages as a file of that protocol holds them: without objects, then one frame for each place.

    On a mesh of its own, of narrower electrodes than are assumed.
    """
    named = named_protocol(name, (count,))
    electrodes = named.protocol.electrodes
    tank = Tank(
        1.0,
        electrodes,
        110 / electrodes,
        first_angle=named.first_angle,
        clockwise=named.clockwise,
    )
    grid = assemble(polar_mesh(tank, 4, 1.25, 0.06))
    laboratory = EIT(tank, named.protocol, (1, 64, 64), mesh=grid)
    at = (torch.arange(64).double() + 0.5) / 32 - 1
    x = torch.ones(1 + len(places), 1, 64, 64, dtype=torch.float64)
    for image, (right, up) in zip(x[1:, 0], places, strict=True):
        image[torch.hypot(at - right, -at[:, None] - up) < 0.22] *= contrast
    y = laboratory.A(x).flatten(1)
    source = torch.Generator().manual_seed(0)
    y += noise * y[:1].abs() * torch.randn(y.shape, generator=source, dtype=torch.float64)
    if named.order is None:
        return y.numpy()
    file = np.empty(y.shape)
    file[:, named.order] = y.numpy()
    return file


@pytest.fixture(scope="module")
def voltages():
    return simulate()


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    """A small scene: the pretrained one takes longer."""
    folder = tmp_path_factory.mktemp("prior") / "small"
    scene = Scene(RadialOutlines(3), 2, 48, Arrangement(counts=(0.1, 0.8, 0.1)))
    save_prior(scene.eval(), folder, {"name": "small", "unit": "1"})
    return folder


@pytest.fixture
def files(tmp_path, voltages, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, values in (("ref", voltages[:1]), ("data", voltages[1:])):
        np.savetxt(f"{name}.csv", values, delimiter=",")
    return tmp_path


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["eit", *arguments])
    return ended.value.code or 0


def centre_of(image, low=True):
    """Where an image is extreme, radii: x to the right, y up."""
    image = np.nan_to_num(-image if low else image)
    weight = np.where(image > 0.5 * image.max(), image, 0.0)
    at = (np.arange(len(image)) + 0.5) * 2 / len(image) - 1
    return (weight.sum(0) @ at / weight.sum(), -(weight.sum(1) @ at) / weight.sum())


def test_a_csv_of_208_voltages_to_an_image(files, prior, capsys):
    code = run("ref.csv", "data.csv", "--protocol", "pyeit16", "--prior", str(prior))
    assert code == 0
    folder = files / "eit-images"
    for name in ("image.npy", "linear.npy"):
        (image,) = np.load(folder / name)
        assert centre_of(image) == pytest.approx(PLACE, abs=0.08)
    numbers = json.loads((folder / "numbers.json").read_text())
    (frame,) = numbers["frames"]
    assert frame["consistent"] and frame["counts"][0]["resistive"] == 1
    contrast = frame["contrast"]["resistive"]
    error = np.log(contrast["times_background"] / 0.2)
    assert abs(error) < 2 * np.log(contrast["factor_of_one_std"]) < np.log(9)
    assert numbers["background"] == pytest.approx(1.0, rel=0.1)
    with Image.open(folder / "image.png") as drawn:
        assert drawn.size[0] > 800
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert any(line.split()[:3] == ["1", "1", "0"] for line in lines)


def test_a_time_series_is_a_film(files, voltages):
    series = simulate(places=(PLACE, (-0.42, 0.3)))[1:]
    np.save("series.npy", series.T)  # a frame in each column
    options = ("--prior", "none", "--format", "svg", "--output", "film")
    assert run("ref.csv", "series.npy", "--protocol", "pyeit16", *options) == 0
    images = np.load("film/linear.npy")
    assert [np.sign(centre_of(image)[0]) for image in images] == [1, -1]
    with Image.open("film/film.gif") as film:
        assert film.n_frames == 2
    assert (files / "film" / "image-2.svg").read_text(encoding="utf-8").startswith("<?xml")


@pytest.mark.parametrize(
    "name, count",
    [("eidors8", 40), ("pyeit-opposite16-rotated", 192), ("[0 3],[0 1],32", 896), ("skip-1-8", 64)],
)
def test_other_protocols_and_numbers_of_electrodes(name, count):
    values = simulate(name, count)
    found = application.reconstruct(values[0], values[1:], name, prior=None)
    assert centre_of(found.frames[0].linear) == pytest.approx(PLACE, abs=0.15)


def test_absolute_with_and_without_a_reference(voltages):
    for reference in (voltages[:1], None):
        found = application.reconstruct(
            reference, voltages[1], "pyeit16", prior=None, absolute=True
        )
        assert found.measured.absolute == (reference is None)
        assert centre_of(found.frames[0].linear) == pytest.approx(PLACE, abs=0.2)


def test_several_frames_of_the_reference_tell_the_noise(voltages):
    noise = 1e-3 * np.random.default_rng(0).normal(size=(12, 208))
    found = application.measure(voltages[:1] * (1 + noise), voltages[1:], "pyeit16")
    assert found.tank.noise[0] == pytest.approx(1e-3, rel=0.3)


def test_inconsistent_voltages_are_marked(files, voltages, prior):
    noise = np.random.default_rng(0).normal(size=voltages[1:].shape)
    np.savetxt("odd.csv", voltages[1:] * (1 + 0.3 * noise), delimiter=",")
    options = ("--protocol", "pyeit16", "--prior", str(prior))
    assert run("ref.csv", "odd.csv", *options) == INCONSISTENT
    (frame,) = json.loads((files / "eit-images" / "numbers.json").read_text())["frames"]
    assert not frame["consistent"] and frame["p_value"] < 0.01


def test_images_of_a_prior_are_checked(voltages):
    with pytest.raises(InputError, match=r"values from .* expected -1 \(resistive\) to 1"):
        application.reconstruct(voltages[:1], voltages[1:], "pyeit16", prior="bar")


def refused(files, capsys, *arguments):
    code = run(*arguments, "--prior", "none")
    assert code == 2 and not (files / "eit-images").exists()
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_the_other_sign_is_said(files, voltages, capsys):
    np.savetxt("negative.csv", -voltages, delimiter=",")
    line = refused(files, capsys, "negative.csv", "negative.csv", "--protocol", "pyeit16")
    assert "negative.csv: its voltages have the other sign than protocol pyeit16" in line
    assert "--factor -1" in line and "adjacent16" in line
    line = refused(files, capsys, "ref.csv", "negative.csv", "--protocol", "pyeit16")
    assert "negative.csv" in line and "other sign than those of the reference" in line
    with pytest.raises(InputError, match="adjacent16; multiply them by -1"):
        application.measure(voltages[:1], voltages[1:], "adjacent16")
    found = application.reconstruct(-voltages, -voltages[1:], "pyeit16", factor=-1, prior=None)
    assert centre_of(found.frames[0].linear) == pytest.approx(PLACE, abs=0.1)


def test_another_order_is_said(files, voltages, capsys):
    rotated = simulate("pyeit-rotated16")
    np.savetxt("rotated.csv", rotated[:1], delimiter=",")
    line = refused(files, capsys, "rotated.csv", "data.csv", "--protocol", "pyeit16")
    assert "come in another order" in line and "as pyeit16-rotated; say so by" in line
    mixed = voltages[:1, np.random.default_rng(0).permutation(208)]
    np.savetxt("mixed.csv", mixed, delimiter=",")
    line = refused(files, capsys, "mixed.csv", "data.csv", "--protocol", "pyeit16")
    assert "not those of an empty tank" in line and "no other known protocol fits" in line


def test_other_units_are_said(files, voltages, capsys):
    np.savetxt("mv.csv", 1000 * voltages[1:], delimiter=",")
    line = refused(files, capsys, "ref.csv", "mv.csv", "--protocol", "pyeit16")
    assert (
        "mv.csv: its" in line
        and "times those of the reference" in line
        and "divide them by 1000" in line
    )
    known = ("--protocol", "pyeit16", "--conductivity", "1")
    line = refused(files, capsys, "mv.csv", "mv.csv", *known)
    assert "times what the model of the tank says" in line and "divide them by 1000" in line


def test_another_protocol_is_said(files, voltages, capsys):
    np.savetxt("short.csv", voltages[1:, :200], delimiter=",")
    line = refused(files, capsys, "ref.csv", "short.csv", "--protocol", "pyeit16")
    assert line.startswith("onmanifold: short.csv") and "208 are measured" in line
    line = refused(files, capsys, "ref.csv", "data.csv", "--protocol", "pyeit-opposite")
    assert "it has as many as pyeit16" in line
    line = refused(files, capsys, "ref.csv", "data.csv")
    assert "holds voltages only" in line and "--protocol" in line


def test_missing_voltages(files, voltages, capsys):
    gaps = voltages[1:].copy()
    gaps[0, [3, 70, 71]] = np.nan
    found = application.reconstruct(voltages[:1], gaps, "pyeit16", prior=None)
    assert centre_of(found.frames[0].linear) == pytest.approx(PLACE, abs=0.1)
    reference = voltages[:1].copy()
    reference[0, 100] = np.nan
    found = application.reconstruct(reference, voltages[1:], "pyeit16", prior=None)
    assert centre_of(found.frames[0].linear) == pytest.approx(PLACE, abs=0.1)
    np.savetxt("none.csv", np.full((1, 208), np.nan), delimiter=",")
    line = refused(files, capsys, "ref.csv", "none.csv", "--protocol", "pyeit16")
    assert "none.csv: all of its voltages are missing" in line


def test_one_file_needs_absolute(files, capsys):
    line = refused(files, capsys, "ref.csv", "--protocol", "pyeit16")
    assert "expected two files" in line and "--absolute" in line
    line = refused(files, capsys, "ref.csv", "data.csv", "--format", "pdf")
    assert "--format is png or svg" in line


def test_objects_in_the_reference_are_warned_of(voltages):
    filled = simulate(places=((0.75, 0.0),))[1:]
    with pytest.warns(Implausible, match="are there objects in it"):
        found = application.measure(filled, voltages[:1], "pyeit16")
    assert len(found.notes) == 1


def test_an_inconsistent_frame_warns_in_python(voltages, monkeypatch):
    found = application.reconstruct(voltages[:1], voltages[1:], "pyeit16", prior=None)
    bad = replace(found.frames[0], p_value=1e-4)
    title = application.figure_of(replace(found, frames=(bad,))).get_suptitle()
    assert "inconsistent with the data, p = 0.0001: do not rely on it" in title
    monkeypatch.setattr(reconstruction, "reconstruct_frames", lambda *_: [bad])
    with pytest.warns(InconsistentWarning, match="frames 0"):
        application.reconstruct(voltages[:1], voltages[1:], "pyeit16")
