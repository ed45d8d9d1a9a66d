"""Pictures of solutions: the panels and numbers that were asked for."""

import numpy as np
import pytest
import torch
from analytic_priors import Affine, Circle, Sine, Sphere
from PIL import Image

from onmanifold import Gaussian, MaxSteps, OutsideDomain, RiemannianGradientDescent, solve
from onmanifold.operator import CallableOperator
from onmanifold.plot import draw, plot_solution
from onmanifold.plot.drawing import limits
from onmanifold.prior import Point

FLOAT = torch.float64


class Pictures(Sphere):
    """Decodes to pictures."""

    x_shape = (1, 6, 4)

    def decode_chart(self, z, chart):
        a, b = z[:, 0, None, None, None], z[:, 1, None, None, None]
        across, down = (torch.linspace(-1, 1, n, dtype=z.dtype) for n in (4, 6))
        return torch.exp(-((across - a) ** 2) - (down[:, None] - b) ** 2)

    def encode_chart(self, x, chart):
        raise NotImplementedError


def random(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=FLOAT)


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
def pictures():
    return solve(lambda x: x.flatten(1), random(3, 24), Pictures())


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
def test_a_matrix_is_a_picture(shape):
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


def test_a_row_for_each_measurement(pictures, tmp_path):
    figure = pictures.plot(rows=2)
    assert len(panels(figure)) == 2 * 3
    truth = pictures.x + 1
    figure = pictures.plot(truth)
    shown = panels(figure)
    titles = ["truth", "measurement", "reconstruction", "spread of the starts"]
    assert [ax.get_title() for ax in shown[:5]] == [*titles, ""]
    for b in range(3):
        true, measured, found, spread = shown[4 * b : 4 * b + 4]
        assert same(image(true), truth[b, 0]) and same(image(found), pictures.x[b, 0])
        assert same(measured.lines[0].get_ydata(), pictures.measurement[b])
        assert same(image(spread), pictures.spread()[b, 0])
        low, high = true.images[0].get_clim()
        assert (low, high) == found.images[0].get_clim()
        assert low == pictures.x[b].min() and high == truth[b].max()
    figure.savefig(tmp_path / "solution.png")


def test_a_standard_deviation_replaces_the_spread(pictures):
    std = random(*pictures.x.shape)
    last = panels(pictures.plot(std=std, rows=1))[-1]
    assert last.get_title() == "standard deviation"
    assert same(image(last), std[0, 0])
    assert last.images[0].get_clim() == (0, std[0].max())


def test_what_did_not_converge_is_marked():
    s = solve(lambda x: x.flatten(1), random(2, 24), Pictures(), stop=MaxSteps(1))
    titles = [ax.get_title() for ax in panels(s.plot())]
    assert titles[1] == "reconstruction\nMAX_STEPS" and titles[4] == "MAX_STEPS"


def test_missing_entries_are_blank():
    y, mask = random(1, 6, 4), random(6, 4) < 0.5
    s = solve(lambda x: x[:, 0], y, Pictures(), fidelity=Gaussian(0.1, mask=mask))
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
    assert len(figure.axes) == 4 + 2  # bars beside reconstruction and spread


@pytest.mark.parametrize("name", ["truth", "std"])
def test_other_shapes_are_refused(pictures, name):
    with pytest.raises(ValueError, match=f"{name} has shape"):
        pictures.plot(**{name: torch.ones(3, 3)})
    with pytest.raises(ValueError, match="rows has to be at least 1"):
        plot_solution(pictures, rows=0)


def test_a_reconstruction_that_is_not_finite_is_drawn():
    s = solve(lambda x: x * torch.nan, torch.zeros(1, 1, 6, 4, dtype=FLOAT), Pictures())
    s.plot(s.x).draw_without_rendering()
    s.plot_convergence().draw_without_rendering()


# Convergence --------------------------------------------------------------------------------------


def changing():
    """A descent on the circle that starts in one arc and ends in the other."""
    y = torch.tensor([[-1.0, 0.1], [1.0, 0.2]], dtype=FLOAT)
    start = Point(torch.tensor([0, 0]), torch.tensor([[1.2], [0.5]], dtype=FLOAT))
    options = {"method": RiemannianGradientDescent(), "trajectory": True}
    return solve(lambda x: x, y, Circle(), starts=start, **options)


