"""Scenes of objects: placing, density, jumps, and the number of objects by evidence."""

import math
from dataclasses import asdict

import numpy as np
import pytest
import torch

from onmanifold import Gaussian, MaxSteps, Point, SmallDecrease, load_prior, simulate, solve
from onmanifold.autodiff import value_and_columns
from onmanifold.geometry import locate
from onmanifold.operators import Blur, gaussian_kernel
from onmanifold.posterior import explore, find_posterior, laplace
from onmanifold.priors.nuisance import MeasurementParameters
from onmanifold.priors.scene import (
    Arrangement,
    RadialOutlines,
    Scene,
    count_probabilities,
    displaced_masks,
)
from onmanifold.priors.scene.placement import Placement
from onmanifold.priors.scene.recognition import split_at_necks
from onmanifold.testing import check_prior

DOUBLE = torch.float64


def small(kinds=2, size=48, counts=(0.1, 0.4, 0.3, 0.2), orders=4):
    return Scene(RadialOutlines(orders), kinds, size, Arrangement(counts=counts)).double().eval()


def disk(scene, x, y, radius):
    block = torch.zeros(scene.block, dtype=DOUBLE)
    block[0], block[1] = x, y
    block[2] = scene.arrangement.size_coordinate(torch.tensor(radius, dtype=DOUBLE))
    return block


@pytest.mark.parametrize("kinds", [1, 2])
def test_the_checks_of_a_prior(kinds):
    arrangement = Arrangement(counts=(0.1, 0.5, 0.4))
    check_prior(Scene(RadialOutlines(4), kinds, 32, arrangement).eval(), n=3)


@pytest.mark.slow
def test_the_checks_of_a_scene_of_learned_outlines():
    arrangement = Arrangement(counts=(0.1, 0.5, 0.4))
    check_prior(Scene(load_prior("outline"), 1, 32, arrangement).eval(), n=3)


def test_an_image_near_a_point_is_found_with_the_objects_in_the_points_order():
    scene = MeasurementParameters(small(1), [0.05]).double()
    blocks = [disk(scene.prior, -0.4, 0.0, 0.2), disk(scene.prior, 0.4, 0.1, 0.3)]  # smallest first
    start = scene.extend(scene.prior.points([[(0, block) for block in blocks]]))
    there = start.at(start.z + 0.02 * scene.active(start.chart))
    found = scene.encode_near(scene.decode(there), start)
    torch.testing.assert_close(found.z, there.z, rtol=0, atol=1e-6)


def test_displaced_masks_are_those_of_edges_that_move():
    """A disk whose edge moves by one length everywhere is a larger disk."""
    scene = small(size=96)
    block, larger = disk(scene, 0.2, -0.1, 0.3), disk(scene, 0.2, -0.1, 0.303)
    other = disk(scene, -0.5, 0.5, 0.2)
    point = scene.points([[(0, other), (1, block)]])
    factor = displaced_masks(scene, point, 0.01, 50.0)  # one length for the whole edge
    change = scene.decode(scene.points([[(0, other), (1, larger)]])) - scene.decode(point)
    moved = factor[factor[:, 1].flatten(1).norm(dim=1).argmax()]
    moved = moved * moved[1].sum().sign()
    assert (moved - change[0]).norm() < 0.2 * change.norm()  # slopes are differences of pixels
    assert not factor[:60, 1].any() and not factor[60:, 0].any()
    variance = displaced_masks(scene, point, 0.01, 0.2).square().sum(0)
    same = displaced_masks(scene, point, 0.01, 50.0).square().sum(0)
    torch.testing.assert_close(variance, same, rtol=0, atol=0.05 * float(same.max()))


def test_a_scene_without_objects_has_no_displaced_masks():
    scene = small()
    assert displaced_masks(scene, scene.points([[]]), 0.1, 0.2).shape == (0, 2, 48, 48)


