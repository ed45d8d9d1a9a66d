"""Images on an unknown background."""

import pytest
import torch

from onmanifold.priors.atlas import Atlas, AtlasConfig
from onmanifold.priors.nuisance import BackgroundOffset
from onmanifold.testing import check_prior

CONFIG = AtlasConfig(
    (1, 16, 16),
    4,
    2,
    0.1,
    chart={
        "options": {"channels": [6, 4], "patch": 2, "hidden": 8},
        "support": "disk",
        "background": 0.2,
    },
)


@pytest.fixture
def prior():
    torch.manual_seed(0)
    atlas = Atlas(CONFIG)
    for parameter in atlas.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return BackgroundOffset(atlas.eval().requires_grad_(False), std=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_checks_of_a_prior(prior, dtype):
    check_prior(prior.to(dtype))


def test_the_constant_is_found_again(prior):
    point = prior.prior.sample(5, 0)
    constants = torch.tensor([-0.15, -0.02, 0.0, 0.05, 0.2])
    images = prior.prior.decode(point) + constants.view(-1, 1, 1, 1)
    z = prior.encode(images, point.chart).z
    torch.testing.assert_close(0.05 * z[:, -1], constants, rtol=0, atol=1e-5)
    torch.testing.assert_close(z[:, :-1], point.z, rtol=0, atol=1e-4)


def test_bad_arguments(prior):
    with pytest.raises(ValueError, match="std has to be above 0"):
        BackgroundOffset(prior.prior, std=0.0)
    with pytest.raises(ValueError, match="boolean"):
        BackgroundOffset(prior.prior, std=0.1, known=torch.ones(16, 16, dtype=torch.bool))
