"""Compose and Stack: their derivatives, their noise, and bad input."""

import copy

import numpy as np
import pytest
import torch

from onmanifold import (
    Autodiff,
    CorrelatedGaussian,
    Gaussian,
    Poisson,
    StudentT,
    load_prior,
    p_value,
    simulate,
    solve,
)
from onmanifold.fidelity import as_fidelity
from onmanifold.fidelity.inexact import with_model_error
from onmanifold.operators import Blur, Compose, Downsampling, Fourier, Mask, Stack, gaussian_kernel
from onmanifold.testing import check_operator

SHAPE = (6, 8)


class Square(Autodiff):
    linear = False

    def __init__(self, shape):
        self.x_shape = self.y_shape = shape

    def A(self, x):
        return x.square() + x


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def blur(shape=SHAPE):
    return Blur(gaussian_kernel(5, 1.0), shape, "reflect")


def halves():
    return Mask(torch.arange(8).expand(6, 8) < 4, SHAPE)


@pytest.mark.parametrize(
    ("operators", "linear", "y_shape"),
    [
        ((blur(), Downsampling(2, SHAPE)), True, (3, 4)),
        ((blur(), Square(SHAPE), halves()), False, (24,)),
        ((Downsampling(2, SHAPE), np.ones((5, 12))), True, (5,)),
    ],
)
def test_compose(operators, linear, y_shape, dtype):
    operator = Compose(*operators)
    assert (operator.linear, operator.x_shape, operator.y_shape) == (linear, SHAPE, y_shape)
    check_operator(operator)
    check_operator(operator, torch.rand(2, *SHAPE))
    x = random(2, *SHAPE)
    expected = x
    for part in operator.parts:
        expected = part.A(expected)
    assert torch.equal(operator.A(x), expected)


@pytest.mark.parametrize("nonlinear", [False, True])
def test_stack(nonlinear):
    operator = Stack(blur(), halves(), *([Square(SHAPE)] if nonlinear else []))
    assert operator.linear is not nonlinear
    check_operator(operator)
    check_operator(copy.deepcopy(operator).float(), torch.rand(2, *SHAPE))
    x = random(2, *SHAPE)
    parts = operator.split(operator.A(x))
    for part, own in zip(operator.parts, parts, strict=True):
        assert torch.equal(part.A(x), own)
    assert torch.equal(operator.join(parts), operator.A(x))
    nested = Compose(Square(SHAPE), Stack(Compose(blur(), halves()), halves()))
    check_operator(nested)


def test_autograd_passes_through():
    operator = Compose(Square(SHAPE), Stack(blur(), halves()))
    assert torch.autograd.gradcheck(operator.A, random(1, *SHAPE).requires_grad_())


FIDELITIES = [
    (Gaussian(0.3), StudentT(0.2, df=3)),
    (Poisson(gain=5.0), Gaussian(0.3, mask=torch.arange(24) % 3 > 0)),
    (CorrelatedGaussian(torch.eye(48) + 0.5), lambda p, y: (p - y).pow(4).sum(1)),
]


@pytest.mark.parametrize("fidelities", FIDELITIES)
def test_each_instrument_keeps_its_noise(fidelities):
    operator = Stack(blur(), halves())
    y, p = random(3, 72).abs(), random(3, 72, seed=1).abs()
    joint = operator.fidelity(*fidelities).bind(y)
    own = [as_fidelity(f).bind(part) for f, part in zip(fidelities, operator.split(y), strict=True)]
    pairs = list(zip(own, operator.split(p), operator.split(y), strict=True))
    torch.testing.assert_close(joint.value(p, y), sum(f.value(*both) for f, *both in pairs))
    expected = sum(f.expected(one) for f, _, one in pairs)
    torch.testing.assert_close(joint.expected(y), expected, equal_nan=True)
    if bool(expected.isfinite().all()):
        spread = sum(f.deviation(one).square() for f, _, one in pairs).sqrt()
        torch.testing.assert_close(joint.deviation(y), spread)
    v = random(3, 2, 72, seed=2)
    step = 1e-6
    for t in range(2):
        far, near = (joint.value(p + sign * step * v[:, t], y) for sign in (1, -1))
        slope = (joint.gradient(p, y) * v[:, t]).sum(1)
        torch.testing.assert_close((far - near) / (2 * step), slope, rtol=1e-5, atol=1e-5)
    curved = joint.curvature(p, y, v)
    assert curved.shape == v.shape
    torch.testing.assert_close(
        curved[1:], joint.select(torch.tensor([1, 2])).curvature(p[1:], y[1:], v[1:])
    )
    present = joint.mask
    if present is not None:
        assert torch.equal(present[0, 48:], torch.arange(24) % 3 > 0) and present[0, :48].all()