@pytest.mark.parametrize("step", [(-100, 0), (0, 56), (96, -90)])
def test_a_region_at_the_border_has_the_code_of_the_same_region_elsewhere(step):
    """The square of an outline reaches beyond the image there."""
    scene = Scene(load_prior("outline"), 1, 64)
    region = torch.zeros(256, 256, dtype=torch.bool).numpy()
    region[100:160, 90:170] = region[100:130, 150:200] = True
    moved = np.roll(region, step, axis=(0, 1))
    inside, at_border = scene.fit(region), scene.fit(moved)
    torch.testing.assert_close(at_border[2:], inside[2:], rtol=0, atol=1e-4)


def test_an_outline_is_placed_where_it_should_be_and_as_large():
    place = Placement(side=40, size=128, edge=0.5)
    outline = RadialOutlines().double().decode_chart(torch.zeros(1, 8, dtype=DOUBLE), 0)[:, 0]
    centre, radius = torch.tensor([[0.3, -0.4]], dtype=DOUBLE), torch.tensor([0.25], dtype=DOUBLE)
    mask = place(outline, centre, radius)[0]
    pixels = (torch.arange(128, dtype=DOUBLE) + 0.5) * 2 / 128 - 1
    assert abs(mask.sum() * (2 / 128) ** 2 / (math.pi * 0.25**2) - 1) < 0.02
    assert abs((mask.sum(0) * pixels).sum() / mask.sum() - 0.3) < 1e-3
    assert abs((mask.sum(1) * -pixels).sum() / mask.sum() + 0.4) < 1e-3  # row 0 on top


def test_columns_by_objects_are_those_of_differentiation():
    scene = MeasurementParameters(small(), [0.05]).double()
    for k in range(0, scene.num_charts, 3):
        z = 0.4 * torch.randn(
            2, scene.chart_dims[k], generator=torch.Generator().manual_seed(k), dtype=DOUBLE
        )
        by_hand = value_and_columns(lambda t, k=k: scene.decode_chart(t, k), z)
        assert torch.allclose(scene.columns_chart(z, k), by_hand, atol=1e-12)


def test_masks_of_two_kinds_are_disjoint_the_later_kind_on_top():
    """Or else one kind would cut holes into the other, and both together were taken for water."""
    scene = small()
    under, over = disk(scene, 0.0, 0.0, 0.3), disk(scene, 0.2, 0.0, 0.2)
    both = scene.points([[(0, under), (1, over)]])
    alone = scene.points([[(1, over)]])
    x, top = (scene.decode(p)[0] for p in (both, alone))
    assert torch.equal(x[1], top[1])
    assert x.sum(0).max() <= 1 + 1e-12
    assert x[0][x[1] > 0.99].max() < 0.01
    hidden = scene.points([[(0, over), (1, under)]])
    assert scene.decode(hidden)[0, 0].sum() < 0.5 * top[1].sum()


def test_the_density_of_lists_is_that_of_charts():
    scene = MeasurementParameters(small(), [0.05]).double()
    point = scene.sample(40, 0)
    by_chart = scene.map_charts(scene.log_prob_chart, point)
    assert len(set(point.chart.tolist())) > 4
    assert torch.allclose(scene.log_prob(point), by_chart, atol=1e-10)


def test_masses_of_charts_are_those_of_numbers_and_kinds():
    """Each chart's density, integrated over lists in any order, is its frequency times those orders."""
    scene = small()
    source = torch.Generator().manual_seed(1)
    total = sum(scene.arrangement.counts)
    for k, counts in enumerate(scene.counts):
        n = sum(counts)
        if n == 0:
            continue
        centre, t = scene.arrangement.independent(20_000, n, source)
        code = torch.randn(20_000, n, scene.outlines.dim, generator=source, dtype=DOUBLE)
        z = torch.cat([centre, t[..., None], code], dim=2).flatten(1)
        normal = -0.5 * (t.square() + math.log(2 * math.pi)).sum(1)
        drawn = (
            normal
            - n * math.log(math.pi)
            + RadialOutlines(4).log_prob_chart(code.flatten(0, 1), 0).view(-1, n).sum(1)
        )
        mass = (scene.log_prob_chart(z, k) - drawn).exp().mean()
        wanted = scene.arrangement.counts[n] / total * math.factorial(n) / scene.kinds**n
        assert abs(mass / wanted - 1) < 0.05


