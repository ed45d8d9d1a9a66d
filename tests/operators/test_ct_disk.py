"""A disk in a fan beam: where it is, its material, its holes, images without learned shapes."""

import numpy as np
import pytest
import torch
from ct_cases import ACRYLIC, DISK, HOLES, beam, sinogram, values

from onmanifold.errors import InputError
from onmanifold.operators.ct import (
    Attenuation,
    Disk,
    FanBeam,
    HolesInDisk,
    SeenFromDisk,
    Sinogram,
    Tomography,
    binary_total_variation,
    calibrate_disk,
    fit_attenuation,
    locate_disk,
    total_variation,
    without_air,
)
from onmanifold.testing import check_operator

FAN = FanBeam(np.arange(0, 60, 12), 40, 2.4, source_origin=410.66, source_detector=553.74)


def test_attenuation_and_its_inverse():
    lengths = np.linspace(0, 70, 15)
    np.testing.assert_allclose(ACRYLIC.length(ACRYLIC(lengths)), lengths, atol=1e-9)
    top = Attenuation(0.04, 1e-3)  # beyond the top of the curve: the length at the top
    assert top.length(np.array([1.0]))[0] == pytest.approx(2 / 0.04)
    assert fit_attenuation(lengths, ACRYLIC(lengths)).mu == pytest.approx(ACRYLIC.mu)


def test_a_disk_is_found_by_its_rim_whatever_holes_it_has():
    found = locate_disk(without_air(sinogram()), ACRYLIC)
    np.testing.assert_allclose(
        [*found.centre, found.radius], [*DISK.centre, DISK.radius], atol=0.03
    )


def test_rays_seen_from_the_disk_keep_their_distances():
    seen = SeenFromDisk(FAN, DISK)
    unit = Disk((0.0, 0.0), 1.0)
    np.testing.assert_allclose(DISK.radius * unit.chords(seen), DISK.chords(FAN), atol=1e-9)


def test_air_is_subtracted_view_by_view():
    data = sinogram(noise=0.0)
    moved = Sinogram.of(data.values + 0.001 * np.arange(len(data.values))[:, None], data.beam)
    found = without_air(moved).values
    assert np.abs(found[:, :10]).max() < 1e-12
    np.testing.assert_allclose(found, data.values - 0.015, atol=1e-12)


@pytest.mark.parametrize(
    ("disk", "what"),
    [(Disk((20.0, 0.0), 34.8), "leaves the field"), (Disk((0.0, 0.0), 45.0), "leaves")],
)
def test_a_disk_that_leaves_the_field_of_view_is_refused(disk, what):
    with pytest.raises(InputError, match=f"measured.mat.*{what}"):
        without_air(sinogram((), disk=disk))


def test_nothing_but_air_is_refused():
    with pytest.raises(InputError, match=r"measured.mat.*nothing but air"):
        without_air(Sinogram.of(np.full(beam().shape, 0.01), beam(), "measured.mat"))


def test_bins_are_means_over_what_is_there():
    data = values()
    data[3, 7] = np.nan
    few = Sinogram.of(data, beam()).binned(2, 2)
    assert few.values.shape == (16, 140) and few.merged.tolist() == [2] * 15 + [1]
    assert few.values[1, 3] == pytest.approx(np.nanmean(data[2:4, 6:8]))
    # rays of bins run between those of their pixels
    points, directions = few.beam.rays()
    single = FanBeam(few.beam.angles, 280, 0.4, 410.66, 553.74).rays()[1]
    middle = single[0, :2].mean(0)
    np.testing.assert_allclose(directions[0, 0], middle / np.linalg.norm(middle), atol=1e-6)


def test_calibration_finds_material_and_noise():
    source = np.random.default_rng(1)
    rays = beam(np.arange(200, 230.1, 0.5))
    clean = ACRYLIC(DISK.chords(rays))
    white = source.standard_normal((len(clean), 281))
    noise = (white[:, 1:] + 0.3 * white[:, :-1]) / np.sqrt(1.09)  # of lag 0.275
    solid = Sinogram.of(clean + 0.004 * np.exp(clean / 2) * noise, rays, "solid.mat")
    found = calibrate_disk(solid)
    assert found.attenuation.mu == pytest.approx(ACRYLIC.mu, rel=0.01)
    assert found.noise == pytest.approx(0.004, rel=0.05)
    assert found.lag == pytest.approx(0.275, abs=0.05)
    # of means over pairs, with what correlation adds over many of them
    many = solid.binned(1, 2)
    air = found.std(many)[many.values < 0.01].mean()
    assert air == pytest.approx(0.004 * np.sqrt((1 + 2 * found.lag) / 2), rel=0.06)


