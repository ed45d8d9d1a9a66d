"""Bad channels are found, and no good ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onmanifold.operators.eit import ktc
from onmanifold.operators.eit.channels.flags import flag_channels, reciprocity
from onmanifold.operators.eit.fem.discretization import load_discretization
from onmanifold.operators.eit.measurements.measurement import Measurement
from onmanifold.operators.eit.models.protocol import Protocol
from onmanifold.operators.eit.operator import EIT

PROTOCOLS = {
    "ktc": ktc.protocol(),
    "adjacent": Protocol.adjacent(32),
    "usual": Protocol.adjacent(32, drop_driven=True),
    "skip": Protocol.skip(32, 4, skip_measured=4),
    "trigonometric": Protocol.trigonometric(32),
}


@pytest.fixture(scope="module")
def clean():
    """Voltages of a tank with an object, by the protocol's name."""
    x = torch.ones(1, 1, 16, 16, dtype=torch.float64)
    x[..., 4:8, 9:12] = 0.2
    mesh = load_discretization("coarse", ktc.tank())
    return {
        name: EIT(ktc.tank(), protocol, (1, 16, 16), mesh=mesh).A(x)[0]
        for name, protocol in PROTOCOLS.items()
    }


def noisy(clean, name, seed=0, offsets=0.01):
    """As an instrument measures it that has offsets."""
    source = torch.Generator().manual_seed(seed)
    protocol, voltages = PROTOCOLS[name], clean[name]
    shift = offsets * torch.randn(protocol.full_shape[1], generator=source, dtype=torch.float64)
    noise = 1e-4 * torch.randn(voltages.shape, generator=source, dtype=torch.float64)
    noise = noise + protocol.pick(shift.expand(protocol.full_shape))
    return Measurement.from_values(protocol, voltages + noise)


def changed(measurement, channel, change):
    """With what one channel reads changed."""
    protocol = measurement.protocol
    full = protocol.spread(measurement.voltages).clone()
    full[:, channel] = change(full[:, channel])
    return Measurement.from_values(protocol, protocol.pick(full))


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("seed", range(4))
def test_good_channels_are_not_flagged(clean, name, seed):
    measurement = noisy(clean, name, seed)
    report = flag_channels(measurement)
    assert report.bad == () and report.electrodes == () and report.reasons == ()
    assert report.score.max() < 4


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("channel", [0, 13, 30])
def test_a_dead_channel_is_flagged_alone(clean, name, channel):
    measurement = changed(noisy(clean, name), channel, lambda v: 1e-4 * v)
    report = flag_channels(measurement)
    assert report.bad == (channel,)
    assert f"channel {channel + 1}: its voltages are" in "\n".join(report.reasons)


def test_a_noisy_channel_is_flagged_by_repeats(clean):
    source = torch.Generator().manual_seed(9)
    measurement = changed(
        noisy(clean, "ktc"),
        7,
        lambda v: v + 0.01 * torch.randn(len(v), generator=source, dtype=torch.float64),
    )
    report = flag_channels(measurement)
    assert report.bad == (7,)
    assert any(r.startswith("channel 8: repeats of the same polarity") for r in report.reasons)


def test_an_offset_is_flagged_by_opposite_polarity(clean):
    report = flag_channels(changed(noisy(clean, "ktc"), 20, lambda v: v + 0.2))
    assert report.bad == (20,) and report.electrodes == ()
    assert any("channel 21: by repeats of opposite polarity" in r for r in report.reasons)


@pytest.mark.parametrize("name", ["adjacent", "usual", "skip"])
def test_a_wrong_gain_is_flagged_by_reciprocity(clean, name):
    measurement = changed(noisy(clean, name, offsets=0.0), 5, lambda v: 1.5 * v)
    report = flag_channels(measurement)
    assert report.bad == (5,) and "breaks reciprocity" in report.reasons[0]
    assert report.reciprocity > 10 * flag_channels(noisy(clean, name, offsets=0.0)).reciprocity


def test_an_electrode_all_of_whose_channels_are_bad_is_named(clean):
    measurement = noisy(clean, "ktc")
    for channel, sign in ((10, 1), (11, -1)):
        measurement = changed(measurement, channel, lambda v, s=sign: v + 0.3 * s)
    report = flag_channels(measurement)
    assert report.bad == (10, 11) and report.electrodes == (11,)
    assert report.reasons[-1] == "electrode 12: all of its channels are bad"


@pytest.mark.parametrize(
    ("name", "pairs"), [("ktc", 2836), ("adjacent", 496), ("usual", 464), ("skip", 496)]
)
def test_a_model_is_reciprocal(clean, name, pairs):
    found = reciprocity(Measurement.from_values(PROTOCOLS[name], clean[name]))
    assert len(found.forward) == pairs and found.error < 1e-9
    np.testing.assert_allclose(
        found.forward, found.backward, atol=1e-9 * np.abs(found.forward).max()
    )


def test_reciprocity_needs_injections_that_are_measured():
    protocol = Protocol.from_pairs(8, [(0, 1), (1, 2)], measure=[(4, 5), (5, 6)])
    report = flag_channels(Measurement.from_values(protocol, np.ones((2, 2))))
    assert np.isnan(report.reciprocity)
    assert report.bad == ()


def test_electrode_31_of_the_measured_tank_shows_up(shared_data):
    """In every file: by noise, twenty times the median channel's, and by offsets, ten times."""
    folder = shared_data / "ktc2023" / "training"
    if not folder.is_dir():
        pytest.skip(f"no challenge files: there is no folder {folder}")
    for name in ("ref", "data1", "data2", "data3", "data4"):
        report = flag_channels(ktc.read(folder / f"{name}.mat"))
        assert report.bad == (29, 30) and report.electrodes == (30,)
        assert report.score[29:].min() > 10 and report.score[:29].max() < 3
        assert 0.04 < report.reciprocity < 0.05
