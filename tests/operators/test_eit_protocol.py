"""Protocols: what is driven, what is measured, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onmanifold.operators.eit.models.protocol import Protocol


def test_adjacent_and_opposite():
    adjacent, opposite = Protocol.adjacent(6), Protocol.opposite(6)
    assert adjacent.shape == (6, 6) and opposite.shape == (3, 6)
    np.testing.assert_array_equal(adjacent.injections[:, 5], [-1, 0, 0, 0, 0, 1])
    np.testing.assert_array_equal(adjacent.patterns, adjacent.injections)
    np.testing.assert_array_equal(opposite.injections[:, 1], [0, 1, 0, 0, -1, 0])


def test_protocols_are_equal_by_value():
    assert Protocol.adjacent(8) == Protocol.adjacent(8)
    assert Protocol.adjacent(8) != Protocol.opposite(8)
    assert Protocol.adjacent(8) != 8


def test_protocol_names_the_column_that_does_not_sum_to_zero():
    injections = Protocol.adjacent(4).injections.copy()
    injections[0, 2] = 0.5
    with pytest.raises(ValueError, match=r"injection 3 \(of 4\) sum to 0\.5"):
        Protocol(injections, np.eye(4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, p: (i, p[:3]), "4 electrodes, patterns for 3"),
        (lambda i, p: (i * 0, p), "column 1 of injections is zero"),
        (lambda i, p: (i, p * [1, 1, np.nan, 1]), "column 3 of patterns holds a NaN"),
        (lambda i, p: (i[0], p), "one row for each electrode"),
    ],
)
def test_protocol_refuses(change, message):
    adjacent = Protocol.adjacent(4)
    with pytest.raises(ValueError, match=message):
        Protocol(*change(adjacent.injections, adjacent.patterns))


def test_pairs_have_to_exist():
    with pytest.raises(ValueError, match="injection 2 drives"):
        Protocol.from_pairs(4, [(0, 1), (1, 4)])
    with pytest.raises(ValueError, match="even number"):
        Protocol.opposite(5)


# Voltages that are not measured ------------------------------------------------------------------


def test_the_usual_protocol_of_sixteen_electrodes_has_208_voltages():
    protocol = Protocol.adjacent(16, drop_driven=True)
    assert protocol.shape == (208,) and protocol.full_shape == (16, 16)
    for injection, pattern in protocol.rows():
        driven = {injection, (injection + 1) % 16}
        assert not driven & {pattern, (pattern + 1) % 16}
    np.testing.assert_array_equal(protocol.mask.sum(axis=1), 13)


@pytest.mark.parametrize(
    ("make", "each"),
    [
        (Protocol.adjacent, 9),
        (Protocol.opposite, 8),
        (lambda n, drop_driven: Protocol.skip(n, 2, drop_driven=drop_driven), 8),
        (
            lambda n, drop_driven: Protocol.skip(n, 2, skip_measured=2, drop_driven=drop_driven),
            9,
        ),
    ],
)
def test_driven_electrodes_are_left_out(make, each):
    protocol = make(12, drop_driven=True)
    touches = (protocol.injections != 0).T.astype(int) @ (protocol.patterns != 0) > 0
    np.testing.assert_array_equal(protocol.mask, ~touches)
    np.testing.assert_array_equal(protocol.mask.sum(axis=1), each)
    np.testing.assert_array_equal(protocol.injections, make(12, drop_driven=False).injections)


def test_measured_values_find_their_places():
    protocol = Protocol.adjacent(4, drop_driven=True)
    full = torch.arange(32.0).reshape(2, 4, 4)
    values = protocol.pick(full)
    rows = protocol.rows()
    assert values.shape == (2, *protocol.shape)
    assert torch.equal(values[1], full[1, rows[:, 0], rows[:, 1]])
    again = protocol.spread(values)
    assert torch.equal(protocol.pick(again), values)
    assert torch.equal(again != 0, torch.tensor(protocol.mask) & (full != 0))
    whole = Protocol.adjacent(4)
    assert whole.pick(full) is full and whole.spread(full) is full


def test_all_measured_is_none():
    a = Protocol.adjacent(6)
    b = Protocol(a.injections, a.patterns, np.ones((6, 6), bool))
    assert b.measured is None and b == a and b != Protocol.adjacent(6, drop_driven=True)


@pytest.mark.parametrize(
    ("measured", "message"),
    [
        (np.ones((4, 3), bool), r"\(4, 4\); got \(4, 3\)"),
        (np.ones((4, 4)), "boolean"),
        (np.zeros((4, 4), bool), "nothing is measured"),
    ],
)
def test_measured_has_to_fit(measured, message):
    adjacent = Protocol.adjacent(4)
    with pytest.raises(ValueError, match=message):
        Protocol(adjacent.injections, adjacent.patterns, measured)


# Kinds -------------------------------------------------------------------------------------------


def test_skip_leaves_electrodes_between():
    protocol = Protocol.skip(8, 2, 0.5)
    for n in range(8):
        column = np.zeros(8)
        column[n], column[(n + 3) % 8] = 0.5, -0.5
        np.testing.assert_array_equal(protocol.injections[:, n], column)
    assert Protocol.skip(8, 0) == Protocol.adjacent(8)
    np.testing.assert_array_equal(
        Protocol.skip(8, 3).injections[:, :4], Protocol.opposite(8).injections
    )


@pytest.mark.parametrize("electrodes", [5, 6, 16])
def test_trigonometric_currents_are_orthogonal_and_span_all(electrodes):
    protocol = Protocol.trigonometric(electrodes, 2.0)
    assert protocol.shape == (electrodes - 1, electrodes)
    products = protocol.injections.T @ protocol.injections
    np.testing.assert_allclose(products, np.diag(np.diag(products)), atol=1e-12)
    assert np.abs(protocol.injections).max() == pytest.approx(2.0)
    np.testing.assert_array_equal(protocol.patterns, np.eye(electrodes))


def test_pairs_to_measure():
    protocol = Protocol.from_pairs(5, [(0, 2)], 3.0, measure=[(1, 3), (4, 2)], drop_driven=True)
    np.testing.assert_array_equal(protocol.injections[:, 0], [3, 0, -3, 0, 0])
    np.testing.assert_array_equal(protocol.patterns.T, [[0, 1, 0, -1, 0], [0, 0, -1, 0, 1]])
    assert protocol.rows().tolist() == [[0, 0]]


# Electrodes that are gone ------------------------------------------------------------------------


@pytest.mark.parametrize("drop", [False, True])
def test_voltages_free_of_electrodes_do_not_touch_them(drop):
    protocol = Protocol.adjacent(8, drop_driven=drop)
    kept = {0, 1, 4, 7}  # the pairs that hold neither
    expected = [pair for pair in protocol.rows().tolist() if set(pair) <= kept]
    assert np.argwhere(protocol.free_of([3, 6])).tolist() == expected


@pytest.mark.parametrize("electrode", [8, -1])
def test_electrodes_that_are_gone_have_to_exist(electrode):
    with pytest.raises(ValueError, match=rf"no electrode {electrode} .counted from 0. among 8"):
        Protocol.adjacent(8).free_of([electrode])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Protocol.from_pairs(4, [(0, 1)], measure=[(0, 1), (2, 4)]),
            "pattern 2 measures at",
        ),
        (lambda: Protocol.from_pairs(4, []), "injections has to be a matrix"),
        (lambda: Protocol.skip(8, 7), "skip has to be 0 to 6, got 7"),
        (lambda: Protocol.skip(8, 0, skip_measured=-1), "skip_measured has to be"),
        (lambda: Protocol.trigonometric(1), "at least 2"),
        (lambda: Protocol.opposite(4, drop_driven=True), "nothing is measured"),
        (
            lambda: Protocol([[1.0], [-1.0]], [[1.0, 0], [0, 1], [0, 0], [0, -1]]),
            "2 electrodes, patterns for 4; pattern 2 measures at electrode 4, which is missing",
        ),
    ],
)
def test_constructors_refuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()
