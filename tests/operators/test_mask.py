"""Mask against indexing, its checks, its options, and bad input."""

import json
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onmanifold import Gaussian, cli, load_operator, load_prior, simulate, solve
from onmanifold.operator import Autodiff, ForwardOperator
from onmanifold.operators import Blur, Mask, gaussian_kernel
from onmanifold.operators.mask import from_options
from onmanifold.testing import check_operator


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def random_mask(*shape, seed=0):
    """Half of the entries or so, one at least."""
    mask = random(*shape, seed=seed) > 0
    mask.view(-1)[seed % mask.numel()] = True
    return mask


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple),
    st.booleans(),
    st.integers(0, 1000),
)
def test_it_is_indexing_and_has_its_adjoint(x_shape, shared, seed):
    mask = random_mask(*(x_shape[-2:] if shared else x_shape), seed=seed)
    operator = Mask(mask, x_shape)
    x = random(3, *x_shape, seed=1)
    whole = torch.broadcast_to(mask, x_shape)
    y = operator.A(x)
    assert y.shape == (3, *operator.y_shape) and operator.y_shape == (int(whole.sum()),)
    assert torch.equal(y, x[:, whole])
    u = random(3, *operator.y_shape, seed=2)
    back = operator.A_adjoint(u)
    assert torch.equal(back[:, whole], u) and not bool(back[:, ~whole].any())
    torch.testing.assert_close((y * u).sum(), (x * back).sum())
    assert torch.equal(operator.A_adjoint(y), x * whole)  # the orthogonal projection


@pytest.mark.parametrize("x_shape", [(11,), (7, 5), (3, 6, 4)])
def test_laws(x_shape, device, dtype):
    operator = Mask(random_mask(*x_shape), x_shape).to(device)
    assert isinstance(operator, ForwardOperator)
    check_operator(operator, torch.rand(3, *x_shape, device=device, dtype=dtype))
    check_operator(operator, torch.rand(2, *x_shape, device=device))


def test_it_stays_what_it_is_when_moved_or_converted(device):
    operator = from_options((6, 5), seed=1)
    x = random(2, 6, 5)
    exact = operator.A(x)
    assert torch.equal(operator.to(torch.float32).A(x), exact)
    assert torch.equal(operator.to(device).A(x.to(device)), exact.to(device))
    assert operator.mask.device.type == operator.kept.device.type == device.type
    assert operator.A(x.float().to(device)).dtype == torch.float32
    assert operator.state_dict() == {}  # it is what it was made from


def test_the_users_mask_is_copied():
    mask = torch.ones(2, 2, dtype=torch.bool)
    operator = Mask(mask, (2, 2))
    mask[:] = False
    assert bool(operator.mask.all())


def test_autograd():
    operator = Mask(random_mask(4, 3), (4, 3))
    x, u = random(2, 4, 3).requires_grad_(), random(2, *operator.y_shape, seed=5)
    assert torch.autograd.gradcheck(operator.A, x)
    (gradient,) = torch.autograd.grad((operator.A(x) * u).sum(), x)
    assert torch.equal(gradient, operator.A_vjp(x, u))
    many = random(5, 2, *operator.y_shape, seed=6)
    expected = torch.stack([operator.A_adjoint(one) for one in many])
    assert torch.equal(torch.func.vmap(operator.A_adjoint)(many), expected)
    assert torch.autograd.gradcheck(operator.A_adjoint, u.requires_grad_(), check_forward_ad=True)


class MaskedBlur(Autodiff):
    """Blur, then lose pixels."""

    linear = True

    def __init__(self, blur, mask):
        self.blur, self.mask = blur, mask
        self.x_shape, self.y_shape = blur.x_shape, mask.y_shape

    def A(self, x):
        return self.mask.A(self.blur.A(x))

    def A_adjoint(self, u):
        return self.blur.A_adjoint(self.mask.A_adjoint(u))


def test_composed_with_a_blur():
    blur = Blur(gaussian_kernel(5, 1.0), (1, 9, 8), "reflect")
    both = MaskedBlur(blur, from_options((1, 9, 8), keep=0.4))
    check_operator(both)  # also: the composed adjoints are the derivative's
    x = random(2, 1, 9, 8)
    assert torch.equal(both.A(x), blur.A(x)[:, both.mask.mask])


# Options ------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 12), st.integers(1, 12), st.floats(0.01, 1.0), st.integers(0, 99))
def test_share(height, width, keep, seed):
    count = round(keep * height * width)
    if count == 0:
        with pytest.raises(ValueError, match="keeps nothing"):
            from_options((height, width), keep=keep, seed=seed)
        return
    grey = from_options((height, width), keep=keep, seed=seed)
    colour = from_options((3, height, width), keep=keep, seed=seed)
    assert grey.y_shape == (count,) and colour.y_shape == (3 * count,)
    assert all(torch.equal(channel, grey.mask) for channel in colour.mask)
    assert torch.equal(grey.mask, from_options((height, width), keep=keep, seed=seed).mask)


def test_another_seed_keeps_others():
    one, other = (from_options((9, 9), seed=seed).mask for seed in (0, 1))
    assert not torch.equal(one, other)


def test_every_pixel_is_drawn_as_often():
    share = torch.stack([from_options((4, 4), keep=0.25, seed=s).mask for s in range(400)])
    assert float((share.double().mean(dim=0) - 0.25).abs().max()) < 0.1  # 4.6 standard deviations


