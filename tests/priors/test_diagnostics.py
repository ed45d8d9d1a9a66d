"""Atlas diagnostics, against atlases whose overlap, coverage and distortion are known by formula."""

import math

import pytest
import torch
from analytic_priors import Affine, Analytic, Circle
from hypothesis import given, settings
from hypothesis import strategies as st

from onmanifold import load_dataset, load_prior
from onmanifold.checks import as_generator
from onmanifold.prior import Point
from onmanifold.priors.atlas.diagnostics import (
    LatentUsage,
    chart_distances,
    chart_samples,
    components,
    condition,
    coverage,
    decode_encode,
    distortion,
    held_out,
    latent_usage,
    overlap_graph,
    overlap_tolerance,
    parts,
    quantiles,
    responsibilities,
)


class Arcs(Circle):
    """Two arcs of the unit circle, centred right and left, that reach ``box`` from their centres."""

    def __init__(self, box, **options):
        super().__init__(**options)
        self.box = box


class Line(Analytic):
    """(z, 0): a straight piece, seldom drawn in its second chart, which is ``shift`` away."""

    x_shape, dim, num_charts, box = (2,), 1, 2, 1.0

    def __init__(self, shift, rare=0.5):
        super().__init__()
        self.shift, self.rare = shift, rare

    def decode_chart(self, z, chart):
        return torch.cat([z, torch.full_like(z, chart * self.shift)], dim=1)

    def encode_chart(self, x, chart):
        return x[:, :1]

    def sample(self, n, generator=None):
        source = as_generator(generator)
        z = super().sample(n, source).z
        return Point((torch.rand(n, generator=source) < self.rare).long(), z)

    def responsibilities(self, x):
        return torch.tensor([[0.75, 0.25]], dtype=x.dtype).expand(len(x), 2)


class UnitCircle:
    """A data set on the unit circle, with noise across it."""

    x_shape = (2,)

    def __init__(self, noise=0.0, radius=1.0):
        self.noise, self.radius = noise, radius

    def sample(self, n, generator):
        angle = 2 * math.pi * torch.rand((n, 1), generator=generator, dtype=torch.float64)
        return self.radius * torch.cat([angle.cos(), angle.sin()], dim=1), angle

    def distance(self, x):
        return (x.norm(dim=1) - self.radius).abs()


@pytest.mark.parametrize("box", [1.6, 2.0, 2.5])
def test_arcs_share_the_angle_by_which_they_overlap(box):
    # arcs of half angle b around 0 and pi: |angle| > pi - b of the first lies in the second
    shares = overlap_graph(Arcs(box), 1e-6, n=20_000)
    share = (box - (math.pi - box)) / box
    assert torch.equal(shares.diagonal(), torch.ones(2, dtype=torch.float64))
    assert shares[0, 1] == pytest.approx(share, abs=0.012)  # three deviations of the mean
    assert shares[1, 0] == pytest.approx(share, abs=0.012)
    assert components(shares) == ((0, 1),)


def test_the_box_is_respected():
    # the encoders are exact on the whole circle; but arcs that do not meet do not overlap
    shares = overlap_graph(Arcs(1.2), 1e-6)
    assert shares[0, 1] == shares[1, 0] == 0
    assert components(shares) == ((0,), (1,))
    angles = torch.tensor([0.0, 1.2, 1.5], dtype=torch.float64)
    x = torch.stack([angles.cos(), angles.sin()], dim=1)
    distances = chart_distances(Arcs(1.2), x)
    chord = 2 * math.sin(0.15)
    torch.testing.assert_close(distances[:, 0], torch.tensor([0, 0, chord], dtype=torch.float64))


@pytest.mark.parametrize("tolerance", [0.05, 0.15])
def test_charts_closer_than_the_tolerance_are_one(tolerance):
    shares = overlap_graph(Line(0.1), tolerance)
    assert len(components(shares)) == (1 if tolerance > 0.1 else 2)


