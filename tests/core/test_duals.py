"""Dual numbers: every rule against torch's own forward mode, and what has none."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from onmanifold import as_operator, load_prior
from onmanifold.autodiff import jvp, value_and_columns
from onmanifold.duals import Dual, NoRule, derivatives

GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=GENERATOR)


OTHER, WEIGHT, MATRIX = normal(3, 4, 6), normal(5, 6), normal(6, 6)
KERNEL, TRANSPOSED = normal(2, 4, 3), normal(4, 2, 3)
MASK = OTHER > 0
# of x, (3, 4, 6)
FUNCTIONS = {
    "abs": torch.abs,
    "abs, Python's": abs,
    "atan": torch.atan,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "erf": torch.erf,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": lambda x: (2 + x.tanh()).log(),
    "log1p": lambda x: torch.log1p(x.square()),
    "logsigmoid": F.logsigmoid,
    "reciprocal": lambda x: 1 / (3 + x.sin()),
    "relu": F.relu,
    "rsqrt": lambda x: (2 + x.tanh()).rsqrt(),
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "silu, a module": nn.SiLU(),
    "sin": torch.sin,
    "sinh": torch.sinh,
    "sqrt": lambda x: (2 + x.tanh()).sqrt(),
    "square": torch.square,
    "tan": lambda x: torch.tan(x / 10),
    "tanh": torch.tanh,
    "softplus": lambda x: F.softplus(x, beta=2.0, threshold=1.0),
    "softmax": lambda x: x.softmax(1),
    "softmax of the last": lambda x: torch.softmax(x, dim=-1),
    "logsumexp": lambda x: x.logsumexp(2),
    "logsumexp, axis kept": lambda x: torch.logsumexp(x, 1, keepdim=True),
    "clamp": lambda x: x.clamp(-0.5, 0.5),
    "clamp below": lambda x: x.clamp(min=0),
    "where": lambda x: torch.where(x > 0, x * x, OTHER * x),
    "where, number": lambda x: torch.where(MASK, x, 1.0),
    "where, method": lambda x: x.where(MASK, OTHER),
    "masked_fill": lambda x: x.masked_fill(MASK, 3.0),
    "add": lambda x: x + OTHER + 1,
    "add from the left": lambda x: 1 + x,
    "add, broadcast": lambda x: x[0] + OTHER,
    "add of two, broadcast": lambda x: x[0] + x,
    "add times a number": lambda x: torch.add(x, x, alpha=3),
    "sub": lambda x: OTHER - x - 1 - x * x,
    "sub from a number": lambda x: 1 - x,
    "torch.rsub": lambda x: torch.rsub(x, 2),
    "neg": lambda x: -x,
    "mul": lambda x: 2 * x * OTHER * x,
    "mul, broadcast": lambda x: x[:, :1] * x[:1],
    "mul of fewer axes": lambda x: x[0, 0] * OTHER,
    "div": lambda x: x / OTHER / 2,
    "div of fewer axes": lambda x: x[0] / OTHER,
    "div by itself": lambda x: x / (3 + x.sin()),
    "div of a tensor": lambda x: OTHER / (3 + x.sin()),
    "pow": lambda x: x**3 + (2 + x.tanh()) ** 0.5 + x**0,
    "matmul": lambda x: x @ MATRIX,
    "matmul from the left": lambda x: MATRIX[:4, :4] @ x,
    "matmul of two": lambda x: x @ x.mT,
    "matmul, broadcast": lambda x: x @ x[0].T,
    "einsum": lambda x: torch.einsum("bij,kj->bik", x, WEIGHT),
    "einsum of two": lambda x: torch.einsum("bij,bkj->bik", x, x),
    "bmm": lambda x: torch.bmm(x, x.transpose(1, 2)),
    "linear": lambda x: F.linear(x, WEIGHT, WEIGHT[:, 0]),
    "linear, weights differentiated": lambda x: F.linear(OTHER, x[0], x[0, :, 0]),
    "conv1d": lambda x: F.conv1d(x, KERNEL, KERNEL[:, 0, 0], padding=1),
    "conv2d": lambda x: F.conv2d(x.unflatten(1, (2, 2)), normal_kernel(2), stride=2),
    "conv3d": lambda x: F.conv3d(x.view(3, 2, 2, 3, 2), normal_kernel(3), padding=1),
    "conv_transpose1d": lambda x: F.conv_transpose1d(x, TRANSPOSED, stride=2),
    "group_norm": lambda x: F.group_norm(x, 2),
    "group_norm, weights": lambda x: F.group_norm(x, 2, OTHER[0, :, 0], OTHER[0, :, 1], 0.1),
    "prod": lambda x: x.prod(1),
    "prod with zeros": lambda x: (x * (x > 0)).prod(1),
    "prod, axis kept": lambda x: torch.prod(x, dim=-1, keepdim=True),
    "prod of none": lambda x: x[:, :0].prod(1),
    "sum": lambda x: x.sum(),
    "sum over axes": lambda x: torch.sum(x, (0, -1), keepdim=True),
    "mean": lambda x: x.mean(dim=0),
    "cumsum": lambda x: x.cumsum(1),
    "diff": lambda x: torch.diff(x, dim=2),
    "flatten": lambda x: x.flatten(1),
    "flatten all": lambda x: x.flatten(),
    "unflatten": lambda x: x.unflatten(-1, (2, 3)),
    "view": lambda x: x.view(-1, 6),
    "reshape": lambda x: torch.reshape(x, (6, 12)),
    "transpose": lambda x: x.transpose(0, 2),
    "permute": lambda x: x.permute(2, 0, 1),
    "movedim": lambda x: x.movedim(0, -1),
    "mT": lambda x: x.mT,
    "squeeze": lambda x: x[:, :1].squeeze(1),
    "unsqueeze": lambda x: x.unsqueeze(-1),
    "expand": lambda x: x.unsqueeze(1).expand(3, 5, 4, 6),
    "expand_as": lambda x: x[0].expand_as(OTHER),
    "a constant like x": lambda x: OTHER.view_as(x).to(x) * x,
    "repeat": lambda x: x.repeat(2, 1, 1),
    "item": lambda x: x[1, :, [0, 2]],
    "mask": lambda x: x[MASK],
    "index_select": lambda x: x.index_select(2, torch.tensor([4, 1])),
    "gather": lambda x: x.gather(2, torch.zeros(3, 4, 1, dtype=torch.int64)),
    "flip": lambda x: x.flip(1),
    "split": lambda x: torch.stack([part.sum(1) for part in x.split([1, 3], dim=1)]),
    "chunk": lambda x: x.chunk(2, dim=-1)[1],
    "unbind": lambda x: x.unbind(1)[2],
    "cat": lambda x: torch.cat([x, OTHER, x * x], dim=1),
    "stack": lambda x: torch.stack([OTHER, x], dim=-1),
    "pad": lambda x: F.pad(x, (1, 2), value=5.0),
    "pad, reflected": lambda x: F.pad(x, (1, 2), mode="reflect"),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x.unsqueeze(-1), 2),
    "pixel_shuffle without a batch": lambda x: F.pixel_shuffle(x.permute(1, 0, 2), 2),
    "pixel_shuffle of more axes": lambda x: F.pixel_shuffle(x[:, None, :, :, None], 2),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x.unsqueeze(0), 2),
    "addmm": lambda x: torch.addmm(OTHER[0], x[0], MATRIX, alpha=-2),
    "addmm to a number's part": lambda x: torch.addmm(x[1], x[0].sin(), MATRIX),
    "addmm to a row": lambda x: torch.addmm(x[1, :1], x[0], MATRIX),
    "addmm, general": lambda x: torch.addmm(x[1], x[0], MATRIX, beta=3),
    "addmm of a constant": lambda x: torch.addmm(x[1], OTHER[0], MATRIX),
    "addmm by a dual": lambda x: torch.addmm(OTHER[1], OTHER[0], MATRIX + x[0, 0]),
    "interpolate": lambda x: F.interpolate(x, scale_factor=2, mode="linear"),
    "avg_pool1d": lambda x: F.avg_pool1d(x, 2),
    "fft": lambda x: torch.fft.ifft2(torch.fft.fft2(x) * (2 + 1j)).real,
    "real and imaginary part": lambda x: torch.view_as_real(torch.fft.rfft(x)),
    "to another dtype": lambda x: x.float() + OTHER,
    "to integers and back": lambda x: (3 * x).to(torch.int64).to(x) + x,
    "where of a constant's method": lambda x: OTHER.where(MASK, x * x),
    "a constant": lambda x: torch.ones_like(x) + x.detach(),
    "broadcast_tensors": lambda x: torch.broadcast_tensors(x[:, :1], OTHER)[0],
}


def normal_kernel(n):
    return torch.arange(2.0**n * 4, dtype=torch.float64).sin().view(2, 2, *[2] * n)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_rules_agree_with_torch(name):
    function, x, directions = FUNCTIONS[name], normal(3, 4, 6), normal(2, 3, 4, 6)
    y, along = derivatives(function, x, directions)
    _, one = derivatives(function, x, directions[:1])
    assert torch.allclose(one, along[:1], rtol=1e-6 if name == "to another dtype" else 1e-12)
    for direction, ours in zip(directions, along, strict=True):
        value, theirs = torch.func.jvp(function, (x,), (direction,))
        assert y.dtype == value.dtype == ours.dtype
        torch.testing.assert_close(y, value, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(
            ours, theirs, rtol=1e-6 if name == "to another dtype" else 1e-10, atol=1e-10
        )


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.numpy(),
        lambda x: np.asarray(x),
        lambda x: torch.as_tensor(x),
        lambda x: x.clone().mul_(2),
        lambda x: x.erfinv(),
        lambda x: torch.pow(x, x),
        lambda x: x if x else -x,
        lambda x: torch.add(x, 1, out=torch.empty(3)),
        lambda x: F.silu(x, inplace=True),
        lambda x: (x * 1j).abs(),
        lambda x: float(x.sum()) * x,
        lambda x: torch.zeros(3).index_put_((torch.tensor([0]),), x[:1]),
        lambda x: [x],
        lambda x: torch.full_like(torch.ones(3), x[0]),
        lambda x: x.new_full((3,), x[0]),
    ],
)
def test_what_has_no_rule_is_refused(function):
    with pytest.raises((NoRule, TypeError, AttributeError, ValueError)):
        derivatives(function, torch.ones(3), torch.ones(1, 3))


def test_writing_into_a_tensor_is_refused():
    y = torch.zeros(3)
    with pytest.raises(NoRule):
        y[:2] = Dual(torch.ones(2), torch.ones(1, 2))


def test_where_a_rule_is_missing_torch_differentiates():
    x = torch.tensor([[0.1, 0.2]])
    y, along = jvp(torch.erfinv, x, torch.ones_like(x))
    expected = torch.func.jvp(torch.erfinv, (x,), (torch.ones_like(x),))
    assert torch.equal(y, expected[0]) and torch.equal(along, expected[1])
    both = value_and_columns(torch.erfinv, x)
    assert torch.equal(both[:, 0], y) and torch.equal(both[:, 1:].sum(1), along)


@pytest.mark.parametrize("name", ["bar", "mnist", "outline", "scene", "torus-disk", "two-balls"])
def test_priors_need_no_other_rules(name):
    prior = load_prior(name).double()
    point = prior.sample(3, 0)
    v = torch.randn(point.z.shape, generator=torch.Generator().manual_seed(1)).double()
    decode = lambda z: prior.decode(point.at(z))  # noqa: E731
    y, along = derivatives(decode, point.z, v.unsqueeze(0))
    value, expected = torch.func.jvp(decode, (point.z,), (v,))
    torch.testing.assert_close(y, value)
    torch.testing.assert_close(along[0], expected)


def test_weights_are_differentiated_through_a_derivative():
    network, x = nn.Sequential(nn.Linear(2, 3), nn.SiLU(), nn.Linear(3, 1)).double(), normal(4, 2)

    def energy(jvp):
        return jvp(network, x, torch.ones_like(x))[1].square().sum()

    def torchs(f, x, v):
        return torch.func.jvp(f, (x,), (v,))

    weights = [layer.weight for layer in network if isinstance(layer, nn.Linear)]
    ours = torch.autograd.grad(energy(jvp), weights)
    theirs = torch.autograd.grad(energy(torchs), weights)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_second_derivatives_do_not_mix_with_first_ones():
    x, one = torch.tensor([[0.3, 0.8]], dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64)

    def slope(t):  # of s^2 t by s at s = t: 2 t^2
        return jvp(lambda s: s * s * t, t, one)[1]

    first, second = jvp(slope, x, one)
    assert torch.allclose(first, 2 * x * x) and torch.allclose(second, 4 * x)

    def at_one(t):  # of s t by s at s = 1: t
        return jvp(lambda s: s * t, one, one)[1]

    first, second = jvp(at_one, x, one)
    assert torch.allclose(first, x) and torch.allclose(second, one)


class StraightThrough(torch.autograd.Function):
    """Rounds; its derivative is that of the identity, by its author's word."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, cotangent):
        return cotangent