def test_box():
    whole = from_options((6, 5), keep=1, box=(1, 4, 2, 5)).mask
    assert not bool(whole[1:4, 2:5].any()) and int(whole.sum()) == 30 - 9
    half = from_options((6, 5), keep=0.5, box=(1, 4, 2, 5)).mask
    assert not bool((half & ~whole).any()) and int(half.sum()) == round(0.5 * 21)
    with pytest.raises(ValueError, match="keeps nothing"):
        from_options((6, 5), keep=1, box=(0, 6, 0, 5))


def test_vectors():
    assert from_options((10,), keep=0.3).y_shape == (3,)
    with pytest.raises(ValueError, match="box needs images"):
        from_options((10,), box=(0, 1, 0, 1))


def test_on_the_command_line(tmp_path, capsys):
    prior = load_prior("bar")
    operator = load_operator("mask", prior.x_shape, keep=0.1, seed=3, box=(0, 9, 0, 9))
    truth = prior.decode(prior.sample(1, 5))
    y = simulate(operator, truth, 0.01, generator=0)
    np.save(tmp_path / "y.npy", y.numpy())
    options = ["keep=0.1", "seed=3", "box=[0, 9, 0, 9]"]
    words = [word for option in options for word in ("--option", option)]
    arguments = ["solve", "--operator", "mask", "--prior", "bar", "--noise", "0.01", *words]
    files = ["--measurement", str(tmp_path / "y.npy"), "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as done:
        cli.main([*arguments, *files, "--starts", "2", "--steps", "20"])
    assert done.value.code == 0
    asked = json.loads((tmp_path / "out" / "numbers.json").read_text())
    assert asked["options"] == {"keep": 0.1, "seed": 3, "box": [0, 9, 0, 9]}
    x = np.load(tmp_path / "out" / "arrays.npz")["x"]
    assert np.abs(x - truth.numpy()).max() < 0.1
    with pytest.raises(SystemExit) as stopped:
        cli.main([*arguments, "--option", "part=2", *files])
    assert stopped.value.code == 2 and "its options: keep, seed, box" in capsys.readouterr().err


def test_solve_fills_in_what_is_missing():
    prior = load_prior("bar")
    truth = prior.decode(prior.sample(1, 5))
    operator = from_options(prior.x_shape, keep=0.05)
    y = simulate(operator, truth, 0.01, generator=0)
    solution = solve(operator, y, prior, fidelity=Gaussian(0.01), starts=2)
    assert float((solution.x - truth).square().mean().sqrt()) < 0.01


# Bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "error", "says"),
    [
        (np.ones((4, 4)), TypeError, "boolean"),
        (torch.ones(4, 4), TypeError, "boolean tensor, got torch.float32"),
        (torch.ones(4, 4, dtype=torch.uint8), TypeError, "boolean"),
        (
            torch.ones(4, 5, dtype=torch.bool),
            ValueError,
            r"shape \(4, 5\), expected \(3, 4, 4\) or \(4, 4\)",
        ),
        (torch.ones(1, 4, 4, dtype=torch.bool), ValueError, "expected"),
        (torch.ones(16, dtype=torch.bool), ValueError, "expected"),
        (torch.zeros(4, 4, dtype=torch.bool), ValueError, "keeps nothing"),
    ],
)
def test_bad_masks(mask, error, says):
    with pytest.raises(error, match=says):
        Mask(mask, (3, 4, 4))


@pytest.mark.parametrize("keep", [0.0, -0.5, 1.01, float("nan"), float("inf")])
def test_bad_share(keep):
    with pytest.raises(ValueError, match="keep has to be above"):
        from_options((8, 8), keep=keep)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"keep": "half"}, TypeError, "keep has to be a number"),
        ({"keep": True}, TypeError, "keep has to be a number"),
        ({"seed": 0.5}, TypeError, "seed has to be an int"),
        ({"box": 3}, TypeError, "four ints"),
        ({"box": (0, 1, 2)}, TypeError, "four ints"),
        ({"box": (0, 1, 0, 1.5)}, TypeError, "has to be an int"),
        ({"box": (0, 9, 0, 4)}, ValueError, "no rectangle"),
        ({"box": (3, 3, 0, 4)}, ValueError, "no rectangle"),
        ({"box": (-1, 3, 0, 4)}, ValueError, "at least 0"),
    ],
)
def test_bad_options(options, error, says):
    with pytest.raises(error, match=says):
        from_options((8, 8), **options)


def test_bad_arguments():
    with pytest.raises(ValueError, match="x_shape"):
        from_options(None)
    with pytest.raises(ValueError, match="positive sizes"):
        Mask(torch.ones(4, 4, dtype=torch.bool), (0, 4, 4))
    operator = from_options((8, 8))
    with pytest.raises(ValueError, match=r"x has shape \(1, 8, 9\), expected \(B, 8, 8\)"):
        operator.A(torch.ones(1, 8, 9))
    with pytest.raises(ValueError, match=r"u has shape \(1, 64\), expected \(B, 32\)"):
        operator.A_adjoint(torch.ones(1, prod(operator.x_shape)))
    with pytest.raises(TypeError, match="floating-point"):
        operator.A(torch.ones(1, 8, 8, dtype=torch.int64))
