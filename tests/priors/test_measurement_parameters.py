"""Images with unknown parameters in further channels."""

import pytest
import torch
from analytic_priors import Affine, Sphere

from onmanifold import Gaussian, load_prior, solve
from onmanifold.operator import Autodiff
from onmanifold.priors.nuisance import MeasurementParameters
from onmanifold.testing import check_prior


class Bumps(Sphere):
    """Images 1 x 4 x 4: two fixed patterns, weighted."""

    x_shape, dim, box = (1, 4, 4), 2, 2.0

    def __init__(self):
        super().__init__()
        source = torch.Generator().manual_seed(0)
        patterns = torch.randn(2, 16, generator=source, dtype=torch.float64)
        self.register_buffer("patterns", torch.linalg.qr(patterns.T)[0].T)

    def config(self):
        return {}

    def decode_chart(self, z, chart):
        return (torch.tanh(z) @ self.patterns).reshape(-1, 1, 4, 4)

    def encode_chart(self, x, chart):
        return torch.atanh((x.flatten(1) @ self.patterns.T).clamp(-0.999, 0.999))

    def log_prob_chart(self, z, chart):
        return -0.5 * z.square().sum(1)


def test_the_checks_of_a_prior():
    prior = MeasurementParameters(load_prior("two-balls", dtype=torch.float64), std=(0.3, 0.1))
    assert prior.x_shape == (3, 128, 128)
    check_prior(prior)


def test_the_checks_of_a_prior_in_single_precision():
    check_prior(MeasurementParameters(load_prior("two-balls"), std=(0.3,)))


def test_a_learned_inverse_stays_one_beside_parameters():
    inner = load_prior("sundial")
    prior = MeasurementParameters(inner, std=(0.3,))
    assert prior.inverse_error == inner.inverse_error > 0
    check_prior(prior, n=4)


def test_parameters_are_constant_channels_and_found_again():
    prior = MeasurementParameters(Bumps(), std=(0.5, 0.01))
    point = prior.sample(2000, 3)
    x = prior.decode(point)
    assert x.shape == (2000, 3, 4, 4)
    theta = point.z[:, 2:] * torch.tensor([0.5, 0.01], dtype=x.dtype)
    assert torch.equal(x[:, 1:], theta[:, :, None, None].expand(-1, -1, 4, 4))
    torch.testing.assert_close(x[:, :1], Bumps().decode_chart(point.z[:, :2], 0))
    torch.testing.assert_close(prior.encode(x, point.chart).z, point.z)
    torch.testing.assert_close(
        theta.std(dim=0), torch.tensor([0.5, 0.01], dtype=x.dtype), rtol=0.06, atol=0
    )
    assert prior.box.tolist() == [2, 2, 4, 4]


def test_density_is_the_product():
    prior = MeasurementParameters(Bumps(), std=(0.5, 0.01))
    z = prior.sample(5, 1).z
    normal = torch.distributions.Normal(0, 1).log_prob(z[:, 2:]).sum(1)
    expected = Bumps().log_prob_chart(z[:, :2], 0) + normal
    torch.testing.assert_close(prior.log_prob_chart(z, 0), expected)


class Gain(Autodiff):
    """The image at an unknown gain exp(theta), and one of its entries at gain 1."""

    x_shape, y_shape, linear = (2, 4, 4), (17,), False

    def A(self, x):
        image = x[:, 0].flatten(1)
        return torch.cat([image * x[:, 1].flatten(1).exp(), image[:, :1]], dim=1)


def test_a_parameter_is_estimated_along_with_the_image():
    prior = MeasurementParameters(Bumps(), std=(0.5,))
    truth = torch.tensor([[0.6, -0.8, 0.7]], dtype=torch.float64)
    x = prior.decode_chart(truth, 0)
    solution = solve(Gain(), Gain().A(x), prior, fidelity=Gaussian(1e-4))
    torch.testing.assert_close(solution.z, truth, rtol=0, atol=0.01)


@pytest.mark.parametrize(
    ("prior", "std", "message"),
    [
        (Affine(), (0.1,), r"expected a prior of images \(C, H, W\), got x_shape \(6,\)"),
        (Bumps(), (0.1, -1.0), "positive number for each parameter, got -1.0"),
        (Bumps(), (), "got none"),
    ],
)
def test_bad_arguments(prior, std, message):
    with pytest.raises(ValueError, match=message):
        MeasurementParameters(prior, std)


def test_images_of_several_channels_keep_them():
    inner = MeasurementParameters(Bumps(), (1.0,))
    outer = MeasurementParameters(inner, (0.1,))
    assert outer.x_shape == (3, 4, 4)
    point = outer.sample(3, 0)
    x = outer.decode(point)
    image, parameters = outer.split(x)
    assert torch.equal(image, inner.decode(point.at(point.z[:, :-1])))
    assert torch.allclose(parameters, 0.1 * point.z[:, -1:])
