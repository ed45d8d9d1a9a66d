"""What examples/ktc_tank.py is made of, on a simulated tank."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples"))

from ktc_parts.cases import cut  # noqa: E402
from ktc_parts.linear import hinted_objects, linear_step  # noqa: E402
from ktc_parts.scenes import (  # noqa: E402
    class_probabilities,
    described,
    lone_objects,
    posterior_of,
    with_drift,
)

from onmanifold.operators.eit import (  # noqa: E402
    EIT,
    CalibratedTank,
    Inclusions,
    Measurement,
    assemble,
    calibrate_tank,
    ktc,
    polar_mesh,
)
from onmanifold.priors.scene import Arrangement, RadialOutlines, Scene  # noqa: E402
from onmanifold.priors.scene.moves import points_of  # noqa: E402


def coarse(tank):
    return assemble(polar_mesh(tank, 4, 1.6, 0.12))


@pytest.fixture(scope="module")
def tank() -> CalibratedTank:
    protocol = ktc.protocol()
    mesh = coarse(ktc.tank())
    eit = EIT(ktc.tank(), protocol, (3, 48, 48), conductivity=Inclusions(0.8), mesh=mesh)
    voltages = eit.A(torch.zeros(1, 3, 48, 48, dtype=torch.float64))[0]
    noise = 5e-5 * torch.randn(voltages.shape, generator=torch.Generator().manual_seed(0)).double()
    return calibrate_tank(
        ktc.tank(), Measurement.from_values(protocol, (voltages + noise).view(76, 31)), longest=0.12
    )


@pytest.fixture(scope="module")
def prior():
    arrangement = Arrangement(counts=(0.1, 0.4, 0.4, 0.1))
    return with_drift(Scene(RadialOutlines(3), 2, 48, arrangement).eval())


def disk(scene, x, y, radius):
    block = torch.zeros(scene.block)
    block[0], block[1] = x, y
    block[2] = scene.arrangement.size_coordinate(torch.tensor(radius))
    return block


@pytest.fixture(scope="module")
def measured(tank, prior):
    """A resistive disk on the left and a conductive one on the right; the water conducts 2 % more."""
    scene = prior.prior
    objects = [(0, disk(scene, -0.45, 0.1, 0.3)), (1, disk(scene, 0.5, -0.1, 0.22))]
    point = points_of(scene, [objects])
    x = torch.cat([scene.decode(point), torch.full((1, 1, 48, 48), 0.02)], dim=1)
    operator = tank.operator(Inclusions(tank.background), prior.x_shape)
    with torch.no_grad():
        y = operator.A(x)[0].double()
    noise = 5e-5 * torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).double()
    voltages = (y + noise).view(76, 31)
    return operator, Measurement.from_values(tank.reference.protocol, voltages), x


def test_the_reference_shows_the_tank(tank):
    assert tank.background == pytest.approx(0.8, rel=0.03)
    assert tank.unreliable == ()


def test_a_linear_step_shows_both_signs(tank, measured):
    operator, measurement, x = measured
    y = measurement.voltages.flatten()
    mean, std = linear_step(operator, y, tank.fidelity(measurement), channel=1)
    assert mean[x[0, 1] > 0.5].mean() > 3 * std[x[0, 1] > 0.5].mean() > 0
    assert mean[x[0, 0] > 0.5].mean() < -3 * std[x[0, 0] > 0.5].mean()


def test_hints_hold_the_right_numbers(tank, prior, measured):
    operator, measurement, _ = measured
    y = measurement.voltages.flatten()
    hints = hinted_objects(operator, y, tank.fidelity(measurement), prior)
    counts = [prior.prior.counts[k] for k in hints.chart.tolist()]
    assert (1, 1) in counts
    z = hints.z[counts.index((1, 1))]
    assert z[0] < -0.2 and z[prior.prior.block] > 0.2


def test_a_lone_object_is_tried_everywhere(prior):
    lone = lone_objects(prior)
    counts = [prior.prior.counts[k] for k in lone.chart.tolist()]
    assert set(counts) == {(1, 0), (0, 1)}
    for kind in range(2):
        found = prior.decode(lone)[[c[kind] == 1 for c in counts], kind]
        assert found.shape[0] > 40
        covered = (found.amax(0) > 0.5).double().mean() / (np.pi / 4)
        assert covered > 0.6  # of the tank, by small disks that lie apart from its wall


@pytest.mark.parametrize("level", [1, 6])
def test_scenes_are_found_and_counted(tank, prior, measured, level):
    operator, measurement, x = measured
    shown = cut(measurement, level)
    y = shown.voltages.flatten()
    posterior = posterior_of(operator, y, tank.fidelity(shown), prior)
    found = described(posterior, prior, 0.0)
    assert next(iter(found.objects)) == (1, 1)
    assert sum(found.objects.values()) == pytest.approx(1)
    truth = torch.nn.functional.interpolate(x[:, :2], (256, 256), mode="bilinear")[0] > 0.5
    for k in range(2):
        both, either = (
            (found.labels == k + 1) & truth[k].numpy(),
            (found.labels == k + 1) | truth[k].numpy(),
        )
        assert both.sum() > 0.8 * either.sum()
    assert np.allclose(found.probabilities.sum(axis=0), 1)
    assert found.unsure.min() >= 0 and found.unsure.max() <= 2 / 3


def test_probabilities_are_shares_of_samples():
    masks = torch.zeros(4, 2, 32, 32)
    masks[:3, 0, 4:12, 4:12] = 1
    water, resistive, conductive = class_probabilities(masks)[:, 60, 60]
    assert (water, resistive, conductive) == (0.25, 0.75, 0.0)


def test_a_pixel_at_a_soft_edge_is_as_likely_as_its_masks_say():
    masks = torch.full((2, 2, 32, 32), 0.25)
    masks[0, 1] = 0
    probabilities = class_probabilities(masks)
    assert np.allclose(probabilities, np.array([0.625, 0.25, 0.125])[:, None, None])


def test_a_level_leaves_what_the_challenge_leaves(measured):
    measurement = measured[1]
    left = cut(measurement, 7)
    assert torch.equal(left.mask, ktc.level_mask(7, measurement.protocol))
    assert (left.voltages[~left.mask] == 0).all()
    assert cut(measurement, 0) is measurement
    assert replace(measurement, mask=left.mask).mask.sum() < measurement.mask.sum()
