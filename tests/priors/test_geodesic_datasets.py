"""Data sets with known geodesics: the metric, pairs, and images that vary smoothly."""

import math
from dataclasses import replace

import pytest
import torch

from onmanifold.plugins import load_dataset
from onmanifold.priors.datasets import (
    GeodesicDataset,
    LitBall,
    RotatingObject,
    Sundial,
    TorusDisk,
    nearest_rendering,
    stream,
)
from onmanifold.priors.datasets.geodesic import sphere_angle, sphere_step
from onmanifold.priors.datasets.rotating_object import product, quaternion_of, rotation_matrix

DIMENSION = {Sundial(): 2, RotatingObject(): 3, TorusDisk(): 2, LitBall(): 6}
EACH = pytest.mark.parametrize("data", DIMENSION, ids=lambda data: type(data).__name__)


def draw(data, n, index=0):
    """Coordinates in double precision."""
    coordinates = data.sample(n, stream(0, "held-out", index))[1].double()
    if isinstance(data, TorusDisk | LitBall):  # no unit vectors
        return coordinates
    return coordinates / coordinates.norm(dim=1, keepdim=True)


@EACH
def test_same_seed_same_images_with_values_from_0_to_1(data):
    x, _ = data.sample(50, stream(0, "train"))
    assert x.shape == (50, *data.x_shape) and x.dtype == torch.float32
    assert x.min() >= 0 and x.max() <= 1 and x.max() - x.min() > 0.8
    assert torch.equal(x, data.sample(50, stream(0, "train"))[0])
    assert not torch.equal(x, data.sample(50, stream(1, "train"))[0])
    assert isinstance(data, GeodesicDataset)


@pytest.mark.parametrize("name", ["sundial", "rotating-object", "torus-disk"])
def test_found_by_name(name):
    assert load_dataset(name, size=16).x_shape == (1, 16, 16)


@EACH
def test_distance_is_a_metric(data):
    a, b, c = (draw(data, 300, i) for i in range(3))
    ab, bc, ac = (data.distance_between(*ends) for ends in ((a, b), (b, c), (a, c)))
    torch.testing.assert_close(ab, data.distance_between(b, a))
    assert data.distance_between(a, a).max() < 1e-7
    assert ab.min() > 1e-3
    assert (ac <= ab + bc + 1e-9).all()


@EACH
def test_geodesics_are_travelled_at_constant_speed(data):
    a, b = draw(data, 300, 0), draw(data, 300, 1)
    distance = data.distance_between(a, b)
    kept = (
        distance < 0.95 * data.injectivity_radius
    )  # farther, rounding decides which way is shorter
    a, b, distance = a[kept], b[kept], distance[kept]
    for t in (0.0, 0.2, 0.5, 1.0):
        point = data.geodesic(a, b, t)
        torch.testing.assert_close(
            data.distance_between(a, point), t * distance, atol=1e-6, rtol=1e-6
        )
        torch.testing.assert_close(
            data.distance_between(b, point), (1 - t) * distance, atol=1e-6, rtol=1e-6
        )
    middle = data.average(a, b)
    assert data.distance_between(middle, data.geodesic(a, b, 0.5)).max() < 1e-6
    close = data.geodesic(a, b, 1e-6)  # where an arc is computed as a chord
    half = data.distance_between(a, data.average(a, close))
    torch.testing.assert_close(half, 0.5e-6 * distance, rtol=1e-3, atol=1e-12)


@pytest.mark.parametrize("eps", [0.02, 0.3])
@EACH
def test_pairs_fill_the_ball(data, eps):
    a, b = data.pairs(4000, eps, stream(0, "train"))
    distance = data.distance_between(a.double(), b.double())
    assert distance.max() <= eps * (1 + 1e-4) and distance.min() > 0
    assert data.render(b[:2]).shape == (2, *data.x_shape)
    inner = float((distance < eps / 2).double().mean())
    assert abs(inner - 0.5 ** DIMENSION[data]) < 0.03  # volumes grow like r^dim
    direction = data.geodesic(a, b, 0.5) - a
    direction = direction[direction.norm(dim=1) < 1]  # not those across the torus' edge
    assert direction.mean(dim=0).norm() < 0.1 * direction.norm(dim=1).mean()


