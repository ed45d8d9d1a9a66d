"""The designs of benchmarks/charts.py: each decoder has an exact left inverse, whatever its weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from charts import DESIGNS, PAPER, X_SHAPE
from charts_parts.tiled import Haar, RotatedShuffle, TiledChart, conv_coupling
from charts_parts.training import TASKS, ChartTrainer, one_chart_atlas

ALL = {**DESIGNS, "paper": PAPER}
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}


def randomized(chart: torch.nn.Module) -> torch.nn.Module:
    """All weights random, those that start at zero included; small enough that nothing blows up."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in chart.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return chart


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("weights", ["untrained", "random"])
@pytest.mark.parametrize(
    ("name", "dim"), [(name, 6) for name in ALL] + [(name, 1) for name in ("A-small", "C", "D")]
)
def test_left_inverse(name, dim, weights, dtype):
    torch.manual_seed(0)
    chart = ALL[name].build(dim)
    chart = (randomized(chart) if weights == "random" else chart).to(dtype)
    z = 2 * torch.rand(2, dim, dtype=dtype) - 1
    with torch.no_grad():
        x = chart.decode(z)
        back = chart.encode(x)
    assert x.shape == (2, *X_SHAPE) and x.dtype == dtype
    assert (back - z).abs().max() <= TOLERANCE[dtype]


@pytest.mark.parametrize("name", ["A-small", "C", "D"])
def test_left_inverse_after_training(name):
    atlas = one_chart_atlas(DESIGNS[name], TASKS["two-balls"], seed=0)
    before = [p.clone() for p in atlas.charts[0].parameters()]
    trainer = ChartTrainer(atlas, TASKS["two-balls"].data, rate=1e-3, batch=2, half=True, seed=0)
    for progress in (0.2, 0.5):
        trainer.step(progress)
    moved = [
        not torch.equal(old, new)
        for old, new in zip(before, atlas.charts[0].parameters(), strict=True)
    ]
    z = atlas.sample(3, 0).z
    with torch.no_grad():
        error = (atlas.encode_chart(atlas.decode_chart(z, 0), 0) - z).abs().max()
    assert all(moved)  # each parameter has a gradient
    assert error <= 1e-4


@pytest.mark.parametrize("upsampling", ["haar", 4, 0])
def test_tiled_chart_projects_images_off_the_chart(upsampling):
    torch.manual_seed(0)
    chart = TiledChart(
        2, (1, 16, 16), base=4, couplings=1, dense=8, channels=4, upsampling=upsampling
    ).double()
    x = torch.randn(3, 1, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        once = chart.decode(chart.encode(x))
        twice = chart.decode(chart.encode(once))
    assert (once - x).abs().max() > 0.1
    assert (twice - once).abs().max() <= 1e-10


@given(
    scale=st.integers(1, 3),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    kind=st.sampled_from(["haar", "groups", "all"]),
)
@settings(max_examples=30, deadline=None)
def test_upsampling_is_orthogonal(scale, height, width, kind):
    torch.manual_seed(0)
    channels = 4**scale
    layer = (
        Haar() if kind == "haar" else RotatedShuffle(channels, 4 if kind == "groups" else channels)
    )
    layer = randomized(layer).double()
    x = torch.randn(2, channels, height, width, dtype=torch.float64)
    with torch.no_grad():
        y = layer(x)
        back = layer.inverse(y)
    assert y.shape == (2, channels // 4, 2 * height, 2 * width)
    assert torch.allclose(y.flatten(1).norm(dim=1), x.flatten(1).norm(dim=1))
    assert torch.allclose(back, x)


@given(channels=st.sampled_from([2, 4, 6, 16]), size=st.integers(1, 6), hidden=st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_coupling_is_inverted_both_ways(channels, size, hidden):
    torch.manual_seed(0)
    layer = conv_coupling(channels, hidden).double()
    x = torch.randn(2, channels, size, size, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(layer.inverse(layer(x)), x, atol=1e-12)
        assert torch.allclose(layer(layer.inverse(x)), x, atol=1e-12)
        assert not torch.allclose(layer(x), x, atol=1e-3)


def test_wavelets_and_tiles_lift_to_the_same_image():
    """Both start as the base image, enlarged to constant squares of pixels."""
    torch.manual_seed(0)
    images = []
    for upsampling in ("haar", 4):
        chart = TiledChart(
            2, (1, 16, 16), base=4, couplings=0, dense=8, channels=4, upsampling=upsampling
        )
        images.append(chart.decode(torch.tensor([[1.0, -2.0]])))
    expected = torch.zeros(1, 1, 4, 4)
    expected[..., 0, :2] = torch.tensor([1.0, -2.0])
    expected = expected.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    assert torch.allclose(images[0], expected) and torch.allclose(images[1], expected)


def test_bad_sizes_are_refused():
    options = {"couplings": 1, "dense": 8, "channels": 4, "upsampling": "haar"}
    with pytest.raises(ValueError, match="base image of side 4 does not grow"):
        TiledChart(2, (1, 24, 24), base=4, **options)
    with pytest.raises(ValueError, match="does not grow"):
        TiledChart(2, (1, 4, 4), base=4, **options)
    with pytest.raises(ValueError, match="length 17 does not fit 4 x 4"):
        TiledChart(17, (1, 8, 8), base=4, **options)