def test_the_decoders_error_widens_the_noise_of_several_instruments():
    operator = Stack(blur(), halves())
    y, p = random(2, 72), random(2, 72, seed=1)
    stds = torch.cat([torch.full((48,), 0.3), torch.full((24,), 0.1)]).double()
    error = (random(72, 2, seed=2), 0.2 * random(72, seed=3).abs(), torch.tensor(0.5))
    joint = operator.fidelity(Gaussian(0.3), Gaussian(0.1)).bind(y)
    both, one = (with_model_error(f, y, *error) for f in (joint, Gaussian(stds).bind(y)))
    torch.testing.assert_close(both.value(p, y), one.value(p, y))
    torch.testing.assert_close(both.deviation(y), one.deviation(y))
    counts = operator.fidelity(Gaussian(0.3), Poisson()).bind(y.abs())
    assert with_model_error(counts, y.abs(), *error) is counts


def test_solve_joins_a_list_of_measurements(tmp_path):
    prior = load_prior("bar")
    truth = prior.decode(prior.sample(2, 5)).detach()
    mask = torch.rand(128, 128, generator=torch.Generator().manual_seed(0)) > 0.8
    blurred = Blur(gaussian_kernel(31, 8.0), prior.x_shape)
    spectrum = Fourier(mask, prior.x_shape)
    both = Stack(blurred, spectrum)
    records = [
        simulate(blurred, truth, 0.2, 0),
        spectrum.k_space(simulate(spectrum, truth, 0.05, 1)),
    ]
    noise = both.fidelity(Gaussian(0.2), Gaussian(0.05))
    found = solve(both, records, prior, fidelity=noise, starts=4)
    assert bool(found.consistent.all()) and bool(found.converged.all())
    assert (found.x - truth).norm() < 0.1 * truth.norm()
    y = both.join(records)
    assert torch.equal(found.measurement, y)
    fidelity = found.problem.fidelity  # of the noise, and of the decoder's error
    assert torch.equal(found.p_value, p_value(fidelity, found.misfit, y))
    torch.testing.assert_close(fidelity.expected(y), noise.bind(y).expected(y))
    found.plot().savefig(tmp_path / "both.png")
    assert (tmp_path / "both.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Compose(), "Compose needs at least one"),
        (lambda: Stack([blur()]), r"Stack takes operators one by one: Stack\(\*operators\)"),
        (lambda: Compose(blur(), 3), "expected a forward operator"),
        (
            lambda: Compose(Downsampling(2, SHAPE), blur()),
            r"operator 2, Blur, takes x of shape \(6, 8\), but operator 1, Downsampling, returns \(3, 4\)",
        ),
        (lambda: Stack(blur(), blur((6, 9))), r"takes x of shape \(6, 9\), the first one, Blur"),
        (lambda: Stack(blur(), halves()).fidelity(Gaussian(0.1)), "2 measurements need as many"),
        (lambda: Stack(blur(), halves()).join([torch.ones(1, 6, 8)]), "2 operators need as many"),
        (
            lambda: Stack(blur(), halves()).join([torch.ones(1, 6, 8), torch.ones(1, 6, 8)]),
            r"measurement 2, of Mask, has shape \(1, 6, 8\), expected \(B, 24\)",
        ),
        (
            lambda: Stack(blur(), halves()).join([torch.ones(1, 6, 8), torch.ones(2, 24)]),
            "batches of 1, 2",
        ),
        (
            lambda: Compose(blur(), Square(SHAPE)).A_adjoint(torch.ones(1, *SHAPE)),
            "Square is not linear",
        ),
        (
            lambda: solve(blur((28, 28)), torch.ones(1, 28, 28), load_prior("mnist")),
            r"takes x of shape \(28, 28\), the prior makes \(1, 28, 28\).*x_shape=prior.x_shape",
        ),
        (
            lambda: solve(blur((3, 28, 28)), torch.ones(1, 3, 28, 28), load_prior("mnist")),
            "they differ in the channels, 3 and 1",
        ),
        (
            lambda: solve(Fourier(np.ones((28, 28), bool), (2, 28, 28)), None, load_prior("mnist")),
            "its images are complex",
        ),
        (
            lambda: solve(blur((1, 28, 28)), torch.ones(1, 1, 28, 28) * 1j, load_prior("mnist")),
            "measurement cannot be used: it is complex",
        ),
    ],
)
def test_bad_input(make, says):
    with pytest.raises(ValueError, match=says):
        make()
