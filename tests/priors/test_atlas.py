"""The atlas: charts with an exact inverse, latent density, mixture."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onmanifold.priors.atlas import Atlas, AtlasConfig, Chart, LatentFlow, SoftBox
from onmanifold.testing import check_prior

CONV = {"channels": [6, 4], "patch": 2, "hidden": 8}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def shake(module, std=0.1, seed=0):
    """Random weights everywhere, output layers that start at zero included."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data += std * torch.randn(
            parameter.shape, generator=generator, dtype=parameter.dtype
        )
    return module.eval().requires_grad_(False)


ATLASES = {
    "vectors": AtlasConfig(
        (3,), 2, 3, 0.1, chart={"network": "dense", "couplings": 3, "options": {"hidden": 16}}
    ),
    "line": AtlasConfig(
        (2,), 1, 2, 0.1, chart={"network": "dense", "couplings": 2, "options": {"hidden": 16}}
    ),
    "images": AtlasConfig((1, 16, 16), 5, 2, 0.1, chart={"options": CONV, "scale": 5.0}),
    "disks": AtlasConfig(
        (1, 16, 16), 4, 1, 0.1, chart={"options": CONV, "support": "disk", "background": 0.5}
    ),
    "colours": AtlasConfig((3, 8, 16), 4, 1, 0.1, chart={"options": CONV}),
    "normalized": AtlasConfig((1, 16, 16), 3, 2, 0.1, chart={"options": CONV | {"groups": 2}}),
    "plane": AtlasConfig((2,), 2, 2, 0.1, chart={"network": "dense", "couplings": 0}),
}


