"""The Gaussian data term: its derivatives, its mask, what it refuses."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onmanifold import Fidelity, Gaussian


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
        for t in range(2):
            _, expected = torch.func.jvp(value, (p,), (tangents[:, t],))
            assert torch.allclose(bend[:, t], expected)


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


def test_a_missing_entry_never_counts():
    p, y = tensors((2, 5), (2, 5))
    mask = torch.tensor([True, True, False, True, False])
    bound = Gaussian(0.2, mask).bind(y)
    wild = y.clone()
    wild[:, ~mask] = torch.finfo(y.dtype).max
    p_wild = p.clone()
    p_wild[:, ~mask] = torch.inf
    assert torch.equal(bound.value(p, y), bound.value(p_wild, wild))
    assert torch.equal(bound.gradient(p, y), bound.gradient(p_wild, wild))
    assert bound.gradient(p_wild, wild)[:, ~mask].abs().max() == 0
    assert torch.equal(bound.expected(y), torch.full((2,), 1.5, dtype=y.dtype))


def test_expected_value_is_the_mean_over_the_noise():
    y = torch.zeros(4000, 6, dtype=torch.float64)
    (noise,) = tensors((4000, 6))
    mask = torch.arange(6) < 4
    bound = Gaussian(0.7, mask).bind(y)
    assert bound.value(0.7 * noise, y).mean().item() == pytest.approx(2.0, abs=0.1)
    assert bound.expected(y)[0] == 2.0


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