def test_a_disk_with_holes_does_not_calibrate():
    with pytest.raises(InputError, match=r"measured.mat.*holes"):
        calibrate_disk(sinogram())


def test_another_geometry_than_the_solid_disks_is_refused():
    scanner = calibrate_disk(sinogram((), "solid.mat"))
    scanner.check(sinogram())
    other = sinogram((), "wide.mat", pixels=280)
    wide = Sinogram.of(other.values, FanBeam(other.angles, 280, 0.5, 410.66, 553.74), "wide.mat")
    with pytest.raises(InputError, match=r"wide.mat.*solid.mat"):
        scanner.check(wide)


def test_holes_in_a_disk_are_an_operator(dtype):
    operator = HolesInDisk(FAN, DISK, ACRYLIC, 24)
    x = torch.rand(2, 1, 24, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    check_operator(operator, 0.2 * x.to(dtype))


def test_holes_are_where_they_should_be():
    size = 96
    operator = HolesInDisk(beam(), DISK, ACRYLIC, size)
    at = (np.arange(size) + 0.5) * 2 / size - 1
    mask = np.zeros((size, size))
    for hole in HOLES:
        x, y = ((hole.centre[k] - DISK.centre[k]) / DISK.radius for k in (0, 1))
        mask += (at - x) ** 2 + (-at[:, None] - y) ** 2 < (hole.radius / DISK.radius) ** 2
    found = operator.A(torch.from_numpy(mask)[None, None])[0].numpy()
    error = found - (values(noise=0.0) - 0.015)
    assert np.sqrt((error**2).mean()) < 0.01  # of up to 2; by pixels
    mirrored = operator.A(torch.from_numpy(mask[::-1].copy())[None, None])[0].numpy()
    assert np.sqrt(((mirrored - values(noise=0.0) + 0.015) ** 2).mean()) > 0.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_windows_are_projected_as_whole_images(dtype):
    operator = Tomography(FAN, (1, 40, 56), pixel=1.5)
    images = torch.zeros(5, 1, 40, 56, dtype=dtype)
    source = torch.Generator().manual_seed(0)
    places = ((0, 9, 3, 20), (0, 9, 3, 20), (17, 40, 30, 56), (0, 40, 0, 56))
    for image, (top, bottom, left, right) in zip(images, places, strict=False):
        some = torch.rand(bottom - top, right - left, generator=source, dtype=dtype)
        image[0, top:bottom, left:right] = some
    whole = operator.A(images)
    torch.testing.assert_close(operator.project_windows(images[:, 0]), whole)
    assert (whole[4] == 0).all()


def test_binary_images_say_more_than_bounds_where_angles_are_few():
    disk = Disk((0.0, 0.0), 1.0)
    tomography = Tomography(SeenFromDisk(beam(), DISK), (1, 48, 48), pixel=2 / 48)
    truth = torch.zeros(1, 1, 48, 48)
    truth[0, 0, 12:22, 10:20] = truth[0, 0, 25:38, 28:36] = 1.0
    y = tomography.A(truth)
    assert float((y.numpy() - disk.chords(tomography.beam)).max()) <= 1e-5
    options = {"std": 0.02, "steps": 200}
    grey = total_variation(tomography, y, 64.0, **options)
    sharp = binary_total_variation(tomography, y, 64.0, binary=4096.0, **options)
    wrong = [float(((x > 0.5) != (truth > 0.5)).sum()) for x in (grey, sharp)]
    assert wrong[1] <= wrong[0]
    between = [float((x * (1 - x)).mean()) for x in (grey, sharp)]
    assert between[1] < 0.3 * between[0]


def test_log_odds_decide_where_data_say_nothing():
    tomography = Tomography(SeenFromDisk(beam(), DISK), (1, 32, 32), pixel=2 / 32)
    y = torch.zeros(1, *tomography.y_shape)
    odds = torch.zeros(1, 1, 32, 32)
    odds[0, 0, 10:20, 10:20] = 3.0
    unknown = torch.full_like(y, torch.inf)
    found = binary_total_variation(
        tomography, y, 0.1, binary=1.0, std=unknown, log_odds=odds, steps=200
    )
    assert torch.equal(found > 0.5, odds > 0)
