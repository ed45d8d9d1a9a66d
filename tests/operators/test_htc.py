"""Files of the Helsinki Tomography Challenge, good and bad, and its score."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ct_cases import ANGLES, DISK, PIXELS, parameters, values, write
from PIL import Image
from scipy.io import savemat

from onmanifold.errors import InputError
from onmanifold.operators.ct import (
    Tomography,
    UnreliableData,
    calibrate_disk,
    fit_attenuation,
    htc,
    locate_disk,
    without_air,
)


def test_a_file_of_matlab_5(tmp_path):
    data = htc.read(write(tmp_path / "a.mat"))
    assert data.beam.shape == (len(ANGLES), PIXELS) and data.mask.all()
    np.testing.assert_allclose(data.values, values())
    np.testing.assert_allclose(data.angles - 180, ANGLES)


def test_a_file_of_matlab_73(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "b.mat", "w", userblock_size=512) as file:
        group = file.create_group("CtDataFull")
        group["sinogram"] = values()[:, ::-1].T  # Matlab counts columns first
        inner = group.create_group("parameters")
        for name, value in parameters().items():
            if isinstance(value, str):
                codes = np.array([[ord(letter)] for letter in value], np.uint16)
                inner.create_dataset(name, data=codes).attrs["MATLAB_class"] = np.bytes_("char")
            else:
                inner[name] = np.atleast_2d(value).T
    with open(tmp_path / "b.mat", "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    np.testing.assert_allclose(htc.read(tmp_path / "b.mat").values, values())


def test_angles_may_pass_north(tmp_path):
    angles = (ANGLES + 150) % 360
    assert np.ptp(htc.read(write(tmp_path / "a.mat", angles=angles)).angles) == pytest.approx(30.0)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"geometryType": "Parallel"}, "geometryType is 'Parallel'.*fan beam"),
        ({"numDetectorsPost": 300}, r"shape \(31, 280\).*300 detector pixels"),
        ({"sinogram": values()[:-1]}, r"shape \(30, 280\).*31 angles"),
        ({"sinogram": 4e4 * np.exp(-values())}, "counts.*line integrals"),
        ({"angles": np.where(ANGLES == 205, 206.0, ANGLES)}, "angles come twice.*206"),
        (
            {"angles": np.where(ANGLES == 205, np.nan, ANGLES), "sinogram": values()},
            "1 angles are NaN",
        ),
        ({"distanceSourceDetector": 100.0}, "source_detector"),
        ({"distanceSourceOrigin": "far"}, "distanceSourceOrigin does not hold real numbers"),
        ({"sinogram": np.full((31, 280), np.nan)}, "too little is left"),
    ],
)
def test_a_file_that_cannot_be_right_is_refused(tmp_path, change, what):
    path = write(tmp_path / "bad.mat", **change)
    with pytest.raises(InputError, match=what) as caught:
        htc.read(path)
    assert "bad.mat" in str(caught.value)


def test_fields_that_are_missing_are_named(tmp_path):
    savemat(tmp_path / "bad.mat", {"x": 1.0})
    with pytest.raises(InputError, match=r"bad.mat holds x; expected a struct"):
        htc.read(tmp_path / "bad.mat")
    few = {"sinogram": values(), "parameters": {"angles": ANGLES}}
    savemat(tmp_path / "few.mat", {"CtDataLimited": few})
    with pytest.raises(InputError, match=r"few.mat.*lacks distanceSourceOrigin"):
        htc.read(tmp_path / "few.mat")


def spoilt(**change):
    data = values()[:, ::-1].copy()
    if "dead" in change:
        data[:, 200] = 0.0
    if "saturated" in change:
        data = np.minimum(data, 2.1)
    if "nan" in change:
        data[3, 40] = np.nan
    return data


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("dead", "pixels 80 are dead in 31 views"),
        ("saturated", "saturated"),
        ("nan", "not finite in 1 views"),
    ],
)
def test_bad_pixels_are_left_out_with_a_warning(tmp_path, kind, what):
    path = write(tmp_path / "spoilt.mat", sinogram=spoilt(**{kind: True}))
    with pytest.warns(UnreliableData, match=f"spoilt.mat.*{what}"):
        data = htc.read(path)
    assert 0 < (~data.mask).mean() < 0.2 and (data.values[~data.mask] == 0).all()
    found = locate_disk(
        without_air(data), calibrate_disk(htc.read(write(tmp_path / "s.mat", ()))).attenuation
    )
    np.testing.assert_allclose([*found.centre, found.radius], [*DISK.centre, DISK.radius], atol=0.1)


def test_missing_angles_are_named(tmp_path):
    angles = np.delete(ANGLES, [10, 11])
    with pytest.warns(UnreliableData, match="2 views are missing between 209 and 212 degrees"):
        htc.read(write(tmp_path / "a.mat", angles=angles))


def test_levels_cut_views(tmp_path):
    data = htc.read(write(tmp_path / "a.mat", angles=np.arange(10, 71.0)))
    assert htc.cut(data, 7).angles.tolist() == list(np.arange(190.0, 221.0))
    assert len(htc.cut(data, 4).angles) == 61
    with pytest.raises(InputError, match=r"a.mat covers 60 degrees, level 3 has 70"):
        htc.cut(data, 3)
    with pytest.raises(InputError, match="levels are 1 to 7"):
        htc.cut(data, 8)


def test_the_score_is_matthews_correlation():
    source = np.random.default_rng(0)
    a, b = source.random((2, 30, 30)) > 0.4
    assert htc.score(a, b) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    with pytest.raises(InputError, match="shapes"):
        htc.score(a, b[:3])


def test_truths_are_pictures(tmp_path):
    Image.fromarray(np.full((512, 512), 255, np.uint8)).save(tmp_path / "a.png")
    assert htc.read_truth(tmp_path / "a.png").all()
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"b.png has \(5, 5\) pixels"):
        htc.read_truth(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"c.png is not a readable picture"):
        htc.read_truth(tmp_path / "c.png")


@pytest.mark.parametrize("name", ["ta_30", "td_30"])
def test_measured_disks_agree_with_their_truths(name, shared_data):
    """What the truths leave of their line integrals is near the noise: depth is right, too."""
    folder = shared_data / "htc2022"
    data = without_air(htc.read(folder / f"{name}.mat")).binned(4, 4)
    truth = torch.from_numpy(htc.read_truth(folder / f"{name[:2]}_true.png").astype(float))

    def left(beam):
        length = Tomography(beam, (512, 512), htc.PIXEL).A(truth[None])[0].numpy()
        inside = length > 1
        found = fit_attenuation(length[inside], data.values[inside])
        return (data.values - found(length))[inside].std()

    mirrored = replace(data.beam, angles=data.angles + 180.0)  # the source on the other side
    assert left(data.beam) < 0.0125
    data = replace(data, values=data.values[:, ::-1], beam=mirrored)
    assert left(mirrored) > 0.03