def test_samples_do_not_overlap_and_come_in_the_frequencies_asked_for():
    scene = small(counts=(0.2, 0.3, 0.5))
    points = scene.sample(2000, 0)
    numbers = torch.tensor([sum(c) for c in scene.counts])[points.chart]
    share = torch.bincount(numbers) / 2000
    assert torch.allclose(share, torch.tensor([0.2, 0.3, 0.5]), atol=0.04)
    two = points.z[numbers == 2].view(-1, 2, scene.block)
    energy = scene.arrangement.energy(two[..., :2], scene.arrangement.size(two[..., 2]))
    assert energy.median() < 0.1 and energy.max() < 20


def test_a_mask_ends_where_the_image_of_its_outline_ends():
    place = Placement(side=40, size=64)
    outline = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0)) * 2 - 1
    centre, radius = torch.tensor([[0.1, -0.2]]), torch.tensor([0.05])  # small: its edge is soft
    both = place.with_derivatives(outline, centre, radius)[0]
    pixels = place.pixels.float()
    far = ((pixels - 0.1).abs() > 0.14)[None] | ((pixels - 0.2).abs() > 0.14)[:, None]
    assert far.any() and not far.all()
    assert (both[0][far] == 0).all() and both[0].max() > 0.1
    assert both[1:, far].abs().max() < 1e-6 * both[1:].abs().max()
    torch.testing.assert_close(both[0], place(outline[:, 0], centre, radius)[0])
    assert place(torch.ones(1, 40, 40), centre, radius).max() > 0.95


def test_jumps_lead_to_the_charts_that_they_say():
    scene = small()
    objects = [(0, disk(scene, -0.4, 0.0, 0.3)), (1, disk(scene, 0.5, 0.1, 0.2))]
    found = scene.jumps(scene.points([objects]))
    counts = {move: {scene.counts[k] for k in p.chart.tolist()} for move, p in found.items()}
    assert counts == {
        "birth 0": {(2, 1)},
        "birth 1": {(1, 2)},
        "death": {(0, 1), (1, 0)},
        "split": {(2, 1), (1, 2)},
        "plain": {(1, 1)},
        "kind": {(0, 2), (2, 0)},
    }
    born = found["birth 0"]
    apart = (born.z[:, scene.block : scene.block + 2] - torch.tensor([-0.4, 0.0])).norm(dim=1)
    assert apart.min() > 0.25  # none inside an object that is there
    for point in (found["split"].select(torch.tensor([0])), found["death"]):
        assert torch.isfinite(scene.decode(point)).all()


def test_two_that_touch_may_be_one():
    scene = small()
    objects = [(0, disk(scene, -0.2, 0.0, 0.2)), (0, disk(scene, 0.2, 0.0, 0.2))]
    merged = scene.jumps(scene.points([objects]))["merge"]
    (kind, block), *rest = scene.objects(merged.z[0], int(merged.chart[0]))
    assert not rest and kind == 0
    assert block[:2].norm() < 0.05
    area = scene.arrangement.size(block[2]) ** 2
    assert abs(area / (2 * 0.2**2) - 1) < 0.1


def test_two_that_are_near_are_divided_anew():
    """Where a long object and a short one were mistaken for two of other shapes, along the other axis."""
    scene = small()
    objects = [(0, disk(scene, -0.2, 0.1, 0.2)), (0, disk(scene, 0.2, -0.1, 0.2))]
    start = scene.points([objects])
    anew = scene.jumps(start)["divide"]
    assert set(anew.chart.tolist()) == set(start.chart.tolist())
    centres = anew.z[:, : 2 * scene.block].unflatten(1, (2, scene.block))[..., :2]
    assert len(centres) == 2
    along, across = centres[:, 0] - centres[:, 1]
    assert abs(along @ across) < 0.2 * along.norm() * across.norm()
    assert along.norm() > 0.3


def test_an_outline_may_be_forgotten():
    scene = small()
    point = scene.sample(1, 4)
    objects = scene.objects(point.z[0], int(point.chart[0]))
    plain = scene.jumps(point)["plain"]
    assert len(plain) == len(objects) > 1
    for i, z in enumerate(plain.z):
        for j, (_, block) in enumerate(scene.objects(z, int(point.chart[0]))):
            assert torch.equal(block[:3], objects[j][1][:3])
            assert bool(block[3:].any()) == (i != j)


