"""Further unknowns beside those of an atlas whose charts differ in dimension."""

import torch
from analytic_priors import Union

from onmanifold import Gaussian, load_prior, solve
from onmanifold.prior import charts_overlap, has_jumps
from onmanifold.priors.nuisance import (
    BackgroundOffset,
    MeasurementParameters,
    NuisanceParameters,
)
from onmanifold.testing import check_prior

DOUBLE = torch.float64


class Raised(NuisanceParameters):
    """Each point, and a height of its own above it."""

    def __init__(self, prior):
        super().__init__(prior, (0.5,), (4,))

    def join(self, image, parameters):
        return torch.cat([image, parameters], dim=1)

    def split(self, x):
        return x[:, :3], x[:, 3:]

    def config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(Union())


def test_further_unknowns_follow_the_coordinates_of_each_chart():
    prior = Raised(Union())
    assert (prior.dim, prior.chart_dims) == (3, (2, 3, 1))
    box = torch.tensor([[1, 4, 0], [1, 1, 4], [4, 0, 0]])
    assert torch.equal(prior.box_half_width(torch.arange(3), box.double()), box.double())
    check_prior(prior)
    point = prior.sample(200, 0)
    x = prior.decode(point)
    assert torch.equal(x[:, :3], Union().decode(Union().sample(200, 0)))
    assert ((x[:, 3].std() - 0.5).abs() < 0.05) and x[:, 3].unique().numel() == 200
    z = torch.tensor([[0.3, 1.0]], dtype=DOUBLE)
    assert torch.equal(prior.decode_chart(z, 0)[0, 3:], z[0, 1:] * 0.5)
    inner = Union().log_prob_chart(z[:, :1], 0)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(z[:, 1])
    torch.testing.assert_close(prior.log_prob_chart(z, 0), inner + normal)
    solution = solve(lambda x: x, x[:6], prior, fidelity=Gaussian(0.01))
    torch.testing.assert_close(solution.x, x[:6], atol=0.02, rtol=0)


def test_the_background_is_read_where_charts_differ_in_dimension():
    known = torch.tensor([False, True, False])
    prior = BackgroundOffset(Flat(), 0.1, known)
    point = prior.sample(5, 0)
    x = prior.decode(point)
    torch.testing.assert_close(prior.encode(x, point.chart).z, point.z)


class Flat(Union):
    """The same with y = 0: known everywhere; the first chart has the fewest coordinates."""

    dim, chart_dims, num_charts, shares = 1, (0, 1), 2, (0.5, 0.5)

    def decode_chart(self, z, chart):
        return super().decode_chart(z, 2 if chart == 0 else 0)

    def encode_chart(self, x, chart):
        return super().encode_chart(x, 2 if chart == 0 else 0)


def test_jumps_are_there_only_where_the_inner_prior_has_them():
    scene, balls = load_prior("scene"), load_prior("two-balls")
    assert has_jumps(MeasurementParameters(scene, [0.1]))
    assert not has_jumps(MeasurementParameters(balls, [0.1]))
    assert charts_overlap(MeasurementParameters(balls, [0.1])) == charts_overlap(balls)