def test_pairs_of_a_sundial_stay_above_the_horizon():
    data = Sundial(elevation=40.0)
    a, b = data.pairs(2000, 1.0, stream(0, "train"))
    lowest = math.sin(math.radians(40))
    assert b[:, 2].min() >= lowest and data.average(a, b)[:, 2].min() >= lowest - 1e-6


@EACH
def test_images_vary_smoothly(data):
    """First differences fall like the distance, second ones like its square."""
    size = 64
    data = replace(data, size=size)
    a, b = data.pairs(200, 0.1, stream(0, "train"))
    a, b = a.double(), b.double()
    changes, bends = [], []
    for t in (1.0, 0.5, 0.25):
        end, middle = data.geodesic(a, b, t), data.geodesic(a, b, t / 2)
        x, y, m = (data.render(c).flatten(1) for c in (a, end, middle))
        changes.append((y - x).norm(dim=1).mean())
        bends.append((x + y - 2 * m).norm(dim=1).mean())
    for k in (0, 1):
        assert 1.8 < changes[k] / changes[k + 1] < 2.2
        assert 3.3 < bends[k] / bends[k + 1] < 4.4


@EACH
def test_distant_points_give_different_images(data):
    x, coordinates = data.sample(2000, stream(0, "train"))
    apart = torch.cdist(x.flatten(1), x.flatten(1))
    step = []
    for i in range(0, 2000, 50):
        here = coordinates[i : i + 1].expand_as(coordinates)
        distance = data.distance_between(here, coordinates)
        step.append(float(apart[i][distance > 0.5].min()))
    a, b = data.pairs(200, 0.03, stream(0, "train", 1))
    small = (data.render(a) - data.render(b)).flatten(1).norm(dim=1).mean()
    assert min(step) > 3 * small


def test_shadow_points_away_from_the_light_and_stays_in_the_image():
    data = Sundial(size=33)
    low = math.radians(data.elevation)
    east = torch.tensor([[math.cos(low), 0.0, math.sin(low)]])
    image = data.render(east)[0, 0]
    assert image[16, 5] < 0.2 and image[16, 27] > 0.99  # dark in the west
    x, _ = data.sample(2000, stream(0, "train"))
    border = torch.cat([x[..., 0], x[..., -1], x[..., 0, :], x[..., -1, :]])
    assert border.min() > 0.9
    overhead = data.render(torch.tensor([[0.0, 0.0, 1.0], [1e-4, 0.0, 1.0]]))
    torch.testing.assert_close(overhead[0], overhead[0].rot90(dims=(1, 2)))
    assert (overhead[0] - overhead[1]).abs().max() < 1e-3


def test_disk_moves_by_whole_pixels_across_the_edge():
    data = TorusDisk()
    pixel = 2 * math.pi / data.size
    centre = torch.tensor([[2.0, -2.5]], dtype=torch.float64)
    moved = data.render(centre + torch.tensor([[10 * pixel, 7 * pixel]]))
    torch.testing.assert_close(
        moved, data.render(centre).roll((-7, 10), dims=(2, 3)), atol=1e-6, rtol=0
    )
    area = float(data.render(centre).sum()) * pixel**2
    assert abs(area - math.pi * data.radius**2) < 0.2


def test_a_ball_is_where_and_what_it_is_said_to_be():
    data = LitBall()
    red, green = 0.0, 1 / 3
    scene = torch.tensor([[0.0, 0.0, 0.3, red, green, 0.0]])
    right, far, large = scene.clone(), scene.clone(), scene.clone()
    right[0, 0], far[0, 1], large[0, 2] = 0.4, 0.4, 0.4
    reds = data.render(torch.cat([scene, right, far, large]))[:, 0]
    greens = data.render(scene)[0, 1]
    ball = (reds > 0.4).double()
    assert ball[0, 32, 32] == 1 and reds[0].max() > 0.9 and greens[:8].min() > 0.4
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    centre = [
        (float((b * rows).sum() / b.sum()), float((b * columns).sum() / b.sum())) for b in ball
    ]
    assert abs(centre[0][1] - 31.5) < 0.5  # the sun is in front: all is symmetric
    assert centre[1][1] > centre[0][1] + 5 and centre[2][0] < centre[0][0] - 3  # row 0 is on top
    assert ball[3].sum() > 1.5 * ball[0].sum()
    turned = scene.clone()
    turned[0, 5] = 1.0  # the sun from the right: the shadow on the left
    dark = data.render(turned)[0].amax(dim=0) < 0.3
    assert 20 < dark.sum() < 200
    assert float((dark * columns).sum() / dark.sum()) < 31.5 - 5


