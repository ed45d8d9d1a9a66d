"""benchmarks/tanks.py: scenes, their voltages, what becomes of a reconstruction, and the linear method."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from onmanifold.applications.tanks import tank_prior
from onmanifold.operators.eit import (
    EIT,
    CalibratedTank,
    Instrument,
    Labels,
    Measurement,
    calibrate,
    ktc,
    load_discretization,
)
from onmanifold.priors.scene import scene_of
from tanks_parts import cases, regret, scenes, scoring, simulation
from tanks_parts.methods import Found, independent, linear
from tanks_parts.shapes import FAMILIES, FAR, UNSEEN, gap, inside, make_shape, simple, spaced

NUMBERS = range(24)  # each number of objects with each kind of scene, twice


@cache
def made():
    return [scenes.make_scene(number) for number in NUMBERS]


# Shapes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [*FAMILIES, *UNSEEN, *FAR])
def test_shapes_are_simple_of_the_disks_area_and_centred(family):
    where = np.random.default_rng(0).uniform(-3, 3, (20_000, 2)) @ [1, 1j]
    for seed in range(5):
        shape = make_shape(family, np.random.default_rng(seed))
        assert all(simple(ring) for ring in shape)
        within = inside(shape, where)
        assert within.mean() * 36 == pytest.approx(np.pi, rel=0.06)
        middle = where[within].mean()
        assert max(abs(middle.real), abs(middle.imag)) < 0.1


def test_gap_of_polygons():
    square = np.array([0, 1, 1 + 1j, 1j])
    assert gap((square,), (square + 1.5 + 0.2j,)) == pytest.approx(0.5)
    assert gap((square,), (0.2 * square + 0.4 + 0.4j,)) == pytest.approx(-0.4)  # within
    bar = spaced(3.0 * (square.real - 0.5) + 0.2j * (square.imag - 0.5))
    assert gap((bar,), (1j * bar,)) == pytest.approx(-0.1)  # crossing


# Scenes -------------------------------------------------------------------------------------------


def test_scenes_hold_separate_objects_of_real_sizes():
    for scene in made():
        assert 1 <= len(scene.bodies) <= 4
        for k, body in enumerate(scene.bodies):
            assert 0.14 <= body.radius <= 0.4 and body.reach < 1 - 0.99 * scenes.REACH[0]
            contrast = (1e-3, 2e-2) if body.kind == scenes.RESISTIVE else (30, 300)
            assert contrast[0] <= body.contrast <= contrast[1]
            assert all(gap(body.rings, other.rings) > 0 for other in scene.bodies[:k])
    assert {len(scene.bodies) for scene in made()} == {1, 2, 3, 4}


def test_a_third_of_the_scenes_is_close():
    kinds = [scene.kind for scene in made()]
    assert kinds.count("apart") == 16 and {"touching", "wall"} <= set(kinds)
    for scene in made():
        gaps = [gap(a.rings, b.rings) for k, a in enumerate(scene.bodies) for b in scene.bodies[:k]]
        to_wall = 1 - max(body.reach for body in scene.bodies)
        assert (min(gaps, default=1.0) < 1.01 * scenes.FILM) == (scene.kind == "touching")
        assert (to_wall < scenes.APART * 0.99) == (scene.kind == "wall")


def test_half_of_the_objects_are_of_unseen_families():
    families = [body.family for scene in made() for body in scene.bodies]
    assert 0.35 < np.mean([family in UNSEEN for family in families]) < 0.65


def test_harder_scenes():
    harder = [scenes.make_scene(scenes.HARDER + k) for k in range(18)]
    bodies = [body for scene in harder for body in scene.bodies]
    assert {len(scene.bodies) for scene in harder} == {3, 4, 5}
    assert 0.3 < np.mean([body.family in FAR for body in bodies]) < 0.7
    missing = np.exp(1j * np.deg2rad(ktc.tank().angles[: scenes.MISSING]))
    for scene in harder:
        first = scene.bodies[0].rings[0]
        assert (np.abs(first).max() > 1 - scenes.APART * 0.99) == (scene.kind != "apart")
        if scene.kind == "hidden":
            alone = scene._replace(bodies=scene.bodies[:1]).labels() > 0
            rows, columns = alone.nonzero()
            middle = columns.mean() - 127.5 + 1j * (127.5 - rows.mean())
            assert np.abs(middle / abs(middle) - missing).min() < 0.05


def test_the_true_scene_has_every_object_where_it_is():
    scene = scenes.make_scene(scenes.HARDER)
    case = case_of(scene, None, None)._replace(name=f"scene-{scene.number}")
    prior = tank_prior()
    point = regret.true_scene(case, prior)
    assert scene_of(prior).counts[int(point.chart)] == scene.counts
    x = prior.decode(point)[0, :2]
    truth = ktc.image(scene.labels(), 256)[0]
    for mask, sign in zip(x, (-1, 1), strict=True):
        fine = torch.nn.functional.interpolate(mask[None, None], (256, 256), mode="bilinear")[0, 0]
        there, found = truth == sign, fine > 0.5
        assert (there & found).sum() > 0.75 * (there | found).sum()


def test_what_a_search_lost():
    assert regret.Regret("", 1, False, -3.0, -1.0, (True, True), 0).lost == 2.0
    assert regret.Regret("", 1, False, -1.0, -3.0, (True, True), 0).lost == 0.0


def test_scenes_and_tanks_come_again():
    assert scenes.make_scene(8).labels().tobytes() == made()[8].labels().tobytes()
    assert scenes.make_scene(8).labels().tobytes() != made()[9].labels().tobytes()
    first, again = simulation.make_tank(8), simulation.make_tank(8)
    assert np.array_equal(first.edges, again.edges) and first.bad == again.bad
    assert torch.equal(first.instrument.common, again.instrument.common)


def test_electrodes_keep_apart():
    for number in NUMBERS:
        edges = simulation.make_tank(number).edges
        assert (np.roll(edges[:, 0], -1)[:-1] - edges[:-1, 1] > 1.0).all()


# Voltages and labels ------------------------------------------------------------------------------


@cache
def ideal_voltages():
    """A scene in a tank as it is described, read by a perfect instrument."""
    pytest.importorskip("gmsh", exc_type=ImportError)
    tank = simulation.TrueTank(
        edges=ktc.tank().angles[:, None] + 5.625 * np.array([-0.5, 0.5]),
        impedances=np.full(32, 1e-6),
        water=0.8,
        drift=0.0,
        instrument=Instrument.ideal(ktc.protocol()),
        bad=1,  # it carries no current
    )
    return simulation.simulate_scene(made()[4], tank, finer=0.4)


def test_labels_lie_where_the_voltages_say():
    reference, measured = ideal_voltages()
    labels = made()[4].labels()
    areas = {kind: sum(b.radius**2 for b in made()[4].bodies if b.kind == kind) for kind in (1, 2)}
    for kind, area in areas.items():
        assert (labels == kind).mean() * 4 / np.pi == pytest.approx(area, rel=0.01)
    operator = EIT(
        ktc.tank(),
        ktc.protocol(),
        (1, 256, 256),
        conductivity=Labels(0.008, 0.8, 80.0),
        reference=reference,
    )
    images = [labels, labels[::-1], labels[:, ::-1], labels.T]
    x = torch.stack([ktc.image(image.copy(), 256) for image in images])
    off = (operator.A(x) - measured).flatten(1).norm(dim=1) / (measured - reference).norm()
    assert off[0] < 0.1 and bool((off[1:] > 0.5).all())


def test_linear_method_finds_the_objects():
    voltages = [Measurement.from_values(ktc.protocol(), v) for v in ideal_voltages()]
    case = case_of(made()[4], *voltages)
    coarse = load_discretization("coarse", ktc.tank())
    parts = ("conductivity", "common")
    fitted = calibrate(ktc.tank(), case.reference, mesh=coarse, fit=parts)
    tank = CalibratedTank(case.reference, fitted, coarse, coarse, ())
    found = linear(tank, case.measurement, independent(tank, case.measurement))["linear"]
    assert scoring.compare(found, case, 1, "linear", 0.0).score > 0.5
    assert found.probabilities.sum(axis=0) == pytest.approx(1.0)
    assert found.probabilities.min() >= 0
    swapped = np.array([0, 2, 1])[found.labels]
    assert ktc.score(swapped, case.truth) < 0.3


# Cases and records --------------------------------------------------------------------------------


def case_of(scene, reference=None, measured=None):
    whole = Measurement.from_values(ktc.protocol(), np.arange(76.0 * 31).reshape(76, 31))
    return cases.Case(
        "scene-000",
        scene.kind,
        reference or whole,
        measured or whole,
        scene.labels(),
        scene.counts,
        (29, 30),
    )


def test_cases_are_kept_and_cut_to_levels(tmp_path, monkeypatch):
    voltages = torch.arange(76 * 31, dtype=torch.float64).view(76, 31)
    monkeypatch.setattr(cases, "simulate_scene", lambda scene, tank: (voltages, 2 * voltages))
    cases.load_cases(tmp_path, range(2))
    monkeypatch.setattr(cases, "simulate_scene", None)  # nothing is made twice
    first, second = cases.load_cases(tmp_path, range(2))
    assert first.name == "scene-000" and second.objects == made()[1].counts
    assert np.array_equal(second.truth, made()[1].labels())
    assert first.measurement.protocol == ktc.protocol()
    assert torch.equal(first.reference.voltages, voltages)
    cut = first.at(7)
    assert int(cut.measurement.mask.sum()) == 513 and bool(cut.reference.mask.all())
    assert not cut.measurement.voltages[~cut.measurement.mask].any()


def test_the_truth_scores_one_and_water_does_not():
    for scene in made()[:12]:
        case = case_of(scene)
        right = np.eye(3)[case.truth].transpose(2, 0, 1)
        score = scoring.compare(Found(case.truth, right, scene.counts), case, 1, "truth", 0.0)
        assert score.score == 1.0 and score.counted and scoring.deviation([score]) == 0.0
        water = scoring.compare(Found(0 * case.truth), case, 1, "water", 0.0)
        assert water.score < 0.9 and not water.counted and np.isnan(scoring.deviation([water]))


def test_objects_are_counted_as_the_method_says():
    touching = next(s for s in made() if s.kind == "touching" and len(s.bodies) > 2)
    case = case_of(touching)
    for objects, right in (
        (touching.counts, True),
        (touching.counts[::-1], touching.counts[0] == touching.counts[1]),
        (None, True),  # components, which are those of the truth
    ):
        found = Found(case.truth, objects=objects)
        assert scoring.compare(found, case, 1, "some", 0.0).counted == right


def test_reliability_finds_a_method_that_is_too_sure():
    truth = np.zeros((256, 256), np.uint8)
    truth[:, 128:] = 1
    half = np.stack([np.full(truth.shape, p) for p in (0.85, 0.15, 0.0)])
    bins = scoring.reliability(half, truth)
    share = bins[2] / np.maximum(bins[0], 1)
    assert share[[1, 8]] == pytest.approx([0.5, 0.5]) and share[0] == 0
    score = scoring.compare(Found(truth, half), case_of(made()[0]), 1, "half", 0.0)
    assert scoring.deviation([score._replace(bins=bins)]) == pytest.approx(0.35)


def test_a_run_is_taken_up_where_it_ended(tmp_path, capsys, monkeypatch):
    asked = []

    def water(tank, measurement, fidelity):
        asked.append(int(measurement.mask.sum()))
        found = Found(np.zeros((256, 256), np.uint8))
        return {"water": found, "water-other": found}

    monkeypatch.setitem(scoring.METHODS, "water", water)
    monkeypatch.setitem(scoring.DATA_TERMS, "none", lambda tank, measurement: None)
    monkeypatch.setattr(scoring, "calibrated", lambda reference: None)
    options = (["water"], "none", [case_of(made()[0])])
    for levels, sizes in (([1, 7], [2356, 513]), ([1, 4, 7], [1200]), ([1, 4, 7], [])):
        asked.clear()
        found = scoring.run(tmp_path, *options, levels, 1)
        assert asked == sizes and [r.level for r in found] == [n for n in levels for _ in range(2)]
    assert {r.method for r in found} == {"water (none)", "water-other (none)"}
    capsys.readouterr()
    scoring.summary(found)
    scoring.calibration(found)
    assert capsys.readouterr().out.count("water (none)") == 3