@pytest.mark.parametrize("name", ATLASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_properties_hold_for_random_weights(name, dtype):
    check_prior(shake(Atlas(ATLASES[name])).to(dtype))


@settings(max_examples=25, deadline=None)
@given(
    dim=st.integers(1, 6),
    size=st.integers(7, 12),
    couplings=st.integers(1, 4),
    scale=st.floats(0.5, 10),
    seed=st.integers(0, 1000),
)
def test_encoder_undoes_decoder_whatever_the_weights(dim, size, couplings, scale, seed):
    chart = Chart(
        dim, (size,), couplings=couplings, network="dense", options={"hidden": 8}, scale=scale
    ).double()
    shake(chart, 0.5, seed)
    z = 2 * torch.rand(4, dim, dtype=torch.float64) - 1
    torch.testing.assert_close(chart.encode(chart.decode(z)), z, rtol=0, atol=1e-10)


def test_images_of_a_disk_hide_their_code_in_the_corners():
    atlas = shake(Atlas(ATLASES["disks"]))
    chart = atlas.charts[0]
    y, x = torch.meshgrid(*2 * [torch.linspace(-15 / 16, 15 / 16, 16)], indexing="ij")
    corners, ring = torch.hypot(x, y) > 1 + 3 / 16, torch.hypot(x, y) > 1
    ring &= ~corners
    point = atlas.sample(6, 0)
    images = atlas.decode(point)[:, 0]
    torch.testing.assert_close(images[:, ring], torch.full_like(images[:, ring], 0.5))
    means = images[:, corners].mean(dim=1)
    torch.testing.assert_close(means, torch.full_like(means, 0.5))
    assert images[:, corners].std() > 0.01 and images[:, chart.mask[0] == 1].std() > 0.01


@pytest.mark.parametrize(("support", "colours"), [("all", 1), ("all", 3), ("disk", 1), ("disk", 3)])
def test_hidden_directions_are_orthonormal_and_see_no_data(support, colours):
    chart = Chart(8, (colours, 32, 32), options=CONV, support=support).double()
    gram = chart.basis @ chart.basis.T
    torch.testing.assert_close(gram, torch.eye(8, dtype=torch.float64), rtol=0, atol=1e-12)
    grid = torch.linspace(-1, 1, 32, dtype=torch.float64)
    bump = torch.exp(-8 * (grid[:, None] ** 2 + grid**2)).expand(colours, 32, 32).flatten()
    assert (chart.basis @ bump).norm() < 2e-3 * bump.norm()
    assert (chart.basis @ torch.ones_like(bump)).norm() < 1e-9


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_flow_inverse_and_its_volume(dim):
    flow = shake(LatentFlow(dim, layers=3, hidden=8).double())
    s = torch.randn(7, dim, dtype=torch.float64)
    back, ladj = flow.inverse(flow(s))
    torch.testing.assert_close(back, s, rtol=0, atol=1e-10)
    jacobian = torch.stack([torch.autograd.functional.jacobian(flow, x[None])[0, :, 0] for x in s])
    torch.testing.assert_close(ladj, -jacobian.det().abs().log(), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("steepness", [100.0, 10000.0])
def test_soft_box_is_a_density_and_sampling_follows_it(steepness):
    box = SoftBox(steepness)
    t = torch.linspace(-1.5, 1.5, 600_001, dtype=torch.float64)
    density = box.log_prob(t[:, None]).exp()
    assert abs(float(torch.trapezoid(density, t)) - 1) < 1e-4
    samples = box.sample(200_000, 1, 0)[:, 0].sort().values
    cumulative = torch.cumulative_trapezoid(density, t)
    expected = cumulative[((samples + 1.5) / (t[1] - t[0])).long().clamp(0, len(t) - 2)]
    empirical = torch.arange(1, len(samples) + 1) / len(samples)
    assert float((expected - empirical).abs().max()) < 1.63 / math.sqrt(len(samples)) * 1.5


@pytest.mark.parametrize("steepness", [1.0, 100.0, 10000.0])
def test_the_slope_of_the_soft_box_is_finite_and_continuous(steepness):
    z = torch.linspace(-1.1, 1.1, 22_001, dtype=torch.float64)[:, None].requires_grad_()
    box = SoftBox(steepness)
    (slope,) = torch.autograd.grad(box.log_prob(z).sum(), z)
    assert (slope.diff(dim=0) <= 1e-9).all()  # the density is log-concave
    assert slope.abs().max() <= steepness
    assert (slope[z.abs() <= 0.7] == 0).all()
    # Inside the box the density is at least 0.05, which bounds the second derivative.
    inside = (z.abs() <= 1).squeeze(1)
    bound = min(steepness, 127) ** 2 + 25 * min(steepness, 20)
    assert slope[inside].diff(dim=0).abs().max() <= bound * 1e-4


def test_energy_matches_its_formula():
    atlas = shake(Atlas(ATLASES["vectors"]).double())
    x, noise = torch.randn(5, 3).double(), torch.randn(5, 2).double()
    chart, flow, config = atlas.charts[1], atlas.flows[1], atlas.settings
    t = chart.encode(x) + config.sigma_z * noise
    s, ladj = flow.inverse(t)
    expected = (
        (x - chart.decode(t)).square().sum(1) / (2 * config.sigma_x**2)
        - atlas.density.log_prob(s)
        - ladj
        - 2 * math.log(config.sigma_z)
    )
    torch.testing.assert_close(atlas.energy(x, 1, noise), expected)


def test_configuration_makes_the_same_atlas():
    atlas = shake(Atlas(ATLASES["images"]))
    twin = Atlas.from_config(atlas.config())
    twin.load_state_dict(atlas.state_dict())
    point = atlas.sample(3, 0)
    assert torch.equal(atlas.decode(point), twin.decode(point))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma_x": -1.0}, "sigma_x has to be above 0"),
        ({"dim": 0}, "dim has to be at least 1"),
        ({"dim": 1.5}, "dim has to be an int"),
        ({"chart": {"network": "dense", "amplitude": 0.0}}, "amplitude has to be above 0"),
        ({"dim": 4}, "dim 4"),
        ({"chart": {"network": "magic"}}, "known: conv, dense"),
        (
            {"chart": {"network": "dense", "support": "square", "options": {"hidden": 4}}},
            "known: all",
        ),
    ],
)
def test_bad_configurations_are_refused(change, message):
    arguments = {"x_shape": (3,), "dim": 2, "charts": 1, "sigma_x": 0.1} | change
    with pytest.raises(ValueError, match=message):
        Atlas(AtlasConfig(**arguments))
