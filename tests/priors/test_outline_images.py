"""Outlines: geometry of polygons, what each family draws, and the prior that learned them."""

from math import pi

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path
from scipy.ndimage import label
from torch.nn import functional

from onmanifold import load_prior
from onmanifold.priors.datasets import OutlineImages, polygon, stream
from onmanifold.priors.datasets.outline_images import CLASSES, FAMILIES
from onmanifold.priors.training.recipe import Recipe
from tanks_parts.shapes import simple

GRID = torch.cartesian_prod(torch.linspace(-2.4, 2.4, 13), torch.linspace(-2.4, 2.4, 11)) + 0.0123


def brute_force(corners, points, pieces=4000):
    """Distance to many points of the sides; inside by matplotlib's paths."""
    t = torch.linspace(0, 1, pieces, dtype=corners.dtype)[:, None, None]
    sides = (corners + t * (corners.roll(-1, dims=0) - corners)).flatten(0, 1)
    distance = torch.stack([(sides - p).norm(dim=1).amin() for p in points])
    inside = torch.from_numpy(Path(corners.numpy()).contains_points(points.numpy()))
    return torch.where(inside, distance, -distance)


@pytest.mark.parametrize("family", FAMILIES)
def test_outlines_have_area_pi_and_their_centroid_at_the_origin(family):
    corners = OutlineImages().corners(family, 200, stream(0, "train")).double()
    torch.testing.assert_close(
        polygon.area(corners), torch.full((200,), pi).double(), rtol=1e-5, atol=0
    )
    assert polygon.centroid(corners).abs().max() < 1e-5
    assert corners.norm(dim=2).max() <= OutlineImages().reach + 1e-6
    assert (family == "disk") == bool(corners.std(dim=0).max() < 0.05)  # all differ but disks


@pytest.mark.parametrize("family", FAMILIES)
def test_signed_distance_equals_brute_force(family):
    corners = OutlineImages().corners(family, 3, stream(1, "train"))
    found = polygon.signed_distance(corners, GRID)
    for one, distance in zip(corners, found, strict=True):
        distinct = one[(one - one.roll(1, dims=0)).norm(dim=1) > 0]
        pieces = 60_000 // len(distinct)
        torch.testing.assert_close(distance, brute_force(distinct, GRID, pieces), rtol=0, atol=1e-3)


@settings(deadline=None, max_examples=20)
@given(st.integers(3, 9), st.integers(0, 1000), st.booleans())
def test_signed_distance_has_slope_one_and_moves_along(corners, seed, repeat):
    """Turned and shifted polygons, corners in either direction, and a corner more that is the same."""
    g = torch.Generator().manual_seed(seed)
    theta = (2 * pi / corners) * (
        torch.arange(corners) + 0.8 * torch.rand(corners, generator=g)
    ).double()
    radius = 0.5 + torch.rand(corners, generator=g).double()
    shape = (radius * torch.stack([theta.cos(), theta.sin()])).T[None]
    points = GRID.double()
    found = polygon.signed_distance(shape, points)
    assert (found[0].diff().abs() <= points.diff(dim=0).norm(dim=1) + 1e-12).all()
    other = torch.cat([shape, shape[:, -1:]], dim=1) if repeat else shape.flip(1)
    torch.testing.assert_close(polygon.signed_distance(other, points), found)
    angle, shift = torch.tensor([0.7]).double(), torch.tensor([0.3, -1.1]).double()
    moved = polygon.turned(shape, angle) + shift
    there = polygon.turned(points[None], angle)[0] + shift
    torch.testing.assert_close(polygon.signed_distance(moved, there), found)


@pytest.mark.parametrize("family", FAMILIES)
def test_outlines_do_not_cross_themselves(family):
    for corners in OutlineImages().corners(family, 40, stream(4, "train")).double():
        distinct = corners[(corners - corners.roll(1, dims=0)).norm(dim=1) > 0]
        assert simple(torch.view_as_complex(distinct).numpy())


def test_all_families_are_drawn_at_their_share_and_at_any_angle():
    n = 4000
    _, coordinates = OutlineImages(size=8).sample(n, stream(0, "train"))
    family, angle = coordinates.T
    shares = torch.bincount(family.long(), minlength=len(FAMILIES)) / n
    weights = torch.tensor([each.share for each in FAMILIES.values()])
    for members in CLASSES.values():
        assert sum(FAMILIES[name].share for name in members) == pytest.approx(1 / len(CLASSES))
    assert ((shares - weights).abs() < 4 * (weights / n).sqrt()).all()
    quarters = torch.histc(angle, 4, 0, 2 * pi) / n
    assert ((quarters - 0.25).abs() < 0.04).all()


