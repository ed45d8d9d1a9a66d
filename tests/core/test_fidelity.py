"""The data terms: their derivatives, their mask, their expectation, what they refuse."""

import pytest
import torch
from analytic_priors import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from onmanifold import Fidelity, Gaussian, StudentT, solve


def tensors(*shapes, seed=0):
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=source, dtype=torch.float64) for shape in shapes]


def variants(batch, shape):
    """Every way in which std and mask may come for a batch of this shape."""
    std, each = tensors(shape, (batch, *shape), seed=1)
    mask = tensors((batch, *shape), seed=2)[0] > -0.5
    for s in (0.3, torch.tensor(0.3), std.abs() + 0.1, each.abs() + 0.1):
        for m in (None, mask[0], mask, torch.tensor(True)):
            yield Gaussian(s, m)
            yield StudentT(s, m, 3.0)


@settings(deadline=None, max_examples=15)
@given(batch=st.integers(1, 3), shape=st.lists(st.integers(1, 3), max_size=3).map(tuple))
def test_derivatives_are_those_of_the_value(batch, shape):
    p, y = tensors((batch, *shape), (batch, *shape))
    (tangents,) = tensors((batch, 2, *shape), seed=5)
    for fidelity in variants(batch, shape):
        bound = fidelity.bind(y)
        value = torch.func.grad(lambda t, f=bound: f.value(t, y).sum())
        assert torch.allclose(bound.gradient(p, y), value(p))
        bend = bound.curvature(p, y, tangents)
        for t in range(2 if isinstance(fidelity, Gaussian) else 0):
            _, expected = torch.func.jvp(value, (p,), (tangents[:, t],))
            assert torch.allclose(bend[:, t], expected)


@settings(deadline=None, max_examples=15)
@given(batch=st.integers(1, 3), shape=st.lists(st.integers(1, 3), max_size=3).map(tuple))
def test_student_curvature_is_that_of_a_parabola_above(batch, shape):
    p, y = tensors((batch, *shape), (batch, *shape))
    (steps,) = tensors((batch, 20, *shape), seed=5)
    for fidelity in variants(batch, shape):
        if isinstance(fidelity, Gaussian):
            continue
        bound = fidelity.bind(y)
        bend = bound.curvature(p, y, steps)
        for k in range(20):
            v = steps[:, k]
            linear, square = (
                (a * v).reshape(batch, -1).sum(1) for a in (bound.gradient(p, y), bend[:, k])
            )
            above = bound.value(p, y) + linear + 0.5 * square
            assert (square >= 0).all()
            assert (bound.value(p + v, y) <= above * (1 + 1e-12)).all()


@pytest.mark.parametrize("masked", [False, True])
def test_student_with_many_degrees_of_freedom_is_gaussian(masked):
    p, y, v = tensors((2, 5), (2, 5), (2, 3, 5))
    mask = torch.tensor([True, True, False, True, False]) if masked else None
    student, normal = StudentT(0.3, mask, 1e9).bind(y), Gaussian(0.3, mask).bind(y)
    for name, more in (("value", ()), ("gradient", ()), ("curvature", (v,))):
        got, expected = (getattr(f, name)(p, y, *more) for f in (student, normal))
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(student.expected(y), normal.expected(y), rtol=1e-6, atol=0)


def test_outliers_bend_the_gaussian_result_and_not_the_student_one():
    """A tenth of the entries grossly wrong: a twentieth of the error that least squares make."""
    prior = Affine(dim=3, size=60)
    source = torch.Generator().manual_seed(4)
    truth = prior.decode(prior.sample(4, 1).z, torch.zeros(4, dtype=torch.long))
    y = truth + 0.01 * torch.randn(truth.shape, generator=source, dtype=torch.float64)
    wrong = torch.randperm(60, generator=source)[:6]
    y[:, wrong] += 5.0
    errors = [
        (solve(lambda x: x, y, prior, fidelity=f).x - truth).norm(dim=1) / truth.norm(dim=1)
        for f in (Gaussian(0.01), StudentT(0.01, freedom=3))
    ]
    assert (errors[0] > 0.05).all()
    assert (errors[1] < 0.005).all() and (errors[1] < errors[0] / 20).all()


def test_selecting_members_selects_their_own_mask_and_std():
    p, y = tensors((4, 2, 3), (4, 2, 3))
    rows = torch.tensor([3, 1, 1])
    for fidelity in variants(4, (2, 3)):
        bound = fidelity.bind(y)
        assert torch.equal(bound.select(rows).value(p[rows], y[rows]), bound.value(p, y)[rows])
        alone = [
            bound.select(torch.tensor([b])).value(p[b : b + 1], y[b : b + 1]) for b in range(4)
        ]
        assert torch.allclose(torch.cat(alone), bound.value(p, y))


