"""Bad input is refused or reported, good input is not."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from onmanifold.operators.eit import (
    EIT,
    Implausible,
    Instrument,
    Measurement,
    Protocol,
    check_against,
    check_reference,
    ktc,
    noise_std,
)

PROTOCOL = ktc.protocol()
NOT_WATER = "ref.mat: a homogeneous model of the tank has a relative residual"


def measured(protocol, potentials, seed):
    """As an instrument with offsets, common-mode errors, wrong currents and noise reads it."""
    source = torch.Generator().manual_seed(17)
    sizes = (0.005, 31), (0.007, 31), (0.01, 76)
    errors = (s * torch.randn(n, generator=source, dtype=torch.float64) for s, n in sizes)
    read = Instrument(protocol, *errors).read(potentials)
    noise = torch.randn(read.shape, generator=torch.Generator().manual_seed(seed)).double()
    return Measurement.from_values(protocol, read + noise_std(read) * noise)


@pytest.fixture(scope="module")
def tanks():
    """What a model says of water, and measurements of water and of two objects in it."""
    x = torch.ones(2, 16, 16, dtype=torch.float64)
    x[1, 4:8, 9:12], x[1, 9:12, 4:6] = 0.02, 50.0
    full = Protocol(PROTOCOL.injections, np.eye(32))
    potentials = EIT(replace(ktc.tank(), contact_impedance=1e-5), full, (16, 16), mesh="coarse").A(
        x
    )
    predicted = EIT(ktc.tank(), PROTOCOL, (16, 16), mesh="coarse").A(x[:1])[0]
    return (
        predicted,
        measured(PROTOCOL, potentials[0], 1),
        measured(PROTOCOL, 0.95 * potentials[1], 2),
    )


@pytest.fixture(scope="module")
def real(shared_data):
    folder = shared_data / "ktc2023" / "training"
    if not folder.is_dir():
        pytest.skip(f"no challenge files: there is no folder {folder}")
    predicted = EIT(ktc.tank(), PROTOCOL, (8, 8)).A(torch.full((1, 8, 8), 0.79).double())[0]
    return predicted, *(
        ktc.read(folder / f"{n}.mat") for n in ("ref", "data1", "data2", "data3", "data4")
    )


def at(measurement, level):
    mask = measurement.mask & ktc.level_mask(level)
    return replace(measurement, voltages=measurement.voltages * mask, mask=mask)


def spoiled(measurement, kind, channels, seed=0):
    """With a fault in the first of the channels, or two swapped."""
    old, source = measurement.voltages, torch.Generator().manual_seed(seed)
    new, j = old.clone(), channels[0]
    noise = torch.randn(len(old), generator=source, dtype=torch.float64)
    if kind == "swapped":
        new[:, channels] = old[:, channels[::-1]]
    elif kind == "saturated":
        most = float(old[:, j].abs().quantile(0.5))
        new[:, j] = old[:, j].clamp(-most, most)
    elif kind == "stuck":
        new[::2, j] = old[:, j].max()
    elif kind == "reversed":
        new[:, j] = -old[:, j]
    elif kind == "dead":
        new[:, j] = 1e-4 * noise
    else:
        new[:, j] += 20 * noise_std(old)[:, j] * noise
    return replace(measurement, voltages=torch.where(measurement.mask, new, 0.0))


def against(reference, measurement, warned=True):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = check_against(reference, measurement, "data1.mat")
    assert [w.category for w in caught] == [Implausible] * warned * bool(report.bad)
    return report, "".join(str(w.message) for w in caught)


@pytest.mark.parametrize("level", [1, 4, 7])
def test_good_tanks_are_left_alone(tanks, level):
    predicted, water, tank = tanks
    assert check_reference(water, 3 * predicted, "ref.mat", PROTOCOL).bad == ()
    assert check_against(water, at(tank, level), "data1.mat").bad == ()


FAULTS = {
    "swapped": ([15, 28], r"channels 16, 29 look bad.*of channel 29 of the"),
    "saturated": ([19], r"channel 20 looks bad"),
    "stuck": ([19], r"channel 20: 5\d% of its voltages are stuck"),
    "reversed": ([19], r"channel 20: its voltages have the other sign"),
    "dead": ([19], r"channel 20: its voltages are .* times those of the"),
    "noisy": ([19], r"channel 20: its change from the reference is .* linear in the currents"),
}


@pytest.mark.parametrize("level", [1, 4, 7])
@pytest.mark.parametrize("kind", FAULTS)
def test_bad_channels_of_a_measurement_are_named_with_a_reason(tanks, kind, level):
    _, water, tank = tanks
    channels, message = FAULTS[kind]
    if kind == "stuck" and level == 7:
        message = "channel 20"
    with pytest.warns(Implausible, match=f"data1.mat: .*{message}"):
        report = check_against(water, spoiled(at(tank, level), kind, channels), "data1.mat")
    assert report.bad == tuple(channels)


@pytest.mark.parametrize("kind", [kind for kind in FAULTS if kind not in ("noisy", "saturated")])
def test_bad_channels_of_a_reference_are_named(tanks, kind):
    predicted, water, _ = tanks
    channels, message = FAULTS[kind]
    with pytest.warns(Implausible, match=f"ref.mat: .*{message}"):
        report = check_reference(spoiled(water, kind, channels), predicted, "ref.mat")
    assert report.bad == tuple(channels)


@pytest.mark.parametrize("kind", FAULTS)
def test_bad_channels_of_a_reference_show_in_the_change(tanks, kind):
    _, water, tank = tanks
    channels, _ = FAULTS[kind]
    report, message = against(spoiled(water, kind, channels), tank)
    assert report.bad == tuple(channels) and f"channel {channels[0] + 1}" in message


@pytest.mark.parametrize("factor", [1e3, 1e-3])
def test_other_units_of_voltages_are_refused(tanks, factor):
    predicted, water, tank = tanks
    do = "divide them by 1000" if factor > 1 else "multiply them by 1000"
    for measurement, check in (
        (water, lambda m: check_reference(m, predicted, "file.mat")),
        (tank, lambda m: check_against(water, m, "file.mat")),
    ):
        other = replace(measurement, voltages=factor * measurement.voltages)
        with pytest.raises(ValueError, match=rf"file.mat: its voltages are .* times .*{do}"):
            check(other)


def test_other_units_of_currents_are_refused(tanks):
    predicted, water, tank = tanks
    amperes = Protocol(1e-3 * PROTOCOL.injections, PROTOCOL.patterns)
    other = Measurement(amperes, tank.voltages, tank.mask)
    with pytest.raises(
        ValueError, match=r"data1.mat: its currents are 0.001 times .*multiply them by 1000"
    ):
        check_against(water, other, "data1.mat")
    with pytest.raises(ValueError, match=r"ref.mat: its currents are 0.001 times"):
        check_reference(
            Measurement(amperes, water.voltages, water.mask), predicted, "ref.mat", PROTOCOL
        )
    with pytest.raises(ValueError, match=r"ref.mat: its voltages are 1e\+03 times"):
        check_reference(water, 1e-3 * predicted, "ref.mat")


def test_another_sign_is_refused(tanks):
    predicted, water, tank = tanks
    with pytest.raises(ValueError, match="ref.mat: its voltages have the other sign"):
        check_reference(water, -predicted, "ref.mat")
    with pytest.raises(ValueError, match="data1.mat: its voltages have the other sign"):
        check_against(water, replace(tank, voltages=-tank.voltages), "data1.mat")


def test_too_few_injections_are_refused(tanks):
    predicted, water, _ = tanks
    for kept, message in ((0, "all of its voltages are missing"), (1, "only one injection")):
        mask = torch.zeros_like(water.mask)
        mask[:kept] = True
        empty = Measurement(PROTOCOL, torch.where(mask, water.voltages, 0.0), mask)
        with pytest.raises(ValueError, match=f"data1.mat: {message}"):
            check_against(water, empty, "data1.mat")
        with pytest.raises(ValueError, match=f"ref.mat: {message}"):
            check_reference(empty, predicted, "ref.mat")
    with pytest.raises(ValueError, match="data1.mat: its voltages are zero"):
        check_against(water, replace(water, voltages=0 * water.voltages), "data1.mat")


def test_other_protocols_are_refused(tanks):
    predicted, water, _ = tanks
    injections, patterns = PROTOCOL.injections, PROTOCOL.patterns
    mixed, turned = injections[:, [1, 0, *range(2, 76)]], np.roll(patterns, 1, axis=0)
    for protocol, message in (
        (Protocol.adjacent(16), "16 electrodes"),
        (Protocol(injections[:, :75], patterns), "75 injections"),
        (Protocol(injections, patterns[:, :30]), "30 patterns"),
        (Protocol(mixed, patterns), "injection 1 is another"),
        (Protocol(injections, turned), "pattern 1 is another"),
    ):
        other = Measurement.from_values(protocol, np.ones(protocol.shape))
        with pytest.raises(ValueError, match=f"data1.mat: .*{message}"):
            check_against(water, other, "data1.mat")
    with pytest.raises(
        ValueError, match=r"ref.mat: its voltages have shape \(76, 31\), .* \(75, 31\)"
    ):
        check_reference(water, predicted[:75], "ref.mat")


def test_a_reference_of_something_else_is_warned_of(tanks):
    predicted, water, tank = tanks
    turned = Protocol(PROTOCOL.injections, np.roll(PROTOCOL.patterns, 1, axis=0))
    other = EIT(ktc.tank(), turned, (16, 16), mesh="coarse").A(torch.ones(1, 16, 16).double())[0]
    for measurement in (tank, Measurement.from_values(PROTOCOL, other)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            check_reference(measurement, predicted, "ref.mat")
        assert any(NOT_WATER in str(w.message) for w in caught)


@pytest.mark.parametrize(
    "protocol", [Protocol.adjacent(32, drop_driven=True), Protocol.trigonometric(32)]
)
def test_other_protocols_are_checked_as_far_as_they_allow(protocol):
    x = torch.ones(2, 16, 16, dtype=torch.float64)
    x[1, 4:8, 9:12] = 0.1
    water, tank = EIT(ktc.tank(), protocol, (16, 16), mesh="coarse").A(x)
    files = [Measurement.from_values(protocol, v) for v in (water, tank)]
    assert check_reference(files[0], water, "ref").bad == check_against(*files, "data").bad == ()
    full = protocol.spread(tank).clone()
    full[:, 5] = 0
    with pytest.warns(Implausible, match="data: channel 6 looks bad"):
        check_against(files[0], replace(files[1], voltages=protocol.pick(full)), "data")


def test_measured_tanks_have_no_bad_channels_but_electrode_31s(real):
    predicted, water, *tanks = real
    with pytest.warns(
        Implausible, match=r"ref.mat: channels 30, 31 look bad.*electrode 31"
    ) as caught:
        assert check_reference(water, predicted, "ref.mat", PROTOCOL).bad == (29, 30)
    assert not any(NOT_WATER in str(w.message) for w in caught)
    for tank in tanks:
        for level in range(1, 8):
            assert set(against(water, at(tank, level))[0].bad) <= {29, 30}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            check_reference(tank, predicted, "ref.mat")
        assert any(NOT_WATER in str(w.message) for w in caught)


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("level", [1, 4, 7])
def test_faults_of_measured_tanks_are_found(real, kind, level):
    _, water, *tanks = real
    channels, _ = FAULTS[kind]
    for number, tank in enumerate(tanks):
        report, _ = against(water, spoiled(at(tank, level), kind, channels, number))
        assert set(channels) <= set(report.bad) <= {*channels, 29, 30}