def test_pairs_of_lit_balls_stay_in_the_range():
    a, b = LitBall().pairs(2000, 0.5, stream(0, "train"))
    for scenes in (a, b, LitBall().average(a, b)):
        low, high = scenes.amin(dim=0), scenes.amax(dim=0)
        assert (low >= torch.tensor([-0.5, -0.5, 0.2, 0.0, 0.0, -math.pi / 3]) - 1e-5).all()
        assert (high <= torch.tensor([0.5, 0.5, 0.4, 1.0, 1.0, math.pi / 3]) + 1e-5).all()


def test_quaternions_turn_like_matrices():
    p, q = draw(RotatingObject(), 100, 0), draw(RotatingObject(), 100, 1)
    torch.testing.assert_close(
        rotation_matrix(product(p, q)), rotation_matrix(p) @ rotation_matrix(q)
    )
    turn = quaternion_of(torch.tensor([[0.0, 0.0, math.pi / 2]], dtype=torch.float64))
    x_axis = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    expected = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(rotation_matrix(turn) @ x_axis, expected)
    data = RotatingObject(size=16)
    torch.testing.assert_close(data.render(q), data.render(-q))
    assert data.distance_between(q, -q).max() < 1e-7
    angle = torch.acos(
        ((rotation_matrix(p) @ rotation_matrix(q).mT).diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    )
    torch.testing.assert_close(data.distance_between(p, q), angle)


@pytest.mark.parametrize(
    "data", [Sundial(size=16), RotatingObject(size=16)], ids=["sundial", "object"]
)
def test_coordinates_are_those_of_the_nearest_rendering(data):
    coordinates = draw(data, 5)
    x = data.render(coordinates)
    found = nearest_rendering(data, x, candidates=1000, steps=100)
    assert torch.allclose(found.norm(dim=1), torch.ones(5).double())
    assert not found.requires_grad
    assert float(data.distance_between(found, coordinates).max()) < 0.02
    off = (data.render(found) - x).flatten(1).norm(dim=1)
    assert (off < 0.02 * x.flatten(1).norm(dim=1)).all()


def test_steps_on_the_sphere_have_their_length_and_all_directions():
    a = torch.randn((500, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a = torch.cat([a / a.norm(dim=1, keepdim=True), torch.eye(3).double(), -torch.eye(3).double()])
    v = torch.tensor([0.3, -0.4], dtype=torch.float64).expand(len(a), 2)
    w = torch.tensor([0.4, 0.3], dtype=torch.float64).expand(len(a), 2)
    one, other = sphere_step(a, v), sphere_step(a, w)
    torch.testing.assert_close(sphere_angle(a, one), torch.full_like(a[:, 0], 0.5))
    # at a right angle to each other: Pythagoras on the sphere
    torch.testing.assert_close(
        sphere_angle(one, other).cos(), torch.full_like(a[:, 0], math.cos(0.5) ** 2)
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Sundial().pairs(2, 4.0, stream(0, "train")), "eps 4 is above the injectivity"),
        (lambda: TorusDisk().pairs(2, 3.2, stream(0, "train")), "eps 3.2 is above the injectivity"),
        (lambda: RotatingObject().pairs(2, 0.0, stream(0, "train")), "eps"),
        (lambda: RotatingObject().pairs(2, math.nan, stream(0, "train")), "eps"),
        (lambda: Sundial(elevation=0.0), "Sundial: elevation"),
        (lambda: Sundial(height=-1.0), "Sundial: height"),
        (lambda: TorusDisk(radius=3.0), "TorusDisk: radius"),
        (lambda: LitBall().pairs(2, 1.1, stream(0, "train")), "eps 1.1 is above the injectivity"),
        (lambda: LitBall(size=0), "LitBall: size"),
        (lambda: RotatingObject(size=0), "RotatingObject: size"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