def test_images_show_shapes_of_area_pi_upright():
    data = OutlineImages()
    x, _ = data.sample(200, stream(2, "train"))
    assert x.shape == (200, *data.x_shape) and x.min() > -1 and x.max() < 0.77
    area = (functional.interpolate(x, scale_factor=4, mode="bicubic") > 0).sum(dim=(1, 2, 3))
    assert (area * (5 / 160) ** 2 / pi - 1).abs().max() < 0.02
    triangle = torch.tensor([[[-1.0, -1.0], [1.0, -1.0], [0.0, 2.0]]])
    rows = (data.render(triangle)[0, 0] > 0).nonzero()[:, 0]
    assert rows.max() == 27  # its base is at y = -1, 3.5 from the top, and a pixel is 1/8


def test_the_zero_level_of_images_lies_on_the_outline():
    """Values of the interpolated image there are distances."""
    data = OutlineImages()
    off = []
    for family in FAMILIES:
        corners = data.corners(family, 20, stream(3, "train"))
        t = torch.linspace(0, 1, 960 // corners.shape[1])[:, None, None, None]
        along = (corners + t * (corners.roll(-1, dims=1) - corners)).transpose(0, 1).flatten(1, 2)
        at = along * torch.tensor([1.0, -1.0]) / data.half_width
        values = functional.grid_sample(
            data.render(corners), at[:, None], mode="bicubic", align_corners=False
        )
        off.append(values.abs().flatten())
    off = torch.cat(off)
    assert off.max() < 0.06 and (off < 0.01).float().mean() > 0.9


def test_a_bad_size_is_named():
    with pytest.raises(ValueError, match="OutlineImages: size"):
        OutlineImages(size=0)


def test_losses_count_errors_most_near_the_outline():
    method = Recipe(
        "tiny", {}, {"name": "outline"}, {"dim": 2}, {"examples": 20}, method="ae"
    ).prepare()
    x = method.draw(0)["x"]
    near, far = x + 0.1 * (x.abs() < 0.3), x + 0.1 * (x.abs() > 0.9)
    shares = [method.error(x, other) / (other - x).square().mean() for other in (near, far)]
    assert shares[0] > 5 * shares[1]
    assert float(method.error(x, x + 0.1)) == pytest.approx(0.01, rel=1e-4)
    assert float(method.error(x, x)) == 0.0


def test_the_learned_manifold_holds_shapes_that_were_never_seen():
    """Symmetric difference over the area, both on a fine grid."""
    prior = load_prior("outline")
    x, _ = OutlineImages().sample(300, stream(0, "held-out", 3))
    truth, back = inside(x), inside(prior.project(x, torch.zeros(300, dtype=torch.long)))
    off = (truth ^ back).sum(dim=(1, 2)) / truth.sum(dim=(1, 2))
    assert off.median() < 0.05 and off.quantile(0.9) < 0.1


def test_samples_of_the_learned_density_are_shapes():
    prior = load_prior("outline")
    point = prior.sample(200, 5)
    shapes = inside(prior.decode(point))
    assert sum(label(one)[1] == 1 and label(~one)[1] == 1 for one in shapes) >= 180
    area = shapes.sum(dim=(1, 2)) * (5 / 160) ** 2 / pi
    assert (area - 1).abs().median() < 0.04


def test_latent_coordinates_are_whitened():
    prior = load_prior("outline")
    x, _ = OutlineImages().sample(3000, stream(0, "held-out", 4))
    codes = prior.encode(x, torch.zeros(3000, dtype=torch.long)).z
    assert codes.mean(dim=0).abs().max() < 0.15
    torch.testing.assert_close(codes.T.cov(), torch.eye(prior.dim), rtol=0, atol=0.15)
    assert ((prior.box > 3) & (prior.box < 7)).all()
    assert (codes.abs() < prior.box).all(dim=1).float().mean() > 0.995


def inside(x):
    return functional.interpolate(x, scale_factor=4, mode="bicubic")[:, 0] > 0