@settings(max_examples=30, deadline=None)
@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=9), seed=st.integers(0, 99))
def test_components_are_the_blocks_of_the_matrix(labels, seed):
    label = torch.tensor(labels)
    source = torch.Generator().manual_seed(seed)
    shares = 0.005 * torch.rand(len(labels), len(labels), generator=source)  # too little for a link
    for group in label.unique():
        block = (label == group).nonzero().squeeze(1)
        shares[block[:-1], block[1:]] = 0.3  # a chain, seen in one direction alone
    found = components(shares, threshold=0.01)
    expected = {tuple((label == group).nonzero().squeeze(1).tolist()) for group in label.unique()}
    assert set(found) == expected and len(found) == len(expected)


def test_tolerance_is_twice_the_error_of_the_atlas():
    x, _ = UnitCircle(radius=1.3).sample(500, torch.Generator().manual_seed(0))
    assert overlap_tolerance(Arcs(2.0), x) == pytest.approx(0.6, rel=1e-6)
    exact, _ = UnitCircle().sample(500, torch.Generator().manual_seed(0))
    assert overlap_tolerance(Arcs(2.0), exact) == pytest.approx(2**-26, rel=1e-6)
    with pytest.raises(ValueError, match="tolerance has to be positive"):
        overlap_graph(Arcs(2.0), 0.0)


@pytest.mark.parametrize("box", [1.2, 1.5])
def test_coverage_misses_the_gaps_between_arcs(box):
    data = UnitCircle(noise=0.0)
    found = coverage(Arcs(box), data, n=20_000)
    assert found.diameter == pytest.approx(2, abs=1e-3)
    assert found.tolerance == pytest.approx(0.04, abs=1e-4)
    beyond = 2 * math.asin(0.02)  # a chord of 0.04
    assert found.covered == pytest.approx(2 * (box + beyond) / math.pi, abs=0.01)
    assert found.on_manifold == 1.0
    torch.testing.assert_close(found.relative, found.to_atlas)  # of points of norm one


def test_samples_off_the_manifold_are_found():
    # noise 0.1: tolerance 0.3 + 0.02 * 2.6; the circle of radius 1 is 0.3 from that of radius 1.3
    near = coverage(Arcs(2.0), UnitCircle(0.1, 1.3), n=500)
    assert near.on_manifold == near.covered == 1.0
    far = coverage(Arcs(2.0), UnitCircle(0.0, 1.3), n=500)
    assert far.on_manifold == far.covered == 0.0
    torch.testing.assert_close(far.to_data, torch.full_like(far.to_data, 0.3))


def test_data_of_unknown_distance_give_relative_distances_alone():
    class Bare:
        x_shape = (2,)
        sample = UnitCircle(radius=2.0).sample

    found = coverage(Arcs(2.0), Bare(), n=200)
    assert found.tolerance is found.to_data is found.covered is found.on_manifold is None
    torch.testing.assert_close(found.relative, torch.full_like(found.relative, 0.5))


def test_distortion_of_a_linear_chart_is_its_matrix():
    prior = Affine(dim=3, size=6)
    (found,) = distortion(prior, n=20)
    expected = torch.linalg.svdvals(prior.matrix)
    torch.testing.assert_close(found, expected.expand(20, 3))
    torch.testing.assert_close(condition(found), (expected[0] / expected[2]).expand(20))


def test_a_direction_without_effect_has_the_condition_of_rounding():
    prior = Affine(dim=3, size=6)
    prior.matrix[:, 2] = 0
    (found,) = distortion(prior, n=4)
    torch.testing.assert_close(condition(found), torch.full((4,), 2.0**52, dtype=torch.float64))
    assert bool(torch.isfinite(found.log()).all())


def test_latent_usage_counts_codes_and_names_idle_coordinates():
    prior = Affine(dim=3, size=6, box=2.0)
    prior.matrix[:, 2] *= 1e-4  # without effect
    z = torch.zeros(2000, 3, dtype=torch.float64)
    z[:, 0] = torch.linspace(-3, 3, 2000)  # a third of it outside
    z[:, 1] = 0.2 * torch.linspace(-1, 1, 2000)  # all but constant
    z[:, 2] = torch.linspace(-1, 1, 2000).flip(0)
    (usage,) = latent_usage(prior, prior.decode_chart(z, 0))
    torch.testing.assert_close(usage.codes, z, atol=1e-7, rtol=0)
    assert usage.outside == pytest.approx(1 / 3, abs=1e-3)
    torch.testing.assert_close(usage.std, z.std(dim=0, correction=0), atol=1e-7, rtol=0)
    lengths = prior.matrix.norm(dim=0)
    torch.testing.assert_close(usage.effect, usage.reference * lengths)
    assert usage.unused == (1, 2)