def test_convergence_shows_the_history():
    s = changing()
    changes = s.history.chart[:, 0].diff().nonzero()[:, 0] + 1
    assert len(changes) == 1 and (s.history.chart[:, 1] == 0).all()
    figure = s.plot_convergence()
    objective, gradient, length, chart = figure.axes
    for b in range(2):
        steps = int(s.steps[b]) + 1
        gap = s.history.objective[:steps, b] - s.objective[b]
        line = objective.lines[2 * b].get_ydata()
        assert same(line, gap.where(gap > 0, torch.nan)) and len(line) == steps
        assert np.array_equal(gradient.lines[2 * b].get_ydata(), s.history.gradient_norm[:steps, b])
        marks = chart.lines[2 * b + 1].get_xdata().tolist()
        assert marks == (changes.tolist() if b == 0 else [])
    assert [ax.get_yscale() for ax in figure.axes] == ["log", "log", "log", "linear"]
    labels = [text.get_text() for text in figure.legends[0].texts]
    assert labels == [f"{b}: {s.status[b].name}" for b in range(2)] + ["change of chart"]


def test_convergence_of_some_measurements(pictures):
    figure = pictures.plot_convergence([2])
    labels = [text.get_text() for text in figure.legends[0].texts]
    assert labels == [f"2: {pictures.status[2].name}"]
    for bad, error in (([3], ValueError), ([-1], ValueError), ([], ValueError), ([0.5], TypeError)):
        with pytest.raises(error, match="measurement"):
            pictures.plot_convergence(bad)


# Path ---------------------------------------------------------------------------------------------


def test_a_path_on_the_curve_of_the_objective():
    s = changing()
    figure = s.plot_path(0, resolution=20)
    assert [ax.get_title() for ax in figure.axes] == ["chart 0", "chart 1"]
    for chart, ax in enumerate(figure.axes):
        z, height = ax.lines[0].get_data()
        assert (z[0], z[-1], len(z)) == (-2, 2, 200)
        x = Circle().decode_chart(torch.tensor(z)[:, None], chart)
        expected = 0.5 * (x - s.measurement[0]).square().sum(1)
        assert np.allclose(height, expected)
        steps = (s.history.chart[: int(s.steps[0]) + 1, 0] == chart).nonzero()[:, 0]
        assert np.array_equal(ax.lines[2].get_xdata(), s.history.z[steps, 0, 0])
        assert np.array_equal(ax.lines[2].get_ydata(), s.history.objective[steps, 0])
    labels = [text.get_text() for text in figure.legends[0].texts]
    assert labels == ["start", "end", "change of chart"]
    assert [ax.get_title() for ax in s.plot_path(1).axes] == ["chart 0"]


@pytest.mark.parametrize("box", [2.0, float("inf")])
def test_a_path_over_two_coordinates(box):
    prior = Affine(dim=3, size=5, box=box)
    y = torch.linspace(-1, 1, 5, dtype=FLOAT)[None]
    s = solve(lambda x: x, y, prior, fidelity=Gaussian(0.5), trajectory=True)
    calls = s.problem.counts.evaluations.clone()
    figure = s.plot_path(0, axes=(2, 0), resolution=9)
    assert torch.equal(s.problem.counts.evaluations, calls)
    ax, bar = figure.axes
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("z[2]", "z[0]")
    path = s.history.z[: int(s.steps[0]) + 1, 0]
    assert np.array_equal(ax.lines[0].get_data(), path[:, [2, 0]].T)
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    if box == 2.0:
        assert (left, right, bottom, top) == (-2, 2, -2, 2)
    assert (path[:, 2] > left).all() and (path[:, 2] < right).all()
    assert (path[:, 0] > bottom).all() and (path[:, 0] < top).all()


