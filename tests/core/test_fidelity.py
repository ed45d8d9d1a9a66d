"""The data terms: their derivatives, their masks, what they refuse."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onmanifold import (
    CorrelatedGaussian,
    Fidelity,
    FunctionFidelity,
    Gaussian,
    Poisson,
    StudentT,
)
from onmanifold.fidelity import as_fidelity

SHAPES = {
    "batch": st.integers(1, 3),
    "shape": st.lists(st.integers(1, 3), max_size=3).map(tuple),
}


def tensors(*shapes, seed=0):
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=source, dtype=torch.float64) for shape in shapes]


def covariance(*shape, seed=0):
    (root,) = tensors(shape, seed=seed)
    return root @ root.mT / shape[-1] + 0.3 * torch.eye(shape[-1], dtype=torch.float64)


def robust(p, y):
    """Not convex, and not the same for all entries."""
    weight = torch.arange(1, p[0].numel() + 1).to(p)
    return ((1 + (p - y).square()).log().reshape(len(p), -1) * weight).sum(1)


def variants(batch, shape):
    """Every way in which std and mask may come for a batch of this shape."""
    std, each = (t.abs() + 0.1 for t in tensors(shape, (batch, *shape), seed=1))
    mask = tensors((batch, *shape), seed=2)[0] > -0.5
    m = max(math.prod(shape), 1)
    factor, factors = tensors((m, 2), (batch, m, 2), seed=3)
    for present in (None, mask[0], mask, torch.tensor(True)):
        for s in (0.3, torch.tensor(0.3), std, each):
            yield Gaussian(s, present)
            yield StudentT(s, present, 3.0)
            yield Poisson(s, each, present)
            yield CorrelatedGaussian.low_rank(s, factor, present)
        yield CorrelatedGaussian.low_rank(0.3, factors, present)
        yield CorrelatedGaussian(covariance(m, m), present)
        yield CorrelatedGaussian(covariance(batch, m, m), present)
        yield FunctionFidelity(robust, present)


def counts(*shape):
    return (3 * tensors(shape, seed=7)[0]).abs().round()


@settings(deadline=None, max_examples=10)
@given(**SHAPES)
def test_derivatives_are_those_of_the_value(batch, shape):
    (p,), y = tensors((batch, *shape)), counts(batch, *shape)
    (tangents,) = tensors((batch, 2, *shape), seed=5)
    for fidelity in variants(batch, shape):
        bound = fidelity.bind(y)
        assert isinstance(bound, Fidelity)
        value = torch.func.grad(lambda t, f=bound: f.value(t, y).sum())
        torch.testing.assert_close(bound.gradient(p, y), value(p))
        if isinstance(fidelity, Poisson | StudentT):  # theirs is not the second derivative
            continue
        curved = bound.curvature(p, y, tangents)
        for t in range(2):
            _, expected = torch.func.jvp(value, (p,), (tangents[:, t],))
            torch.testing.assert_close(curved[:, t], expected)


@settings(deadline=None, max_examples=10)
@given(**SHAPES)
def test_student_curvature_is_that_of_a_parabola_above(batch, shape):
    (p,), y = tensors((batch, *shape)), counts(batch, *shape)
    (steps,) = tensors((batch, 20, *shape), seed=5)
    for fidelity in variants(batch, shape):
        if not isinstance(fidelity, StudentT):
            continue
        bound = fidelity.bind(y)
        curved = bound.curvature(p, y, steps)
        for k in range(20):
            v = steps[:, k]
            linear, square = (
                (a * v).reshape(batch, -1).sum(1) for a in (bound.gradient(p, y), curved[:, k])
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


@settings(deadline=None, max_examples=10)
@given(**SHAPES)
def test_poisson_curvature_is_the_second_derivative_on_average(batch, shape):
    """Linear in the counts, so that the average is that at the mean."""
    (p,) = (t.abs() + 6 for t in tensors((batch, *shape)))
    (tangents,) = tensors((batch, 1, *shape), seed=5)
    for fidelity in variants(batch, shape):
        if not isinstance(fidelity, Poisson):
            continue
        bound = fidelity.bind(torch.zeros_like(p))
        y = bound.gain * p + bound.background
        value = torch.func.grad(lambda t, f=bound, y=y: f.value(t, y).sum())
        slope, expected = torch.func.jvp(value, (p,), (tangents[:, 0],))
        torch.testing.assert_close(slope, torch.zeros_like(p))
        torch.testing.assert_close(bound.curvature(p, y, tangents)[:, 0], expected)
        assert torch.allclose(bound.value(p, y), torch.zeros(batch, dtype=p.dtype))


def test_poisson_is_half_the_deviance_where_means_are_above_a_half():
    y, p = torch.tensor([[0.0, 1.0, 7.0, 4e5]]).double(), torch.tensor([[0.7, 0.5, 9.0, 4e5 + 1]])
    mean = 2 * p.double() + 0.25
    likelihood = torch.distributions.Poisson(mean).log_prob(y) - torch.distributions.Poisson(
        y.clamp(min=1e-300)
    ).log_prob(y)
    bound = Poisson(gain=2.0, background=0.25).bind(y)
    zero = 0.25  # a count of zero is compared to the parabola's lowest point
    expected = -likelihood.sum() - zero
    torch.testing.assert_close(bound.value(p.double(), y)[0], expected, rtol=1e-9, atol=1e-9)
    single = Poisson(gain=2.0, background=0.25).bind(y.float()).value(p, y.float())
    torch.testing.assert_close(single[0], expected.float(), rtol=1e-5, atol=1e-5)


def test_poisson_goes_on_below_zero_convex_and_smooth():
    p = torch.linspace(-30, 30, 4001, dtype=torch.float64).unsqueeze(1)
    for count in (0.0, 1.0, 8.0):
        bound = Poisson(background=0.1).bind(torch.tensor([[count]], dtype=torch.float64))
        value, slope = (f(p, torch.full_like(p, count)) for f in (bound.value, bound.gradient))
        assert (value > -1e-12).all() and torch.isfinite(value).all()
        assert (slope.diff(dim=0) > -1e-12).all()  # convex
        # continuous: by the trapezoidal rule the slope adds up to the value
        risen = torch.cumulative_trapezoid(slope[:, 0], p[:, 0])
        torch.testing.assert_close(risen, value[1:] - value[0], rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("masked", ["none", "shared", "each"])
def test_low_rank_equals_full_and_diagonal_equals_independent(each, masked):
    batch, shape, m = 3, (2, 4), 8
    p, y, tangents = tensors((batch, *shape), (batch, *shape), (batch, 3, *shape))
    mask = tensors((batch, *shape), seed=2)[0] > -0.5
    mask = {"none": None, "shared": mask[0], "each": mask}[masked]
    std = tensors((batch, *shape) if each else shape, seed=4)[0].abs() + 0.1
    (factor,) = tensors((batch, m, 2) if each else (m, 2), seed=6)
    diagonal = torch.diag_embed(std.square().flatten(-2))
    pairs = (
        (CorrelatedGaussian(diagonal, mask), Gaussian(std, mask)),
        (
            CorrelatedGaussian(diagonal + factor @ factor.mT, mask),
            CorrelatedGaussian.low_rank(std, factor, mask),
        ),
    )
    for pair in pairs:
        first, second = (f.bind(y) for f in pair)
        for name, more in (("value", ()), ("gradient", ()), ("curvature", (tangents,))):
            a, b = (getattr(f, name)(p, y, *more) for f in (first, second))
            torch.testing.assert_close(a, b)
        assert torch.equal(first.expected(y), second.expected(y))


def test_entries_present_have_the_covariance_of_a_part():
    """One factorization for each distinct mask, however many measurements and starts there are."""
    p, y = tensors((6, 5), (6, 5))
    matrix = covariance(5, 5)
    mask = torch.ones(6, 5, dtype=torch.bool)
    mask[1::2, 2:4] = False
    calls = []
    original = torch.linalg.cholesky_ex

    def counted(matrices):
        calls.append(len(matrices))
        return original(matrices)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.linalg, "cholesky_ex", counted)
        rows = torch.arange(6).repeat_interleave(3)
        value = CorrelatedGaussian(matrix, mask).bind(y).select(rows).value(p[rows], y[rows])
    assert calls == [2]
    for b, row in enumerate(rows.tolist()):
        some = mask[row]
        r = (p - y)[row, some]
        expected = 0.5 * r @ torch.linalg.solve(matrix[some][:, some], r)
        torch.testing.assert_close(value[b], expected)


def test_a_large_low_rank_part_costs_no_digits():
    """An offset that hardly counts: what is left in float32 is as good as its entries."""
    (noise,) = tensors((1, 1000))
    exact = CorrelatedGaussian.low_rank(0.1, torch.full((1000, 1), 1e3).double())
    single = CorrelatedGaussian.low_rank(0.1, torch.full((1000, 1), 1e3))
    p, y = 100 + 0.1 * noise, torch.zeros(1, 1000, dtype=torch.float64)
    wanted = exact.bind(y).value(p, y)
    got = single.bind(y.float()).value(p.float(), y.float())
    torch.testing.assert_close(got.double(), wanted, rtol=1e-2, atol=0)


def test_selecting_members_selects_their_own_mask_and_std():
    (p,), y = tensors((4, 2, 3)), counts(4, 2, 3)
    rows = torch.tensor([3, 1, 1])
    for fidelity in variants(4, (2, 3)):
        bound = fidelity.bind(y)
        torch.testing.assert_close(
            bound.select(rows).value(p[rows], y[rows]), bound.value(p, y)[rows]
        )
        alone = [
            bound.select(torch.tensor([b])).value(p[b : b + 1], y[b : b + 1]) for b in range(4)
        ]
        assert torch.allclose(torch.cat(alone), bound.value(p, y))


KINDS = {
    "gaussian": lambda mask: Gaussian(0.2, mask),
    "student": lambda mask: StudentT(0.2, mask),
    "correlated": lambda mask: CorrelatedGaussian(covariance(5, 5), mask),
    "low rank": lambda mask: CorrelatedGaussian.low_rank(0.2, tensors((5, 2))[0], mask),
    "poisson": lambda mask: Poisson(2.0, 0.5, mask),
    "function": lambda mask: FunctionFidelity(robust, mask),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_missing_entry_never_counts(kind):
    (p,), y = tensors((2, 5)), counts(2, 5)
    mask = torch.tensor([True, True, False, True, False])
    wild = y.clone()
    wild[:, ~mask] = -torch.finfo(y.dtype).max
    bound = kind(mask).bind(wild)
    p_wild = p.clone()
    p_wild[:, ~mask] = torch.inf
    assert torch.equal(bound.value(p, y), bound.value(p_wild, wild))
    assert torch.equal(bound.gradient(p, y), bound.gradient(p_wild, wild))
    assert bound.gradient(p_wild, wild)[:, ~mask].abs().max() == 0
    (tangents,) = tensors((2, 3, 5))
    curved = bound.curvature(p_wild, wild, tangents)
    assert torch.equal(bound.curvature(p, y, tangents), curved) and not curved[..., ~mask].any()
    for moment in ("expected", "deviation"):
        whole, part = (getattr(bound, moment)(t) for t in (y, wild))
        torch.testing.assert_close(whole, part, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_single_precision_is_served_too(kind):
    (p,), y = tensors((2, 5)), counts(2, 5)
    (tangents,) = tensors((2, 3, 5))
    double, single = kind(None).bind(y), kind(None).bind(y.float())
    for name, more in (("value", ()), ("gradient", ()), ("curvature", (tangents,))):
        a = getattr(double, name)(p, y, *more)
        b = getattr(single, name)(p.float(), y.float(), *(t.float() for t in more))
        torch.testing.assert_close(b, a.float(), rtol=1e-4, atol=1e-4)
    for name in ("expected", "deviation"):
        assert getattr(single, name)(y.float()).dtype == torch.float32


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
        (torch.tensor([True]), None, "std cannot be used: it is boolean"),
        (np.array([1j]), None, "std cannot be used: it is complex"),
        (0.1, torch.ones(3), "mask has to be a boolean tensor, got torch.float32"),
        (0.1, [1, 0], "mask has to be a boolean tensor, got list"),
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


@pytest.mark.parametrize("df", [0, -1.0, float("nan"), float("inf")])
def test_df_has_to_be_positive(df):
    with pytest.raises(ValueError, match="StudentT: df has to be above 0"):
        StudentT(1.0, df=df)
    with pytest.raises(TypeError, match="StudentT: df has to be a number, got str"):
        StudentT(1.0, df="4")
    with pytest.raises(ValueError, match="StudentT: std has to be positive"):
        StudentT(-1.0)


def test_numpy_arrays_and_scalars_serve_as_parameters():
    generator = np.random.default_rng(0)
    y, p = (torch.from_numpy(generator.normal(size=(2, 3))) for _ in range(2))
    std, mask = generator.uniform(1, 2, 3), np.array([True, False, True])
    root = generator.normal(size=(3, 3))
    pairs = [
        (Gaussian(std, mask), Gaussian(torch.from_numpy(std), torch.from_numpy(mask))),
        (Gaussian(np.float32(0.5)), Gaussian(0.5)),
        (StudentT(np.float64(0.5), df=np.int64(3)), StudentT(0.5, df=3)),
        (Gaussian([1, 2, 3]), Gaussian(torch.tensor([1.0, 2.0, 3.0]))),
        (CorrelatedGaussian(root @ root.T), CorrelatedGaussian(torch.from_numpy(root @ root.T))),
    ]
    for one, other in pairs:
        values = [f.bind(y).value(p, y) for f in (one, other)]
        assert torch.equal(*values)


@pytest.mark.parametrize("std", [1e-60, 1e60, torch.tensor([1e-60, 1.0], dtype=torch.float64)])
def test_a_deviation_that_the_measurement_s_dtype_does_not_have_is_refused(std):
    with pytest.raises(ValueError, match="beyond the range of torch.float32"):
        Gaussian(std).bind(torch.zeros(1, 2))


@pytest.mark.parametrize(
    ("matrix", "error", "message"),
    [
        (torch.eye(4, dtype=torch.bool), TypeError, "covariance cannot be used: it is boolean"),
        (np.eye(4) * 1j, TypeError, "covariance cannot be used: it is complex"),
        ([[1.0]], ValueError, "expected 4 rows"),
        (torch.ones(4), ValueError, "expected two or three axes"),
        (torch.ones(3, 4), ValueError, r"has shape \(3, 4\), expected \(m, m\)"),
        (torch.eye(4) * torch.nan, ValueError, "holds NaN or infinity"),
        (torch.eye(4) + torch.ones(4, 4).triu(1), ValueError, "not symmetric.* by up to 1"),
        (torch.ones(4, 4), ValueError, "not positive definite: the leading block of order 2"),
        (torch.eye(3), ValueError, r"covariance has shape \(3, 3\), expected 4 rows"),
        (torch.eye(4).expand(2, 4, 4), ValueError, "for all 3 measurements or each"),
    ],
)
def test_bad_covariances_are_refused(matrix, error, message):
    with pytest.raises(error, match=message):
        CorrelatedGaussian(matrix).bind(torch.zeros(3, 2, 2))


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: CorrelatedGaussian.low_rank(-1.0, torch.ones(4, 1)), ValueError, "std has to be"),
        (lambda: CorrelatedGaussian.low_rank(1.0, torch.ones(4)), ValueError, "factor has shape"),
        (lambda: CorrelatedGaussian.low_rank(1.0, torch.ones(3, 1)), ValueError, "expected 4 rows"),
        (lambda: CorrelatedGaussian(torch.eye(4), torch.ones(4)), TypeError, "mask has to be"),
        (lambda: Poisson(gain=0.0), ValueError, "Poisson: gain has to be positive"),
        (lambda: Poisson(background=-0.1), ValueError, "background has to be at least 0"),
        (lambda: Poisson(mask=torch.ones(4)), TypeError, "Poisson: mask has to be a boolean"),
        (lambda: Poisson(gain=torch.ones(3)), ValueError, "Poisson: gain has shape"),
        (lambda: FunctionFidelity(3), TypeError, "phi has to be a function"),
        (lambda: FunctionFidelity(lambda p, y: (p - y) ** 2), ValueError, "returned .3, 2, 2."),
        (lambda: FunctionFidelity(lambda p, y: 0.0), ValueError, "it returned float"),
        (lambda: FunctionFidelity(lambda p, y: y.sum((1, 2))), TypeError, "torch operations"),
    ],
)
def test_bad_arguments_are_refused(build, error, message):
    with pytest.raises(error, match=message):
        build().bind(torch.zeros(3, 2, 2))


def test_negative_counts_are_refused_where_they_were_measured():
    y = torch.tensor([[3.0, -1.0]])
    with pytest.raises(ValueError, match="holds -1, expected counts of at least 0"):
        Poisson().bind(y)
    Poisson(mask=torch.tensor([True, False])).bind(y)


def test_a_correlated_fidelity_has_to_be_bound():
    with pytest.raises(RuntimeError, match="bind"):
        CorrelatedGaussian(torch.eye(2)).value(torch.zeros(1, 2), torch.zeros(1, 2))


def test_what_becomes_a_fidelity():
    assert isinstance(as_fidelity(None), Gaussian)
    given = StudentT(2.0)
    assert as_fidelity(given) is given
    assert isinstance(as_fidelity(robust), FunctionFidelity)

    class Half:
        bind = value = None

    with pytest.raises(TypeError, match="Half is not a fidelity: it lacks select, gradient"):
        as_fidelity(Half())
    for wrong in (Gaussian, 0.1, "l2"):
        with pytest.raises(TypeError, match="has to be one such as Gaussian"):
            as_fidelity(wrong)