class Detached(StraightThrough):
    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(x.detach().numpy().round())


@pytest.mark.parametrize("function", [StraightThrough, Detached])
def test_derivatives_of_an_author_are_taken_at_their_word(function):
    operator = as_operator(lambda x: 2 * function.apply(x), x_shape=(3,))
    with pytest.raises(NoRule):
        derivatives(function.apply, torch.rand(1, 3), torch.ones(1, 1, 3))
    x = torch.rand(2, 3)
    assert operator.A_jvp(x, torch.ones(2, 3)).tolist() == [[2.0] * 3] * 2


FIRST = """
import sys, torch
from onmanifold import Gaussian, as_operator, load_dataset, load_prior, simulate, solve
from onmanifold.operators import Blur, gaussian_kernel

prior = load_prior("bar")
truth, _ = load_dataset("bar").sample(1, 0)
own = as_operator(lambda x: 2 * x, x_shape=prior.x_shape)
for operator in (Blur(gaussian_kernel(40, std=15.0), prior.x_shape), own):
    y = simulate(operator, truth, std=0.1, generator=0)
    solve(operator, y, prior, fidelity=Gaussian(0.1), starts=2)
print(*sorted({name.split(".")[0] for name in sys.modules}))
print(*sorted(name for name in sys.modules if name.count(".") == 1))
"""


def test_a_solve_imports_no_compiler():
    run = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, check=True)
    modules = set(run.stdout.split())
    assert "torch" in modules and "zuko" in modules
    heavy = {"sympy", "torch._dynamo", "torch._inductor", "matplotlib", "skimage"}
    assert not heavy & modules