def test_the_background_is_the_objective(monkeypatch):
    from onmanifold.plot import path

    drawn = []
    monkeypatch.setattr(
        "matplotlib.axes.Axes.contourf",
        lambda self, x, y, z, *a, **k: drawn.append((x, y, z)) or self.scatter([0], [0], c=[1.0]),
    )
    prior = Affine(dim=3, size=5, box=2.0)
    s = solve(
        lambda x: x, torch.ones(1, 5, dtype=FLOAT), prior, fidelity=Gaussian(0.5), trajectory=True
    )
    path.plot_path(s, axes=(0, 2), resolution=5)
    (x, y, gap), z = drawn[0], s.z[0].clone()
    heights = torch.empty(5, 5, dtype=FLOAT)
    for i, j in np.ndindex(5, 5):
        z[0], z[2] = float(x[j]), float(y[i])
        residual = prior.decode_chart(z[None], 0) - 1
        heights[i, j] = 2 * residual.square().sum() + 0.5 * z.square().sum()
    above = (heights - min(heights.min(), s.objective[0])).numpy()
    assert np.allclose(gap, above.clip(gap.min()), rtol=1e-6)


def test_a_background_with_holes():
    def A(x):
        outside = x[:, 0] > 1.5
        if outside.any():
            raise OutsideDomain("too large", outside)
        return x

    prior = Affine(dim=2, size=4, box=2.0)
    centre = prior.decode_chart(torch.zeros(1, 2, dtype=FLOAT), 0)
    s = solve(A, centre, prior, trajectory=True)
    s.plot_path(resolution=9).draw_without_rendering()


def test_a_background_that_is_finite_nowhere_is_refused():
    prior = Affine(dim=2, size=4)
    s = solve(lambda x: x * torch.nan, torch.ones(1, 4, dtype=FLOAT), prior, trajectory=True)
    with pytest.raises(ValueError, match="finite nowhere"):
        s.plot_path(resolution=3)


def test_a_path_needs_a_trajectory_and_a_problem(pictures, tmp_path):
    with pytest.raises(ValueError, match=r"trajectory=True"):
        pictures.plot_path()
    s = changing()
    with pytest.raises(ValueError, match="measurement has to be a number from 0 to 1, got 2"):
        s.plot_path(2)
    with pytest.raises(ValueError, match="resolution has to be at least 2"):
        s.plot_path(resolution=1)
    s.save(tmp_path / "s")
    with pytest.raises(ValueError, match="does not know its problem"):
        type(s).load(tmp_path / "s").plot_path()
    prior = Affine(dim=2, size=4)
    s = solve(lambda x: x, torch.ones(1, 4, dtype=FLOAT), prior, trajectory=True)
    for bad in ((0, 0), (0, 2), (-1, 0), (0,)):
        with pytest.raises(ValueError, match="axes has to name two"):
            s.plot_path(axes=bad)


# Film ---------------------------------------------------------------------------------------------


def test_a_film_has_a_picture_for_each_step(tmp_path):
    y = torch.stack([Pictures().decode_chart(torch.full((1, 2), 0.5).to(FLOAT), 0)[0, 0]] * 2)
    start = Point(
        torch.zeros(2, dtype=torch.long), torch.tensor([[-0.9, -0.9], [0.4, 0.4]], dtype=FLOAT)
    )
    s = solve(lambda x: x[:, 0], y, Pictures(), starts=start, trajectory=True)
    assert s.steps[0] != s.steps[1]
    for b in range(2):
        s.animate(tmp_path / "film.gif", measurement=b, fps=5)
        with Image.open(tmp_path / "film.gif") as film:
            assert film.n_frames == s.steps[b] + 1
            assert film.info["duration"] == 200
            film.seek(film.n_frames - 1)
            assert film.info["duration"] > 1000


def test_a_film_of_points(tmp_path):
    s = changing()
    s.animate(str(tmp_path / "film.gif"))
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == s.steps[0] + 1


def test_films_that_cannot_be_made(pictures, tmp_path):
    with pytest.raises(ValueError, match="trajectory=True"):
        pictures.animate(tmp_path / "film.gif")
    s = changing()
    with pytest.raises(ValueError, match=r"\.gif"):
        s.animate(tmp_path / "film.mp4")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        s.animate(tmp_path / "nowhere" / "film.gif")
    with pytest.raises(ValueError, match="measurement has to be"):
        s.animate(tmp_path / "film.gif", measurement=2)
    with pytest.raises(ValueError, match="fps"):
        s.animate(tmp_path / "film.gif", fps=0)
    assert not list(tmp_path.iterdir())
