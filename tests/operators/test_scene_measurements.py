"""What measured tanks of objects need: conductivities of masks, errors of the model, the best labels."""

import numpy as np
import pytest
import torch

from onmanifold.operators.eit import (
    Inclusions,
    Measurement,
    Protocol,
    approximation_error,
    ktc,
)
from onmanifold.operators.eit.measurements.approximation_error import ErrorScale, _log_likelihood

DOUBLE = torch.float64


@pytest.mark.parametrize("bad", [{"background": 0.0}, {"resistive": 1.0}, {"conductive": -0.1}])
def test_inclusions_refuse_what_has_no_conductivity(bad):
    with pytest.raises(ValueError):
        Inclusions(**bad)


def difference(level=1, seed=0):
    protocol = ktc.protocol()
    mask = ktc.level_mask(level, protocol)
    values = torch.randn(76, 31, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    return Measurement(protocol, torch.where(mask, values, 0.0), mask)


def test_transfer_errors_are_linear_in_the_currents():
    """An error of the transfer impedances costs far less than one that no impedance explains."""
    measured = difference()
    noise = torch.full((76, 31), 1e-3, dtype=DOUBLE)
    fidelity = approximation_error(measured, noise, share=0.1, rest=0.001).fidelity()
    y = torch.zeros(1, 76 * 31, dtype=DOUBLE)
    bound = fidelity.bind(y)
    currents = torch.tensor(measured.protocol.injections).T
    source = torch.Generator().manual_seed(1)
    impedance = 0.01 * torch.randn(32, 31, generator=source, dtype=DOUBLE)
    shared = (currents @ impedance).flatten()[None]
    other = torch.randn(1, 76 * 31, generator=source, dtype=DOUBLE)
    other = other / other.norm() * shared.norm()
    assert bound.value(other, y) > 20 * bound.value(shared, y)


def test_a_repeated_injection_says_nothing_new():
    injections = np.array([[1.0, -1.0, 0.0, 0.0], [0.0, 1.0, -1.0, 0.0], [0.0, 0.0, 1.0, -1.0]]).T
    patterns = np.eye(4)[:, :3] - np.eye(4)[:, 1:]
    values = torch.randn(3, 3, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)
    once = Protocol(injections, patterns)
    twice = Protocol(np.concatenate([injections, injections], axis=1), patterns)
    costs = []
    for protocol, v in ((once, values), (twice, torch.cat([values, values]))):
        measured = Measurement(protocol, v, torch.ones(v.shape, dtype=torch.bool))
        fidelity = approximation_error(
            measured, torch.full(v.shape, 1e-9, dtype=DOUBLE), rest=1e-6
        ).fidelity()
        flat = v.flatten()[None]
        costs.append(float(fidelity.bind(flat).value(1.05 * flat, flat)))
    assert costs[1] == pytest.approx(costs[0], rel=1e-3)


@pytest.mark.parametrize("level", [1, 7])
@pytest.mark.parametrize("shared", [1 / 3, 1.0, 3.0])
@pytest.mark.parametrize("own", [1 / 3, 1.0])  # larger ones hide those that are shared
def test_the_sizes_of_both_kinds_of_errors_are_found(shared, own, level):
    errors = approximation_error(difference(level), torch.full((76, 31), 1e-3, dtype=DOUBLE))
    source = torch.Generator().manual_seed(4)

    def normal(*shape):
        return torch.randn(*shape, generator=source, dtype=DOUBLE)

    alone = (errors.noise.square() + (own * errors.own).square()).sqrt() * normal(76 * 31)
    left = alone + shared * errors.factor @ normal(errors.factor.shape[1])
    found = errors.likeliest_scale(left)
    assert found == pytest.approx((shared, own), rel=0.25)
    bound = errors.fidelity(found).bind(left[None])
    expected = bound.expected(left[None])
    torch.testing.assert_close(
        bound.value(left[None], 0 * left[None]), expected, rtol=0.1, atol=0
    )  # chance


@pytest.mark.parametrize("known", [0, 5])
def test_the_likelihood_of_a_size_is_that_of_the_whole_covariance(known):
    errors = approximation_error(difference(4), torch.full((76, 31), 1e-3, dtype=DOUBLE))
    source = torch.Generator().manual_seed(5)
    left = 0.01 * torch.randn(76 * 31, generator=source, dtype=DOUBLE)
    others = 0.02 * torch.randn(76 * 31, known, generator=source, dtype=DOUBLE)
    errors = errors.with_known(others)
    seen = errors.mask.flatten()
    off = []
    for scale in (ErrorScale(1.0, 1.0), ErrorScale(0.5, 2.0), ErrorScale(2.0, 0.3)):
        diagonal = errors.noise.square() + (scale.own * errors.own).square()
        covariance = scale.shared**2 * errors.factor @ errors.factor.T + diagonal.diag()
        covariance = covariance + others @ others.T
        normal = torch.distributions.MultivariateNormal(
            left.new_zeros(int(seen.sum())), covariance[seen][:, seen]
        )
        columns = torch.cat([left[:, None], others], dim=1)
        likely = _log_likelihood(scale, *errors._by_pattern(columns))
        off.append(likely - float(normal.log_prob(left[seen])))
    assert off == pytest.approx([off[0]] * 3, abs=1e-6)


def test_sizes_beyond_a_factor_of_ten_are_not_told_apart():
    errors = approximation_error(difference(), torch.full((76, 31), 1e-3, dtype=DOUBLE))
    assert errors.likeliest_scale(torch.zeros(76 * 31)) == pytest.approx((0.1, 0.1))
    assert max(errors.likeliest_scale(torch.full((76 * 31,), 1e6))) == pytest.approx(10.0)


def test_errors_of_known_size_are_part_of_the_data_term_and_not_of_the_size():
    errors = approximation_error(difference(), torch.full((76, 31), 1e-3, dtype=DOUBLE))
    source = torch.Generator().manual_seed(6)
    others = 0.5 * torch.randn(76 * 31, 3, generator=source, dtype=DOUBLE)
    left = others @ torch.ones(3, dtype=DOUBLE)
    y = torch.zeros(1, 76 * 31, dtype=DOUBLE)
    both = errors.with_known(others)
    alone, together = (each.fidelity().bind(y).value(left[None], y) for each in (errors, both))
    assert together < 0.1 * alone
    assert max(both.likeliest_scale(left)) < 1.0 < max(errors.likeliest_scale(left))


def test_larger_errors_make_residuals_cheaper():
    errors = approximation_error(difference(), torch.full((76, 31), 1e-3, dtype=DOUBLE))
    y = torch.zeros(1, 76 * 31, dtype=DOUBLE)
    off = torch.randn(y.shape, generator=torch.Generator().manual_seed(5), dtype=DOUBLE)
    usual, large = (errors.fidelity(scale).bind(y).value(off, y) for scale in (1.0, 2.0))
    assert 3 < usual / large < 4  # noise is no error of the model


def test_unreliable_patterns_count_less_and_missing_ones_nothing():
    measured = difference(level=4)
    noise = torch.full((76, 31), 1e-3, dtype=DOUBLE)
    y = torch.zeros(1, 76 * 31, dtype=DOUBLE)
    off = torch.zeros(76, 31, dtype=DOUBLE)
    off[:, 29] = 0.1
    plain, unreliable = (
        approximation_error(measured, noise, unreliable=d)
        .fidelity()
        .bind(y)
        .value(off.flatten()[None], y)
        for d in (None, torch.tensor([29]))
    )
    assert unreliable < plain / 10
    gone = torch.zeros(76, 31, dtype=DOUBLE)
    gone[~measured.mask] = 5.0
    assert (
        approximation_error(measured, noise).fidelity().bind(y).value(gone.flatten()[None], y) == 0
    )


def blob(x, y, radius, size=64):
    place = (torch.arange(size, dtype=DOUBLE) + 0.5) * 2 / size - 1
    return ((place[None] - x) ** 2 + (place[:, None] + y) ** 2 < radius**2).to(DOUBLE)


def labels_of(masks):
    labels = np.zeros((256, 256), np.uint8)
    for k in range(2):
        fine = torch.nn.functional.interpolate(masks[None, k : k + 1], (256, 256), mode="bilinear")
        labels[(fine[0, 0] > 0.5).numpy()] = k + 1
    return labels


def test_labels_of_one_certain_picture_are_that_picture():
    masks = torch.stack([blob(-0.3, 0.2, 0.3), blob(0.4, -0.2, 0.25)])
    labels = ktc.best_labels(masks.expand(5, -1, -1, -1))
    assert ktc.score(labels, labels_of(masks)) > 0.99


def test_labels_score_better_on_average_than_the_commonest_picture():
    """The place is uncertain: in four of ten cases here, else further and further away."""
    places = [0.0] * 4 + [0.08, 0.12, 0.16, 0.2, 0.24, 0.28]
    none = torch.zeros(64, 64, dtype=DOUBLE)
    samples = torch.stack([torch.stack([blob(p, 0.0, 0.25), none]) for p in places])
    chosen = ktc.best_labels(samples)
    scores = [
        np.mean([ktc.score(labels, labels_of(s)) for s in samples])
        for labels in (chosen, labels_of(samples[0]))
    ]
    assert scores[0] > scores[1] + 0.005


def test_an_unlikely_object_is_left_out():
    none = torch.zeros(64, 64, dtype=DOUBLE)
    samples = torch.stack(
        [torch.stack([blob(0.0, 0.0, 0.25) if k == 0 else none, none]) for k in range(5)]
    )
    assert not ktc.best_labels(samples).any()


def test_labels_need_samples_of_two_masks():
    with pytest.raises(ValueError, match="two masks"):
        ktc.best_labels(torch.zeros(2, 3, 8, 8))