def test_one_in_the_notch_of_another_may_be_a_part_of_it():
    """An object of another kind near by is joined to either: each may be the one that is not there."""
    scene = small()
    objects = [(0, disk(scene, -0.15, 0.0, 0.2)), (1, disk(scene, 0.15, 0.0, 0.15))]
    merged = scene.jumps(scene.points([objects]))["merge"]
    assert {scene.counts[k] for k in merged.chart.tolist()} == {(1, 0), (0, 1)}


def test_objects_are_read_off_an_image():
    scene = small()
    objects = [(0, disk(scene, -0.4, 0.0, 0.3)), (1, disk(scene, 0.5, 0.1, 0.2))]
    point = scene.points([objects])
    x = scene.decode(point)
    assert torch.equal(scene.segment(x).chart, point.chart)
    assert (scene.encode(x, point.chart).z - point.z).abs().max() < 1e-6
    with pytest.raises(ValueError, match="x"):
        scene.segment(x[:, :1])


def test_objects_that_touch_are_read_as_one_and_located_one_by_one():
    scene = small()
    objects = [(0, disk(scene, x, 0.1, 0.2)) for x in (-0.4, 0.0, 0.4)]
    point = scene.points([objects])
    x = scene.decode(point)
    assert scene.counts[int(scene.segment(x).chart)] == (1, 0)
    found = locate(scene, x)
    assert scene.counts[int(found.chart)] == (3, 0)
    torch.testing.assert_close(scene.decode(found), x, rtol=0, atol=1e-6)


def test_parameters_change_nothing_of_where_objects_are_located():
    scene = small(counts=(0.1, 0.4, 0.3))
    prior = MeasurementParameters(scene, [0.05]).double()
    assert prior.locate_misses == scene.locate_misses > 0
    point = prior.sample(6, 2)
    found = locate(prior, prior.decode(point))
    inner = locate(scene, prior.decode(point)[:, :2])
    assert torch.equal(found.chart, inner.chart)
    x, other = prior.decode(found), scene.decode(inner)
    torch.testing.assert_close(x[:, :2], other, rtol=0, atol=1e-4)
    torch.testing.assert_close(x[:, 2], prior.decode(point)[:, 2])


def test_a_region_is_cut_at_its_neck():
    row, column = torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij")
    near, far = ((row - 20) ** 2 + (column - c) ** 2 < r * r for c, r in ((12, 9), (28, 6)))
    one, other = sorted(split_at_necks((near | far).numpy()), key=lambda part: -part.sum())
    assert (one | other == (near | far).numpy()).all() and not (one & other).any()
    assert (one & ~near.numpy()).sum() < 0.1 * other.sum()
    assert split_at_necks(near.numpy()) == []


def test_what_ships_is_built_of_the_outlines_that_ship():
    scene, outlines = load_prior("scene"), load_prior("outline")
    assert scene.kinds == 2 and scene.x_shape == (2, 96, 96)
    held = scene.outlines.state_dict()
    assert len(held) > 10  # the decoder's error is not among them
    for name, weight in held.items():
        assert torch.equal(outlines.state_dict()[name], weight), name


def test_parameters_stay_where_they_are_in_a_jump():
    scene = MeasurementParameters(small(), [0.05]).double()
    point = scene.sample(1, 4)
    d = scene.prior.chart_dims[int(point.chart[0])]
    for points in scene.jumps(point).values():
        used = torch.tensor([scene.prior.chart_dims[k] for k in points.chart.tolist()])
        kept = points.z.gather(1, used[:, None])
        assert torch.allclose(kept, point.z[:, d : d + 1].expand_as(kept))