@pytest.mark.parametrize("kind", [Gaussian, StudentT])
def test_a_missing_entry_never_counts(kind):
    p, y = tensors((2, 5), (2, 5))
    mask = torch.tensor([True, True, False, True, False])
    bound = kind(0.2, mask).bind(y)
    wild = y.clone()
    wild[:, ~mask] = torch.finfo(y.dtype).max
    p_wild = p.clone()
    p_wild[:, ~mask] = torch.inf
    assert torch.equal(bound.value(p, y), bound.value(p_wild, wild))
    assert torch.equal(bound.gradient(p, y), bound.gradient(p_wild, wild))
    assert bound.gradient(p_wild, wild)[:, ~mask].abs().max() == 0
    (tangents,) = tensors((2, 3, 5))
    bend = bound.curvature(p_wild, wild, tangents)
    assert torch.equal(bound.curvature(p, y, tangents), bend) and not bend[..., ~mask].any()
    whole = kind(0.2).bind(y).expected(y)
    torch.testing.assert_close(bound.expected(y), 3 / 5 * whole)


def test_expected_value_is_the_mean_over_the_noise():
    y = torch.zeros(4000, 6, dtype=torch.float64)
    (noise,) = tensors((4000, 6))
    mask = torch.arange(6) < 4
    bound = Gaussian(0.7, mask).bind(y)
    assert bound.value(0.7 * noise, y).mean().item() == pytest.approx(2.0, abs=0.1)
    assert bound.expected(y)[0] == 2.0


@pytest.mark.parametrize("freedom", [1.0, 4.0, 30.0])
def test_expected_student_value_is_the_mean_over_the_noise(freedom):
    y = torch.zeros(40000, 3, dtype=torch.float64)
    source = torch.Generator().manual_seed(0)
    halves = torch.full((40000, 3), freedom / 2, dtype=torch.float64)
    chi = 2 * torch._standard_gamma(halves, generator=source)
    t = torch.randn(y.shape, generator=source, dtype=torch.float64) / (chi / freedom).sqrt()
    bound = StudentT(0.7, freedom=freedom).bind(y)
    assert bound.value(0.7 * t, y).mean().item() == pytest.approx(
        bound.expected(y)[0].item(), rel=0.02
    )


def test_it_takes_the_measurements_dtype():
    y = torch.zeros(1, 3)
    bound = Gaussian(torch.full((3,), 0.5, dtype=torch.float64)).bind(y)
    assert bound.value(torch.ones(1, 3), y).dtype == torch.float32
    assert isinstance(bound, Fidelity)


@pytest.mark.parametrize("std", [0, -0.1, float("nan"), float("inf"), torch.tensor([1.0, -1.0])])
def test_std_has_to_be_positive(std):
    with pytest.raises(ValueError, match="std has to be positive and finite"):
        Gaussian(std)


@pytest.mark.parametrize(
    ("std", "mask", "message"),
    [
        ("0.1", None, "std has to be a number or a tensor, got str"),
        (True, None, "std has to be a number or a tensor, got bool"),
        (torch.tensor([True]), None, "std has to hold real numbers"),
        (0.1, torch.ones(3), "mask has to be a boolean tensor, got torch.float32"),
        (0.1, [True, False], "mask has to be a boolean tensor, got list"),
    ],
)
def test_wrong_types_are_refused(std, mask, message):
    with pytest.raises(TypeError, match=message):
        Gaussian(std, mask)


@pytest.mark.parametrize(
    ("name", "fidelity"),
    [
        ("mask", Gaussian(1.0, torch.ones(2, 4, dtype=torch.bool))),
        ("std", Gaussian(torch.ones(3))),
        ("mask", Gaussian(1.0, torch.ones(5, 4, dtype=torch.bool))),
    ],
)
def test_wrong_shapes_are_refused(name, fidelity):
    with pytest.raises(ValueError, match=rf"{name} has shape .* expected .*\(4,\)"):
        fidelity.bind(torch.zeros(3, 4))


@pytest.mark.parametrize("freedom", [0, -1.0, float("nan"), float("inf")])
def test_freedom_has_to_be_positive(freedom):
    with pytest.raises(ValueError, match="StudentT: freedom has to be above 0"):
        StudentT(1.0, freedom=freedom)
    with pytest.raises(TypeError, match="StudentT: freedom has to be a number, got str"):
        StudentT(1.0, freedom="4")
    with pytest.raises(ValueError, match="StudentT: std has to be positive"):
        StudentT(-1.0)
