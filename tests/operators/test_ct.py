"""Tomography against scikit-image and analytic integrals, its properties, and bad input."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import radon

from onmanifold import load_operator
from onmanifold.operators.ct import FanBeam, ParallelBeam, Tomography
from onmanifold.testing import check_operator

FAN = FanBeam(np.arange(0, 360, 40), 9, 1.5, source_origin=12.0, source_detector=20.0)


def disk(n, radius, centre=(0.0, 0.0), pixel=1.0, fine=8):
    """A disk by the share of each pixel that it covers; x to the right, y up."""
    at = pixel * ((np.arange(fine * n) + 0.5) / fine - n / 2)
    inside = (at - centre[0]) ** 2 + (-at[:, None] - centre[1]) ** 2 < radius**2
    return torch.from_numpy(inside.reshape(n, fine, n, fine).mean((1, 3)))


@pytest.mark.parametrize("beam", [ParallelBeam([0, 17.5, 90, 200], 9, 1.3, 0.2), FAN])
@pytest.mark.parametrize("x_shape", [(8, 11), (1, 6, 5)])
def test_it_is_a_linear_operator(beam, x_shape, device, dtype):
    operator = Tomography(beam, x_shape, pixel=0.8)
    x = torch.rand(3, *x_shape, dtype=dtype, device=device)
    check_operator(operator, x)
    check_operator(operator, x.float())
    assert torch.autograd.gradcheck(operator.A, x.double().requires_grad_())
    columns = torch.func.vmap(operator.A)(x[None])
    torch.testing.assert_close(columns[0], operator.A(x))


def test_it_is_scikit_images_transform():
    # of odd size: they turn about pixel n // 2
    image = disk(65, 9.0, (10.0, 6.0)) + 0.5 * disk(65, 15.0, (-8.0, -4.0))
    angles = np.arange(0.0, 180.0, 7.5)
    operator = Tomography(ParallelBeam(angles, 65), (65, 65))
    ours = operator.A(image[None])[0].numpy()
    theirs = radon(image.numpy(), theta=angles, circle=True).T
    assert np.linalg.norm(ours - theirs) < 0.02 * np.linalg.norm(theirs)
    swapped = np.linalg.norm(ours - theirs[:, ::-1])  # what other conventions give
    assert swapped > 0.3 * np.linalg.norm(theirs)


@pytest.mark.parametrize("kind", ["parallel", "fan"])
def test_chords_of_a_disk_have_their_lengths(kind):
    radius, centre, pixel = 20.0, np.array([3.0, -5.0]), 0.25
    angles = np.array([0.0, 30.0, 90.0, 135.0, 250.0])
    if kind == "parallel":
        beam = ParallelBeam(angles, 41, spacing=1.7)
    else:
        beam = FanBeam(angles, 41, spacing=2.5, source_origin=90.0, source_detector=140.0)
    points, directions = beam.rays()
    apart = np.abs(
        np.cross(
            np.concatenate([points - centre, 0 * points[..., :1]], 2),
            np.concatenate([directions, 0 * points[..., :1]], 2),
        )[..., 2]
    )
    chord = 2 * np.sqrt(np.clip(radius**2 - apart**2, 0, None))
    image = 0.3 * disk(200, radius, tuple(centre), pixel)
    integrals = Tomography(beam, (200, 200), pixel).A(image[None])[0].numpy()
    away = (
        np.abs(apart - radius) > 3.0
    )  # chords change fast near its edge, and its pixels are coarse
    assert np.abs(integrals - 0.3 * chord)[away].max() < 0.15


@settings(deadline=None, max_examples=25)
@given(st.floats(-400, 400), st.integers(1, 6), st.integers(1, 6), st.floats(0.2, 3.0))
def test_rays_along_the_grid_and_mass(angle, h, w, pixel):
    """Summed over a fine detector, each projection holds the whole mass."""
    spacing = pixel / 200
    across = 2 * int(np.hypot(h, w) * pixel / spacing / 2) + 3
    operator = Tomography(ParallelBeam([angle], across, spacing), (h, w), pixel)
    x = torch.rand(1, h, w, dtype=torch.float64)
    mass = float(operator.A(x).sum()) * spacing
    assert mass == pytest.approx(float(x.sum()) * pixel**2, rel=0.02)


def test_options():
    operator = load_operator("tomography", (1, 28, 28), angles=12)
    assert operator.y_shape == (12, 40)
    assert load_operator("tomography", (8, 8), angles=[0, 45.0], detectors=5).y_shape == (2, 5)
    assert "12 angles" in repr(operator)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ParallelBeam([], 3), "angles have to be a list of at least one"),
        (lambda: ParallelBeam(30.0, 3), "angles have to be a list"),
        (lambda: ParallelBeam([0, np.nan], 3), "angles hold 1 NaN"),
        (lambda: ParallelBeam([0], 0), "detectors has to be at least 1"),
        (lambda: ParallelBeam([0], 3, spacing=-1), "spacing has to be above 0"),
        (lambda: FanBeam([0], 3, 1.0, 10.0, 5.0), "both are measured from the source"),
        (lambda: Tomography(ParallelBeam([0], 3), (3, 8, 8)), r"x_shape has to be \(H, W\)"),
        (lambda: Tomography([0, 90], (8, 8)), "beam has to be one such as ParallelBeam"),
        (lambda: Tomography(ParallelBeam([0], 2, 0.1, 50.0), (8, 8)), "in the same unit"),
        (lambda: load_operator("tomography"), "needs the shape"),
        (lambda: load_operator("tomography", (8, 8), angles=0), "angles has to be at least 1"),
        (
            lambda: Tomography(ParallelBeam([0], 3), (8, 8)).A(torch.ones(1, 8, 9)),
            r"x has shape \(1, 8, 9\)",
        ),
    ],
)
def test_bad_input(make, says):
    with pytest.raises(ValueError, match=says):
        make()
