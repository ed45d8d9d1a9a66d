"""The pipeline of measured tanks, on a simulated tank; its command, on a measured one."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat

from onmanifold.applications.tanks import (
    Reconstruction,
    class_probabilities,
    command,
    cut,
    describe,
    figure_of,
    linear_objects,
    reconstruct,
    single_objects,
    tank_operators,
    tank_posterior,
    tank_prior,
)
from onmanifold.applications.tanks.cases import Case
from onmanifold.cli import main
from onmanifold.operators.eit import (
    EIT,
    CalibratedTank,
    Inclusions,
    Measurement,
    assemble,
    calibrate_tank,
    ktc,
    one_step,
    polar_mesh,
)
from onmanifold.operators.eit.one_step import disk_pixels, smooth_modes
from onmanifold.priors.scene import Arrangement, RadialOutlines, Scene


def coarse(tank):
    return assemble(polar_mesh(tank, 4, 1.6, 0.12))


@pytest.fixture(scope="module")
def tank() -> CalibratedTank:
    protocol = ktc.protocol()
    mesh = coarse(ktc.tank())
    eit = EIT(ktc.tank(), protocol, (3, 48, 48), conductivity=Inclusions(0.8), mesh=mesh)
    voltages = eit.A(torch.zeros(1, 3, 48, 48, dtype=torch.float64))[0]
    noise = 5e-5 * torch.randn(voltages.shape, generator=torch.Generator().manual_seed(0)).double()
    reference = Measurement.from_values(protocol, (voltages + noise).view(76, 31))
    return calibrate_tank(ktc.tank(), reference, longest=0.12)


@pytest.fixture(scope="module")
def prior():
    arrangement = Arrangement(counts=(0.1, 0.4, 0.4, 0.1))
    return tank_prior(Scene(RadialOutlines(3), 2, 48, arrangement).eval())


def disk(scene, x, y, radius):
    block = torch.zeros(scene.block)
    block[0], block[1] = x, y
    block[2] = scene.arrangement.size_coordinate(torch.tensor(radius))
    return block


@pytest.fixture(scope="module")
def measured(tank, prior):
    """A resistive disk on the left and a conductive one on the right; the water conducts 2 % more."""
    scene = prior.prior
    objects = [(0, disk(scene, -0.45, 0.1, 0.3)), (1, disk(scene, 0.5, -0.1, 0.22))]
    point = scene.points([objects])
    x = torch.cat([scene.decode(point), torch.full((1, 1, 48, 48), 0.02)], dim=1)
    operator = tank.operator(Inclusions(tank.background), prior.x_shape)
    with torch.no_grad():
        y = operator.A(x)[0].double()
    noise = 5e-5 * torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).double()
    voltages = (y + noise).view(76, 31)
    return operator, Measurement.from_values(tank.reference.protocol, voltages), x


def test_the_reference_shows_the_tank(tank):
    assert tank.background == pytest.approx(0.8, rel=0.03)
    assert tank.unreliable == ()


def test_the_linear_image_shows_both_signs(tank, measured):
    operator, measurement, x = measured
    y = measurement.voltages.flatten()
    linear = one_step(operator, y[None], tank.fidelity(measurement), channel=1)
    mean, std = linear.mean[0, 1], linear.std[0, 1]
    assert mean[x[0, 1] > 0.5].mean() > 3 * std[x[0, 1] > 0.5].mean() > 0
    assert mean[x[0, 0] > 0.5].mean() < -3 * std[x[0, 0] > 0.5].mean()


def test_objects_of_the_linear_image_have_the_right_numbers(tank, prior, measured):
    operator, measurement, _ = measured
    y = measurement.voltages.flatten()
    found = linear_objects(operator, y, tank.fidelity(measurement), prior)
    counts = [prior.prior.counts[k] for k in found.chart.tolist()]
    assert (1, 1) in counts
    z = found.z[counts.index((1, 1))]
    assert z[0] < -0.2 and z[prior.prior.block] > 0.2


def test_a_single_object_is_tried_everywhere(prior):
    single = single_objects(prior)
    counts = [prior.prior.counts[k] for k in single.chart.tolist()]
    assert set(counts) == {(1, 0), (0, 1)}
    for kind in range(2):
        found = prior.decode(single)[[c[kind] == 1 for c in counts], kind]
        assert found.shape[0] > 40
        covered = (found.amax(0) > 0.5).double().mean() / (np.pi / 4)
        assert covered > 0.6  # of the tank, by small disks that lie apart from its wall


@pytest.mark.parametrize("level", [1, 6])
def test_scenes_are_found_and_counted(tank, prior, measured, level):
    operator, measurement, x = measured
    shown = cut(measurement, level)
    y = shown.voltages.flatten()
    posterior = tank_posterior(operator, y, tank.fidelity(shown), prior)
    found = describe(posterior)
    assert found.consistent and posterior.consistent.all()
    assert next(iter(found.counts)) == (1, 1)
    assert sum(found.counts.values()) == pytest.approx(1)
    truth = torch.nn.functional.interpolate(x[:, :2], (256, 256), mode="bilinear")[0] > 0.5
    for k in range(2):
        both, either = (
            (found.labels == k + 1) & truth[k].numpy(),
            (found.labels == k + 1) | truth[k].numpy(),
        )
        assert both.sum() > 0.8 * either.sum()
    assert np.allclose(found.probabilities.sum(axis=0), 1)
    assert found.uncertainty.min() >= 0 and found.uncertainty.max() <= 2 / 3


def test_two_processes_find_the_same(tank, prior, measured):
    _, measurement, _ = measured
    one, two = (reconstruct(tank, measurement, prior, patience=1, jobs=jobs) for jobs in (1, 2))
    assert np.array_equal(one.labels, two.labels)
    assert np.array_equal(one.probabilities, two.probabilities)
    assert one.counts == two.counts and one.p_value == two.p_value
    assert one.linearizations == two.linearizations > 20
    assert one.evaluations == two.evaluations > one.linearizations


def test_drafts_lead_to_the_operators_own_modes(tank, prior, measured):
    _, measurement, _ = measured
    operator, draft = tank_operators(tank, prior)
    assert draft.engine.cells < operator.engine.cells
    y, fidelity = measurement.voltages.flatten(), tank.fidelity(measurement)
    found = [
        tank_posterior(operator, y, fidelity, prior, patience=1, draft=other)
        for other in (None, draft)
    ]
    best = [posterior.log_mass.max().item() for posterior in found]
    assert best[0] == pytest.approx(best[1], abs=0.5)
    assert found[0].problem.operator is found[1].problem.operator is operator


def test_probabilities_are_shares_of_samples():
    masks = torch.zeros(4, 2, 32, 32)
    masks[:3, 0, 4:12, 4:12] = 1
    water, resistive, conductive = class_probabilities(masks)[:, 60, 60]
    assert (water, resistive, conductive) == (0.25, 0.75, 0.0)


def test_a_pixel_at_a_soft_edge_is_as_likely_as_its_masks_say():
    masks = torch.full((2, 2, 32, 32), 0.25)
    masks[0, 1] = 0
    probabilities = class_probabilities(masks)
    assert np.allclose(probabilities, np.array([0.625, 0.25, 0.125])[:, None, None])


def test_a_level_leaves_what_the_challenge_leaves(measured):
    measurement = measured[1]
    left = cut(measurement, 7)
    assert torch.equal(left.mask, ktc.level_mask(7, measurement.protocol))
    assert (left.voltages[~left.mask] == 0).all()
    assert cut(measurement, 0) is measurement
    assert replace(measurement, mask=left.mask).mask.sum() < measurement.mask.sum()


def test_data_that_no_scene_fits_are_marked(tank, prior, measured):
    """Voltages of another tank: a gain of two in every other channel."""
    _, measurement, _ = measured
    gains = torch.ones(31, dtype=torch.float64)
    gains[::2] = 2.0
    change = measurement.voltages - tank.reference.voltages
    other = replace(measurement, voltages=tank.reference.voltages + 30 * gains * change.flip(1))
    with pytest.warns(UserWarning, match=r"posterior of measurements \[0\] is not to be relied on"):
        found = reconstruct(tank, other, prior, patience=1)
    assert not found.consistent and found.p_value < 0.01
    figure = figure_of((Case("1", 0, other, None), found), "channels 3 look bad")
    assert figure.get_suptitle().startswith("uncertain: inconsistent with the data, p = ")


def test_a_tank_of_water_is_found_empty(tank, prior):
    """No object has an outline to be wrong."""
    noise = 5e-5 * torch.randn(76, 31, generator=torch.Generator().manual_seed(9)).double()
    voltages = tank.reference.voltages + noise
    found = reconstruct(tank, Measurement.from_values(tank.reference.protocol, voltages), prior)
    assert next(iter(found.counts)) == (0, 0)
    assert not found.labels.any()


def test_modes_have_the_priors_variance():
    for size in (64, 96):
        variance = smooth_modes(disk_pixels((size, size))).square().sum(dim=0)
        assert variance[size // 2, size // 2] == pytest.approx(1.0, abs=1e-2)
        assert variance[0, 0] == 0


# The command --------------------------------------------------------------------------------------


@pytest.fixture
def folder(shared_data, tmp_path, monkeypatch):
    """A folder with the reference and one measured tank, and its truth elsewhere."""
    source = shared_data / "ktc2023" / "training"
    for name, files in (("input", ("ref.mat", "data4.mat")), ("truth", ("true4.mat",))):
        (tmp_path / name).mkdir()
        for file in files:
            shutil.copy(source / file, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    """Exit code of ``onmanifold tank``."""
    with pytest.raises(SystemExit) as caught:
        main(["tank", *map(str, arguments)])
    return caught.value.code


def test_measured_tank(folder, capsys):
    options = ("--truth", "truth", "--jobs", 1, "--patience", 1)
    assert run("input", "output", 3, *options) == 0
    printed = capsys.readouterr().out
    classes = np.load(folder / "output" / "4.npy")
    assert classes.shape == (256, 256) and set(np.unique(classes)) == {0, 1}
    assert (folder / "output" / "4.png").stat().st_size > 5_000
    assert (folder / "output" / "page.png").stat().st_size > 5_000
    assert float(re.search(r"level 3: mean score ([\d.]+)", printed)[1]) > 0.85
    assert re.search(r"^ *4 +3 +\S+ +1 +0 ", printed, re.MULTILINE)  # one resistive object


def test_measured_tank_of_bad_files(folder, capsys):
    """Millivolts, and a file without voltages, are refused by name; nothing is written."""
    changed = folder / "changed"
    changed.mkdir()
    shutil.copy(folder / "input" / "ref.mat", changed)
    contents = loadmat(folder / "input" / "data4.mat")
    for factor, message in (
        (1e3, "data4.mat: its voltages are"),
        (np.nan, "data4.mat: all of its"),
    ):
        voltages = {"Uel": factor * contents["Uel"]}
        savemat(
            changed / "data4.mat", {name: contents[name] for name in ("Inj", "Mpat")} | voltages
        )
        assert run("changed", "out", 1) == 2
        assert message in capsys.readouterr().err
    assert not (folder / "out").exists()


def test_measured_tank_needs_a_level_and_data(folder, capsys):
    for arguments, message in (
        (("input", "out"), "level"),
        (("input", "out", 9), "levels are 1 to 7"),
        (("truth", "out", 1), "there is no file truth/ref.mat"),
        (("input", "out", 1, "--truth", "input"), "there is no file input/true4.mat"),
    ):
        assert run(*arguments) == 2
        assert message in capsys.readouterr().err
    assert not (folder / "out").exists()


@pytest.mark.parametrize("p_value", [1e-9, 0.5])
def test_inconsistent_data_are_said_on_exit(folder, tank, monkeypatch, capsys, p_value):
    """Code 3 and a mark wherever a result goes: table, last line, file; nothing of that for good data."""
    probabilities = np.concatenate([np.ones((1, 256, 256)), np.zeros((2, 256, 256))])
    labels = np.zeros((256, 256), np.uint8)
    found = Reconstruction(labels, probabilities, {(1, 0): 1.0}, p_value, 2.5)
    monkeypatch.setattr(command, "calibrate_tank", lambda *_: tank)
    monkeypatch.setattr(command, "reconstruct_all", lambda *_: iter([found]))
    drawn = []
    monkeypatch.setattr(command, "png", lambda figure, dpi: drawn.append(figure) or b"")
    good = p_value > 0.01
    assert run("input", "output", 3, "--jobs", 1) == (0 if good else command.INCONSISTENT)
    out, err = capsys.readouterr()
    row = out.splitlines()[-1]  # below the progress bar
    assert ("100%" in row) == good
    assert ("data4.mat at level 3: inconsistent" in err) != good
    assert drawn[0].get_suptitle().startswith("uncertain: inconsistent") != good
    (case,) = json.loads((folder / "output" / "numbers.json").read_bytes())["cases"]
    assert case["p_value"] == p_value and case["consistent"] is good
    assert case["counts"] == [{"resistive": 1, "conductive": 0, "probability": 1.0}]
