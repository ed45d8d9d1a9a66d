"""Figures of solutions: the panels and numbers that were asked for."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from analytic_priors import Affine, Circle, Sine
from plot_cases import FLOAT, Images, random

from onmanifold import Gaussian, MaxSteps, OutsideDomain, Status, solve
from onmanifold.operator import CallableOperator
from onmanifold.plot import draw, plot_solution
from onmanifold.plot.drawing import limits
from onmanifold.posterior import laplace


def axes():
    from matplotlib.figure import Figure

    return Figure().add_subplot()


def panels(figure):
    return [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]


def image(ax):
    return np.ma.filled(ax.images[0].get_array(), np.nan)


def same(values, tensor):
    return np.array_equal(values, tensor.numpy(), equal_nan=True)


@pytest.fixture(scope="module")
def images():
    return solve(lambda x: x.flatten(1), random(3, 24), Images())


# One tensor ---------------------------------------------------------------------------------------


def test_a_vector_is_a_curve():
    ax = axes()
    x = torch.tensor([1.0, torch.nan, 3.0])
    assert draw(ax, x, min=0.0, max=4.0) is None
    assert same(ax.lines[0].get_ydata(), x)
    assert ax.get_ylim() == pytest.approx((-0.2, 4.2))
    draw(axes(), torch.full((4,), torch.nan))
    draw(axes(), torch.ones(()))


@pytest.mark.parametrize("shape", [(5, 7), (1, 5, 7), (1, 1, 5, 7)])
def test_a_matrix_is_an_image(shape):
    ax = axes()
    x = random(*shape)
    x.view(5, 7)[2, 3] = torch.nan
    drawn = draw(ax, x, min=-1.0, max=2.0)
    assert same(image(ax), x.view(5, 7))
    assert drawn.get_clim() == (-1, 2)
    assert ax.get_aspect() == 1.0 and not ax.axison


def test_a_long_matrix_is_stretched():
    ax = axes()
    draw(ax, random(3, 40))
    assert ax.get_aspect() == "auto"


def test_three_channels_are_colours_on_the_given_scale():
    ax = axes()
    x = torch.stack([torch.full((4, 4), v) for v in (-1.0, 0.0, 3.0)])
    assert draw(ax, x, min=-1.0, max=1.0) is None
    assert np.array_equal(image(ax)[0, 0], [0.0, 0.5, 1.0])


def test_slices_stand_side_by_side():
    ax = axes()
    x = random(5, 4, 6)
    draw(ax, x)
    tiles = image(ax)
    assert tiles.shape == (2 * 4 + 1, 3 * 6 + 2)
    assert same(tiles[5:, 7:13], x[4]) and np.isnan(tiles[4]).all()
    assert np.isnan(tiles[5:, 14:]).all()


def test_limits_leave_out_what_is_not_finite():
    assert limits(torch.tensor([1.0, torch.nan]), None, torch.tensor(-3.0)) == {"min": -3, "max": 1}
    assert limits(torch.tensor(torch.inf)) == {}


# Panels -------------------------------------------------------------------------------------------


def test_a_row_for_each_measurement(images, tmp_path):
    figure = images.plot(rows=2)
    assert len(panels(figure)) == 2 * 3
    truth = images.x + 1
    figure = images.plot(truth)
    shown = panels(figure)
    last = "spread of the starts\n(no noise level, no uncertainty)"
    titles = ["truth", "measurement", "reconstruction", last]
    assert [ax.get_title() for ax in shown[:5]] == [*titles, ""]
    for b in range(3):
        true, measured, found, spread = shown[4 * b : 4 * b + 4]
        assert same(image(true), truth[b, 0]) and same(image(found), images.x[b, 0])
        assert same(measured.lines[0].get_ydata(), images.measurement[b])
        assert same(image(spread), images.spread()[b, 0])
        low, high = true.images[0].get_clim()
        assert (low, high) == found.images[0].get_clim()
        assert low == images.x[b].min() and high == truth[b].max()
    figure.savefig(tmp_path / "solution.png")


def test_a_standard_deviation_replaces_the_spread(images):
    std = random(*images.x.shape)
    last = panels(images.plot(std=std, rows=1))[-1]
    assert last.get_title() == "standard deviation"
    assert same(image(last), std[0, 0])
    assert last.images[0].get_clim() == (0, std[0].max())


def test_the_last_column_is_laplaces_standard_deviation():
    s = solve(lambda x: x.flatten(1), random(2, 24), Images(), fidelity=Gaussian(0.3))
    shown = panels(s.plot())
    std = laplace(s).std()
    assert [ax.get_title() for ax in shown[2::3]] == ["standard deviation", ""]
    for b, ax in enumerate(shown[2::3]):
        np.testing.assert_allclose(image(ax), std[b, 0].numpy(), rtol=1e-6)
    assert std.mean() > 10 * s.spread().mean()  # which was shown, and read as uncertainty


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "no noise level"),
        ({"fidelity": Gaussian(0.3), "prior_weight": 0.5}, "prior_weight is not 1"),
        ({"fidelity": Gaussian(0.3), "stop": MaxSteps(1)}, "no start at rest"),
    ],
)
def test_without_laplace_the_title_says_that_it_is_no_uncertainty(arguments, reason, tmp_path):
    s = solve(lambda x: x.flatten(1), random(1, 24), Images(), **arguments)
    title = f"spread of the starts\n({reason}, no uncertainty)"
    assert panels(s.plot())[2].get_title() == title
    s.save(tmp_path / "s")
    loaded = type(s).load(tmp_path / "s").plot()
    assert "stored solution, no uncertainty" in panels(loaded)[2].get_title()


def test_rows_without_laplace_say_so_themselves():
    s = solve(lambda x: x.flatten(1), random(2, 24), Images(), fidelity=Gaussian(0.3))
    failed = s.final_points.status.clone()
    failed[1] = Status.MAX_STEPS
    s = replace(s, final_points=replace(s.final_points, status=failed))
    titles = [ax.get_title() for ax in panels(s.plot())[2::3]]
    assert titles[0] == "standard deviation" and "no start at rest" in titles[1]


def test_what_is_inconsistent_has_a_frame_and_its_p_value():
    y = random(2, 24)
    y[1] += 20 * random(24)
    s = solve(lambda x: x.flatten(1), y, Images(), fidelity=Gaussian(1.0))
    good, bad = panels(s.plot())[1::3]
    assert s.consistent.tolist() == [True, False]
    assert not good.patches and len(bad.patches) == 1
    assert bad.get_title() == f"inconsistent with the noise, p = {s.p_value[1]:.2g}"


def test_a_notebook_shows_a_figure_by_itself():
    s = solve(lambda x: x.flatten(1), random(1, 24), Images(), trajectory=True)
    for figure in (s.plot(), s.plot_convergence(), s.plot_path()):
        assert figure._repr_png_()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )


def test_what_did_not_converge_is_marked():
    s = solve(lambda x: x.flatten(1), random(2, 24), Images(), stop=MaxSteps(1))
    titles = [ax.get_title() for ax in panels(s.plot())]
    assert titles[1] == "reconstruction\nMAX_STEPS" and titles[4] == "MAX_STEPS"


def test_missing_entries_are_blank():
    y, mask = random(1, 6, 4), random(6, 4) < 0.5
    s = solve(lambda x: x[:, 0], y, Images(), fidelity=Gaussian(0.1, mask=mask))
    assert same(image(panels(s.plot())[0]), y[0].where(mask, torch.nan))


@pytest.mark.parametrize(("prior", "dim"), [(Circle(), 2), (Sine(), 3)])
def test_points_stand_in_a_cloud(prior, dim):
    s = solve(lambda x: 2 * x, torch.ones(1, dim, dtype=FLOAT), prior)
    figure = s.plot(std=torch.full_like(s.x, 0.5))
    measured, found, std = panels(figure)
    assert (found.name == "3d") == (dim == 3)
    for ax, point in ((measured, s.measurement[0]), (found, s.x[0])):
        drawn = ax.lines[0].get_data_3d() if dim == 3 else ax.lines[0].get_data()
        assert np.array_equal(np.concatenate(drawn), point.numpy())
    if dim == 2:  # samples lie on the circle, their images on that of twice the radius
        for ax, radius in ((found, 1), (measured, 2)):
            cloud = ax.collections[0].get_offsets()
            assert len(cloud) > 100 and np.allclose(np.hypot(*cloud.T), radius)
    bars = [line.get_data_3d() if dim == 3 else line.get_data() for line in std.lines[1:]]
    assert len(bars) == dim
    for axis, bar in enumerate(bars):
        ends = [s.x[0, axis].item() + shift for shift in (-0.5, 0.5)]
        assert list(bar[axis]) == pytest.approx(ends)


def test_points_of_a_solution_that_does_not_know_its_problem(tmp_path):
    s = solve(lambda x: x, torch.ones(2, 2, dtype=FLOAT), Circle())
    s.save(tmp_path / "s")
    cloud = panels(type(s).load(tmp_path / "s").plot(rows=1))[1].collections[0].get_offsets()
    assert np.array_equal(cloud, s.x.numpy())


def test_points_measured_by_an_operator_that_refuses_samples():
    def A(x):
        outside = x[:, 0] < -0.5
        if outside.any():
            raise OutsideDomain("left", outside)
        return x

    s = solve(A, torch.ones(1, 2, dtype=FLOAT), Circle(), starts=2)
    measured, found, _ = panels(s.plot())
    assert len(measured.lines) == 1 and not measured.collections and found.collections


class Drawn(CallableOperator):
    """Says how its unknowns, numbers of triangles, and its data are drawn."""

    label_x = "S/m"

    def draw_x(self, ax, x, **scale):
        corners = [0, 1, 1, 0], [0, 0, 1, 1]
        shown = {"vmin": scale["min"], "vmax": scale["max"], "cmap": scale.get("cmap", "gray")}
        return ax.tripcolor(*corners, [[0, 1, 2], [0, 2, 3]], facecolors=x.numpy(), **shown)

    def draw_y(self, ax, y, **scale):
        ax.bar(range(len(y)), y.numpy())


def test_an_operator_draws_its_own():
    prior = Affine(dim=1, size=2)
    operator = Drawn(lambda x: x @ torch.ones(2, 4, dtype=FLOAT), (2,), torch.zeros(1, 2).to(FLOAT))
    s = solve(operator, torch.ones(1, 4, dtype=FLOAT), prior)
    figure = s.plot(truth=s.x)
    true, measured, found, spread = panels(figure)
    assert len(measured.patches) == 4
    for ax in (true, found, spread):
        assert len(ax.collections) == 1
    assert np.array_equal(found.collections[0].get_array(), s.x[0])
    bars = [ax for ax in figure.axes if ax not in panels(figure)]
    assert [bar.get_ylabel() for bar in bars] == ["S/m"] * 2  # beside reconstruction and spread


@pytest.mark.parametrize("name", ["truth", "std"])
def test_other_shapes_are_refused(images, name):
    with pytest.raises(ValueError, match=f"{name} has shape"):
        images.plot(**{name: torch.ones(3, 3)})
    with pytest.raises(ValueError, match="rows has to be at least 1"):
        plot_solution(images, rows=0)


def test_a_reconstruction_that_is_not_finite_is_drawn():
    s = solve(lambda x: x * torch.nan, torch.zeros(1, 1, 6, 4, dtype=FLOAT), Images())
    s.plot(s.x).draw_without_rendering()
    s.plot_convergence().draw_without_rendering()
