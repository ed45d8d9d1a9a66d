"""The Kuopio Tomography Challenge: files, levels, images, score; and the measured tanks themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.io import savemat

from onmanifold.operators.eit import EIT, Protocol, Saturating, from_options, ktc


@pytest.fixture(scope="module")
def training(shared_data):
    folder = shared_data / "ktc2023" / "training"
    if not folder.is_dir():
        pytest.skip(f"no challenge files: there is no folder {folder}")
    return folder


@pytest.fixture
def written(tmp_path):
    """Writes a measurement file of the small protocol, altered as asked."""

    def write(**changes):
        protocol = Protocol.opposite(4)
        content = {"Inj": protocol.injections, "Mpat": protocol.patterns, "Uel": np.arange(8.0)}
        content.update(changes)
        path = tmp_path / "data1.mat"
        savemat(path, {k: v for k, v in content.items() if v is not None})
        return path

    return write


# Files ----------------------------------------------------------------------------------------


def test_missing_voltages_become_a_mask(written):
    values = np.arange(8.0)
    values[[1, 6]] = np.nan
    got = ktc.read(written(Uel=values[:, None]))
    assert got.protocol == Protocol.opposite(4)
    assert got.voltages.tolist() == [[0, 0, 2, 3], [4, 5, 0, 7]]
    assert got.mask.tolist() == [[True, False, True, True], [True, True, False, True]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Uel": None}, "data1.mat holds Inj, Mpat; expected Injref, Mpat, Uelref or Inj"),
        (
            {"Uel": np.zeros(7)},
            "Uel: the voltages have 7 entries; 2 injections with 4 patterns make 8",
        ),
        ({"Uel": np.full(8, np.inf)}, "infinite"),
        ({"Inj": np.eye(4)}, "data1.mat: the currents of injection 1"),
        ({"Mpat": np.ones((3, 4))}, "data1.mat: injections are for 4 electrodes, patterns for 3"),
        ({"Uel": np.array(["a"])}, "data1.mat"),
    ],
)
def test_bad_files_are_named(written, changes, message):
    with pytest.raises(ValueError, match=message):
        ktc.read(written(**changes))


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="ref.mat"):
        ktc.read(tmp_path / "ref.mat")
    for content in (b"", b"MATLAB 5.0 MAT-file" + bytes(200), bytes(range(256)) * 4):
        (tmp_path / "ref.mat").write_bytes(content)
        with pytest.raises(ValueError, match=r"ref\.mat is not a readable|ref\.mat holds nothing"):
            ktc.read(tmp_path / "ref.mat")
    savemat(tmp_path / "true1.mat", {"truth": np.zeros((4, 4))})
    with pytest.raises(ValueError, match="true1.mat holds no image"):
        ktc.read_truth(tmp_path / "true1.mat")


def test_truncated_file_is_named(written):
    path = written()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="data1.mat"):
        ktc.read(path)


# Levels -----------------------------------------------------------------------------------------


def test_levels_keep_what_the_challenge_keeps():
    kept = {
        1: (76, 31),
        2: (56, 29),
        3: (52, 27),
        4: (48, 25),
        5: (44, 23),
        6: (30, 21),
        7: (27, 19),
    }
    for level, (injections, patterns) in kept.items():
        mask = ktc.level_mask(level)
        assert int(mask.any(1).sum()) == injections and int(mask.any(0).sum()) == patterns
        assert int(mask.sum()) == injections * patterns
    rows = ktc.level_mask(6).any(1).nonzero().flatten() + 1
    assert rows.tolist() == [*range(6, 16), *range(52, 62), *range(67, 77)]


@pytest.mark.parametrize("level", [0, 8, 1.0, True])
def test_levels_are_one_to_seven(level):
    with pytest.raises(ValueError, match="1 to 7|at least 1|an int"):
        ktc.level_mask(level)


# Score ------------------------------------------------------------------------------------------


def _slow_score(prediction, truth, std):
    """The score as its description reads, pixel by pixel."""
    height, width = truth.shape
    reach = int(2 * std)
    scores = []
    for c in (1, 2):
        p, t = (prediction == c).astype(float), (truth == c).astype(float)
        total = 0.0
        for i in range(height):
            for j in range(width):
                rows = np.arange(max(0, i - reach), min(height, i + reach + 1))
                columns = np.arange(max(0, j - reach), min(width, j + reach + 1))
                w = np.exp(-((rows - i)[:, None] ** 2 + (columns - j) ** 2) / (2 * std**2))
                w /= w.sum()
                a, b = p[np.ix_(rows, columns)], t[np.ix_(rows, columns)]
                ma, mb = (w * a).sum(), (w * b).sum()
                va, vb = (w * (a - ma) ** 2).sum(), (w * (b - mb) ** 2).sum()
                cov = (w * (a - ma) * (b - mb)).sum()
                total += (
                    (2 * ma * mb + 1e-4)
                    * (2 * cov + 9e-4)
                    / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
                )
        scores.append(total / truth.size)
    return np.mean(scores)


@pytest.mark.parametrize("std", [3.0, 8.0])
def test_score_is_the_described_one(std):
    random = np.random.default_rng(0)
    truth = np.zeros((24, 20), int)
    truth[4:12, 3:9], truth[14:20, 10:18] = 1, 2
    prediction = np.roll(truth, (2, 1), axis=(0, 1))
    prediction[random.random(truth.shape) < 0.1] = 2
    assert ktc.score(prediction, truth, std) == pytest.approx(_slow_score(prediction, truth, std))


def test_score_of_simple_images():
    truth = np.zeros((256, 256), int)
    truth[60:120, 80:140] = 1
    assert ktc.score(truth, truth) == 1
    assert ktc.score(0 * truth, truth) == pytest.approx(0.5, abs=0.02)  # class 2 is in neither
    assert ktc.score(0 * truth, 0 * truth) == 1
    assert ktc.score(np.zeros((64, 64)), truth) == 0
    assert -1 < ktc.score(np.where(truth == 1, 2, 1), truth) < 0.2


def test_score_refuses_other_classes():
    with pytest.raises(ValueError, match="other classes"):
        ktc.score(np.full((8, 8), 3), np.zeros((8, 8)))
    with pytest.raises(ValueError, match="truth"):
        ktc.score(np.zeros((8, 8)), np.full((8, 8), 3))


# Images ---------------------------------------------------------------------------------------


def test_images_and_classes():
    truth = np.zeros((256, 256), np.uint8)
    truth[60:124, 80:144], truth[150:182, 100:140] = 1, 2
    image = ktc.image(truth)
    assert image.shape == (1, 64, 64)
    assert image[0, 20, 25] == -1 and image[0, 40, 30] == 1 and image[0, 0, 0] == 0
    again = ktc.classes(image)
    assert again.shape == (256, 256) and again.dtype == np.uint8
    assert (again != truth).mean() < 0.002
    np.testing.assert_array_equal(ktc.classes(image[0]), again)


def test_outside_the_tank_is_water():
    classes = ktc.classes(-torch.ones(1, 64, 64))
    assert classes[0, 0] == 0 and classes[128, 128] == 1 and classes[128, 0] == 1
    assert (classes == 1).mean() == pytest.approx(math.pi / 4, abs=1e-3)
    assert not ktc.classes(torch.full((1, 64, 64), -0.4)).any()
    assert (ktc.classes(torch.full((1, 64, 64), 0.6)) == 2).any()


def test_bad_images():
    with pytest.raises(ValueError, match="one image"):
        ktc.classes(torch.zeros(2, 64, 64))
    with pytest.raises(ValueError, match="divisor of 256"):
        ktc.image(np.zeros((256, 256)), 100)


# The measured tanks -----------------------------------------------------------------------------


def test_the_protocol_is_that_of_the_files(training):
    for name in ("ref", "data1", "data2", "data3", "data4"):
        got = ktc.read(training / f"{name}.mat")
        assert got.protocol == ktc.protocol()
        assert got.voltages.shape == (76, 31) and bool(got.mask.all())
    assert float(ktc.read(training / "ref.mat").voltages[0, 0]) == pytest.approx(1.527, abs=5e-4)


def test_true_images_survive_the_grid_of_the_networks(training):
    for k in range(1, 5):
        truth = ktc.read_truth(training / f"true{k}.mat")
        assert ktc.score(truth, truth) == 1
        assert ktc.score(ktc.classes(ktc.image(truth)), truth) > 0.99


@pytest.mark.parametrize(
    ("mesh", "conductivity"), [("coarse", 0.794), ("medium", 0.813), ("fine", 0.819)]
)
def test_water_is_fitted_by_one_conductivity(training, mesh, conductivity):
    """0.764, 0.790 and 0.801 with 4, 8 and 12 even edges an electrode, says the data's README."""
    measured = ktc.read(training / "ref.mat").voltages
    operator = EIT(ktc.tank(), ktc.protocol(), mesh=mesh)
    model = operator.A(torch.ones(1, 1, 64, 64, dtype=torch.float64))[0]
    factor = (model * measured).sum() / model.square().sum()
    assert 1 / float(factor) == pytest.approx(conductivity, abs=0.002)
    assert float((factor * model - measured).norm() / measured.norm()) == pytest.approx(
        0.085, abs=0.004
    )


