"""Conductivities estimated along with the image, as further coordinates of the descent."""

from __future__ import annotations

import pytest
import torch
from analytic_priors import Analytic

from onmanifold import Gaussian, MaxSteps, SmallDecrease, solve
from onmanifold.operators.eit.conductivity import Labels, Saturating
from onmanifold.operators.eit.fem.discretization import load_discretization
from onmanifold.operators.eit.geometry.tank import Tank
from onmanifold.operators.eit.models.protocol import Protocol
from onmanifold.operators.eit.operator import EIT
from onmanifold.priors.nuisance import MeasurementParameters
from onmanifold.testing import check_operator

SIZE = 24
FREE = ("resistive", "background", "conductive")
TRUE = {"resistive": 0.1, "background": 1.3, "conductive": 8.0}
WRONG = {"resistive": 0.13, "background": 1.0, "conductive": 5.6}  # by 30 %, and not all alike
STOP = MaxSteps(30) | SmallDecrease(1e-4)


class Balls(Analytic):
    """A resistive ball on the left and a conductive one on the right; z moves their centres."""

    x_shape, dim, box = (1, SIZE, SIZE), 4, 1.0
    middles = torch.tensor([[-0.4, 0.0], [0.4, 0.0]], dtype=torch.float64)

    def __init__(self):
        super().__init__()
        along = (torch.arange(SIZE, dtype=torch.float64) + 0.5) * 2 / SIZE - 1
        self.register_buffer("pixels", torch.stack(torch.meshgrid(along, -along, indexing="xy")))

    def decode_chart(self, z, chart):
        centres = self.middles + 0.3 * z.view(-1, 2, 2)
        apart = (self.pixels - centres[:, :, :, None, None]).norm(dim=2)
        balls = torch.sigmoid((0.25 - apart) / 0.06)
        return (balls[:, 1] - balls[:, 0]).unsqueeze(1)

    def encode_chart(self, x, chart):
        weights = torch.cat([(-x).clamp(min=0), x.clamp(min=0)], dim=1)
        moments = torch.einsum("bkij,dij->bkd", weights, self.pixels)
        centres = moments / weights.sum((2, 3))[..., None]
        return ((centres - self.middles) / 0.3).flatten(1)


def operator(labels, channels):
    tank = Tank.unit()
    mesh = load_discretization("coarse", tank)
    shape = (channels, SIZE, SIZE)
    return EIT(tank, Protocol.skip(32, 7), shape, conductivity=labels, mesh=mesh)


@pytest.mark.parametrize("factor", [None, 1.2])
def test_the_operator_s_contract_holds_for_all_channels(factor):
    labels = Labels(**TRUE, free=FREE)
    eit = operator(labels, 4)
    eit = eit if factor is None else eit.scaled(factor)
    prior = MeasurementParameters(Balls(), (0.2, 0.2, 0.2))
    point = prior.sample(3, 0)
    check_operator(eit, prior.decode(point))


def test_the_image_and_wrong_conductivities_are_found_together():
    balls = Balls()
    truth = torch.tensor([[0.5, -0.6, -0.3, 0.7]], dtype=torch.float64)
    image = balls.decode_chart(truth, 0)
    y = operator(Labels(**TRUE), 1).A(image)
    std = 1e-3 * float(y.abs().max())
    source = torch.Generator().manual_seed(1)
    y = y + std * torch.randn(y.shape, generator=source, dtype=y.dtype)
    options = {"fidelity": Gaussian(std), "starts": 3, "stop": STOP}

    free = operator(Labels(**WRONG, free=FREE), 4)
    found = solve(free, y, MeasurementParameters(balls, (0.4, 0.4, 0.4)), **options)
    error = float((found.x[:, :1] - image).norm() / image.norm())
    assert error < 0.01
    assert float(found.misfit) == pytest.approx(float(found.expected_misfit), rel=0.1)
    for j, name in enumerate(FREE):
        conductivity = WRONG[name] * float(found.x[0, 1 + j, 0, 0].exp())
        assert conductivity == pytest.approx(TRUE[name], rel=0.05)

    fixed = solve(operator(Labels(**WRONG), 1), y, balls, **options)
    worse = float((fixed.x - image).norm() / image.norm())
    assert worse > 20 * error and float(fixed.misfit) > 1000 * float(found.misfit)


def test_channels_have_to_fit_the_map():
    with pytest.raises(ValueError, match=r"x_shape has to be \(4, H, W\), got \(1, 24, 24\)"):
        operator(Labels(free=FREE), 1)
    with pytest.raises(ValueError, match=r"x_shape has to be \(1, H, W\) or \(H, W\), got \(4, "):
        operator(Saturating(), 4)
