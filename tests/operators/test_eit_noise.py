"""Noise and offsets from repeats."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from onmanifold.operators.eit import ktc
from onmanifold.operators.eit.measurements.measurement import Measurement
from onmanifold.operators.eit.measurements.noise import (
    channel_offsets,
    fit_noise,
    noise_std,
    repeats,
)
from onmanifold.operators.eit.models.protocol import Protocol


def test_noise():
    std = noise_std(torch.tensor([3.0, -4.0, 0.0]), relative=0.01, floor=0.1)
    torch.testing.assert_close(
        std, torch.tensor([math.hypot(0.03, 0.4), math.hypot(0.04, 0.4), 0.4]).double()
    )
    for bad in ({"relative": -1.0}, {"relative": 0, "floor": 0}, {"floor": 0.0}):
        with pytest.raises(ValueError):
            noise_std(torch.tensor([1.0, 0.0]), **bad)
    with pytest.raises(ValueError, match="finite"):
        noise_std([1.0, math.nan])


def clean(protocol, seed=0):
    """Voltages that are linear in the currents, as any tank's are, between 0.001 and 1 or so."""
    source = np.random.default_rng(seed)
    transfer = source.standard_normal((protocol.electrodes, protocol.full_shape[1]))
    return protocol.injections.T @ (transfer * 10.0 ** source.uniform(-3, 0, transfer.shape[1]))


def test_repeats_of_the_challenge():
    found = repeats(ktc.protocol())
    same = {(r.first + 1, r.second + 1) for r in found if r.factor > 0}
    opposite = {(r.first + 1, r.second + 1) for r in found if r.factor < 0}
    assert same == {(4, 35), (8, 54), (12, 73), (16, 31)}
    assert opposite == {
        (1, 17), (5, 36), (9, 55), (13, 74), (20, 32),
        (24, 47), (28, 62), (39, 51), (43, 66), (58, 70),
    }  # fmt: skip
    for r in found:
        injections = ktc.protocol().injections
        np.testing.assert_allclose(injections[:, r.second], r.factor * injections[:, r.first])


def test_nothing_is_repeated_where_nothing_is():
    assert repeats(Protocol.trigonometric(8)) == [] == repeats(Protocol.adjacent(8))
    assert len(repeats(Protocol.skip(8, 3))) == 4  # n and n + 4: each pair both ways


@pytest.mark.parametrize(("relative", "floor"), [(0.01, 0.001), (0.002, 1e-5), (1e-6, 0.003)])
def test_noise_is_found_from_several_measurements(relative, floor):
    protocol = Protocol.adjacent(16, drop_driven=True)
    voltages = clean(protocol)[protocol.mask]
    std = noise_std(voltages, relative, floor).numpy()
    source = np.random.default_rng(1)
    several = [
        Measurement.from_values(protocol, voltages + std * source.standard_normal(len(std)))
        for _ in range(9)
    ]
    found = fit_noise(*several)
    assert found[1] == pytest.approx(floor, rel=0.15)
    if relative > 1e-3:
        assert found[0] == pytest.approx(relative, rel=0.15)
    np.testing.assert_allclose(np.median(noise_std(voltages, *found).numpy() / std), 1, rtol=0.05)


def test_noise_is_found_from_repeats_of_the_same_polarity_only():
    half = [(k, (k + 2) % 16) for k in range(16)]
    pairs = Protocol.from_pairs(16, half * 8)
    injections = pairs.injections * np.linspace(0.8, 1.25, 128)
    injections[:, ::5] *= -1
    protocol = Protocol(injections, pairs.patterns)
    voltages = clean(protocol)
    std = noise_std(voltages, 0.003, 0.0002).numpy()
    noisy = voltages + std * np.random.default_rng(2).standard_normal(std.shape)
    found = fit_noise(Measurement.from_values(protocol, noisy))
    assert found == (pytest.approx(0.003, rel=0.2), pytest.approx(0.0002, rel=0.2))


def test_missing_voltages_tell_nothing_of_the_noise():
    protocol = Protocol.skip(8, 3)
    protocol = Protocol(np.tile(protocol.injections, (1, 4)), np.tile(protocol.patterns, (1, 3)))
    voltages = clean(protocol) + 1e-3 * np.random.default_rng(0).standard_normal((32, 24))
    voltages[::3] = np.nan
    found = fit_noise(Measurement.from_values(protocol, voltages))
    assert np.hypot(*found) < 3e-3


def test_noise_needs_repeats():
    adjacent = Protocol.adjacent(8)
    one = Measurement.from_values(adjacent, clean(adjacent))
    with pytest.raises(ValueError, match="nothing was repeated"):
        fit_noise(one)
    with pytest.raises(ValueError, match="do not differ at all"):
        fit_noise(one, one)
    other = Protocol.opposite(8)
    with pytest.raises(ValueError, match="of one protocol"):
        fit_noise(one, Measurement.from_values(other, clean(other)))


def test_offsets_from_opposite_polarity():
    protocol = ktc.protocol()
    offsets = 0.05 * np.random.default_rng(3).standard_normal(31)
    voltages = clean(protocol) + offsets
    voltages[16, 4] = np.nan
    found = channel_offsets(Measurement.from_values(protocol, voltages))
    np.testing.assert_allclose(found, offsets, atol=1e-12)
    adjacent = Protocol.adjacent(8)
    none = channel_offsets(Measurement.from_values(adjacent, clean(adjacent)))
    assert none.shape == (8,) and bool(torch.isnan(none).all())


def test_noise_of_the_measured_tank(shared_data):
    """Between repeats of the same polarity, electrode 31 included, which is ten times as noisy as others."""
    path = shared_data / "ktc2023" / "training" / "ref.mat"
    if not path.is_file():
        pytest.skip(f"no challenge files: there is no file {path}")
    water = ktc.read(path)
    relative, floor = fit_noise(water)
    std = noise_std(water.voltages, relative, floor)
    first = [r.first for r in repeats(water.protocol) if r.factor > 0]
    assert 1e-3 < math.sqrt(std[first].square().mean()) < 1.5e-3
    # the two channels of electrode 31, by a factor of ten beyond all others
    offsets = channel_offsets(water).abs()
    assert offsets[29:].min() > 0.07 > 2 * offsets[:29].max()