@pytest.mark.parametrize("seed", [0, 1])
def test_evidence_finds_the_number_of_objects_in_a_blurred_image(seed):
    scene = small(kinds=1, size=32)
    objects = [(0, disk(scene, -0.45, 0.2, 0.25)), (0, disk(scene, 0.4, -0.3, 0.2))]
    truth = scene.points([objects])
    x = scene.decode(truth)
    operator = Blur(gaussian_kernel(9, 2.0), scene.x_shape)
    y = simulate(operator, x, 0.05, seed)
    start = Point(torch.zeros(1, dtype=torch.long), torch.zeros(1, scene.dim, dtype=DOUBLE))
    stop = MaxSteps(20) | SmallDecrease(1e-4)
    with pytest.warns(UserWarning, match="inconsistent"):  # by an empty scene
        empty = solve(operator, y, scene, fidelity=Gaussian(0.05), starts=start, stop=stop)
    posterior = explore(empty, patience=3)
    assert scene.counts[int(posterior.chart[0, 0])] == (2,)
    assert posterior.weights[0, 0] > 0.9
    assert posterior.consistent.all() and not empty.consistent.any()
    # the mode is the one that a descent from the truth ends in
    found = scene.decode(Point(posterior.chart[:, 0], posterior.mode[:, 0]))
    best = solve(operator, y, scene, fidelity=Gaussian(0.05), starts=truth).x
    assert (found - best).square().sum() / x.square().sum() < 1e-3
    assert (best - x).square().sum() / x.square().sum() < 0.022


def test_numbers_of_objects_have_probabilities_beside_nuisance_parameters():
    scene = small(kinds=2, size=24, counts=(0.2, 0.4, 0.4), orders=2)
    prior = MeasurementParameters(scene, [0.05]).double()
    objects = [(0, disk(scene, -0.45, 0.2, 0.3)), (1, disk(scene, 0.4, -0.3, 0.25))]
    x = prior.decode(prior.extend(scene.points([objects])))
    start = prior.extend(scene.points([objects[:1]]))
    options = {"fidelity": Gaussian(0.1), "starts": start, "patience": 1}
    (found,) = count_probabilities(find_posterior(lambda x: x, x, prior, **options))
    assert next(iter(found)) == (1, 1) and found[1, 1] > 0.9
    assert sum(found.values()) == pytest.approx(1)
    ring = load_prior("ring")
    solution = solve(lambda x: x, torch.tensor([[1.0, 0.1]]), ring, fidelity=Gaussian(0.1))
    with pytest.raises(TypeError, match="expected a prior of scenes"):
        count_probabilities(laplace(solution))


def test_the_search_goes_on_while_evidence_rises():
    scene = small(kinds=1, size=32)
    places = (-0.5, 0.3), (0.45, 0.35), (0.0, -0.5)
    truth = scene.points([[(0, disk(scene, x, y, 0.2)) for x, y in places]])
    operator = Blur(gaussian_kernel(9, 2.0), scene.x_shape)
    y = simulate(operator, scene.decode(truth), 0.05, 0)
    start = Point(torch.zeros(1, dtype=torch.long), torch.zeros(1, scene.dim, dtype=DOUBLE))
    with pytest.warns(UserWarning, match="inconsistent"):
        empty = solve(operator, y, scene, fidelity=Gaussian(0.05), starts=start)
    posterior = explore(
        empty, patience=1
    )  # a birth each: three rounds that gain, one that does not
    assert scene.counts[int(posterior.chart[0, 0])] == (3,)
    with pytest.raises(ValueError, match="explore: patience"):
        explore(empty, patience=0)


def test_where_there_are_no_jumps_laplace_is_named():
    ring = load_prior("ring")
    y = torch.tensor([[1.0, 0.1]])
    with pytest.raises(TypeError, match="laplace"):
        explore(solve(lambda x: x, y, ring, fidelity=Gaussian(0.1)))


def test_descents_stay_in_their_charts():
    scene = small(kinds=1, size=32)
    start = scene.sample(4, 2)
    y = torch.zeros(1, *scene.x_shape, dtype=DOUBLE)
    stop = MaxSteps(5) | SmallDecrease(1e-4)
    found = solve(lambda x: x, y, scene, fidelity=Gaussian(0.3), starts=start, stop=stop)
    assert sorted(found.final_points.chart[0].tolist()) == sorted(start.chart.tolist())
    assert laplace(found).weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("bad", [{"counts": (1.0,)}, {"counts": (1.0, -1.0)}, {"radius": 0.0}])
def test_arrangements_that_mean_nothing_are_refused(bad):
    with pytest.raises(ValueError, match="Arrangement"):
        Arrangement(**(asdict(Arrangement()) | bad))