def test_true_images_fit_the_differences(training):
    """All but about a tenth, patterns 30 and 31 (electrode 31 is bad) excepted; the water drifts."""
    reference = ktc.read(training / "ref.mat").voltages
    operator = from_options(
        (1, 256, 256),
        tank="ktc",
        reference=training / "ref.mat",
        conductivity={"map": "saturating", "background": 0.79, "conductive": 0.97},
    )
    limits = {1: (0.13, 0.09), 2: (0.17, 0.13), 3: (0.13, 0.09), 4: (0.09, 0.08)}
    drift = {1: 1.009, 2: 1.0, 3: 1.024, 4: 1.086}
    for k, (whole, without) in limits.items():
        x = ktc.image(ktc.read_truth(training / f"true{k}.mat"), 256)[None]
        y = ktc.read(training / f"data{k}.mat").voltages[None]
        scale = float(operator.fit_scale(x, y))
        assert scale == pytest.approx(drift[k], abs=0.01)
        rest = (y - operator.scaled(scale).A(x))[0]
        change = y[0] - reference
        assert float(rest.norm() / change.norm()) < whole
        assert float(rest[:, :29].norm() / change[:, :29].norm()) < without
        by_pattern = rest.norm(dim=0) / change.norm(dim=0)
        assert by_pattern[29:].min() > by_pattern[:29].median()


def test_options_take_the_reference_from_its_file(training):
    operator = from_options(
        tank="ktc", mesh="coarse", reference=str(training / "ref.mat"), conductivity="saturating"
    )
    assert isinstance(operator.conductivity, Saturating)
    blank = torch.zeros(1, 1, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(operator.A(blank)[0], ktc.read(training / "ref.mat").voltages)