def test_examples_go_to_the_nearest_chart():
    x = torch.tensor([[0.5, 0.1], [-0.2, 0.4], [0.9, 0.9]], dtype=torch.float64)
    first, second = latent_usage(Line(1.0), x)
    assert first.codes[:, 0].tolist() == [0.5, -0.2] and second.codes[:, 0].tolist() == [0.9]
    assert second.unused == ()  # one example does not tell


def test_a_chart_without_examples_or_samples_has_empty_numbers():
    prior = Line(5.0, rare=0.0)
    x = torch.zeros(10, 2, dtype=torch.float64)
    _, idle = latent_usage(prior, x)
    assert isinstance(idle, LatentUsage) and len(idle.codes) == 0
    assert idle.outside == 0 and idle.unused == () and bool(torch.isfinite(idle.effect).all())
    assert len(distortion(prior, n=4)[1]) == 0
    assert overlap_graph(prior, 0.1, n=4)[1].tolist() == [0, 1]


def test_responsibilities_are_those_of_the_prior():
    found = responsibilities(Line(1.0, rare=0.25), torch.zeros(7, 2))
    expected = torch.tensor([0.75, 0.25], dtype=torch.float64).expand(7, 2)
    torch.testing.assert_close(found, expected)


def test_an_encoder_that_is_not_exact_is_seen():
    class Off(Affine):
        def encode_chart(self, x, chart):
            return super().encode_chart(x, chart) + 0.01

    assert decode_encode(Off()) == pytest.approx(0.01)
    assert 1e-12 < decode_encode(Affine(dtype=torch.float32)) < 1e-4


@pytest.mark.parametrize("n", [1, 7])
def test_samples_of_each_chart(n):
    prior = Line(1.0, rare=0.1)
    samples = chart_samples(prior, n, 3)
    assert [z.shape for z in samples] == [(n, 1), (n, 1)]
    assert all(torch.equal(a, b) for a, b in zip(samples, chart_samples(prior, n, 3), strict=True))
    beyond = torch.cat(chart_samples(Affine(box=0.5), 50)).abs().max()
    assert beyond == 0.5  # brought into the box
    with pytest.raises(ValueError, match="at least 1"):
        chart_samples(prior, 0)


def test_batches_are_worked_on_in_parts(monkeypatch):
    x = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = chart_distances(Arcs(2.0), x)
    monkeypatch.setattr("onmanifold.priors.atlas.diagnostics.ENTRIES", 14)
    assert [len(part) for part in parts(x, 2)] == [7] * 7 + [1]
    torch.testing.assert_close(chart_distances(Arcs(2.0), x), whole)


@pytest.mark.parametrize("bad", [torch.zeros(3, 3), torch.full((3, 2), math.nan)])
def test_points_of_another_shape_and_nan_are_refused(bad):
    with pytest.raises(ValueError, match="x (has shape|holds 6 NaN)"):
        chart_distances(Arcs(2.0), bad.double())


def test_quantiles_of_nothing_are_zeros():
    assert quantiles(torch.empty(0, 2)).tolist() == [[0, 0]] * 5
    assert quantiles(torch.arange(5.0), (0.5,)).tolist() == [2.0]


@pytest.mark.parametrize(("name", "number"), [("two-circles", 2), ("sphere", 1), ("torus", 1)])
def test_topology_and_coverage_of_pretrained_atlases(name, number):
    prior, data = load_prior(name), load_dataset(name)
    shares = overlap_graph(prior, overlap_tolerance(prior, held_out(data, 2000)))
    assert len(components(shares)) == number
    found = coverage(prior, data, n=4000)
    assert found.covered > 0.99 and found.on_manifold > 0.99
