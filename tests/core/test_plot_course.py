"""Figures of how descents went: convergence, path and film."""

import numpy as np
import pytest
import torch
from analytic_priors import Affine, Circle
from PIL import Image
from plot_cases import FLOAT, Images, changing, random

from onmanifold import Gaussian, OutsideDomain, solve
from onmanifold.prior import Point


@pytest.fixture(scope="module")
def images():
    return solve(lambda x: x.flatten(1), random(3, 24), Images())


# Convergence --------------------------------------------------------------------------------------


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
        assert np.array_equal(line, gap.where(gap > 0, torch.nan), equal_nan=True)
        assert len(line) == steps
        assert np.array_equal(gradient.lines[2 * b].get_ydata(), s.history.gradient_norm[:steps, b])
        marks = chart.lines[2 * b + 1].get_xdata().tolist()
        assert marks == (changes.tolist() if b == 0 else [])
    assert [ax.get_yscale() for ax in figure.axes] == ["log", "log", "log", "linear"]
    labels = [text.get_text() for text in figure.legends[0].texts]
    assert labels == [f"{b}: {s.status[b].name}" for b in range(2)] + ["change of chart"]


def test_convergence_of_some_measurements(images):
    figure = images.plot_convergence([2])
    labels = [text.get_text() for text in figure.legends[0].texts]
    assert labels == [f"2: {images.status[2].name}"]
    for bad, error in (([3], ValueError), ([-1], ValueError), ([], ValueError), ([0.5], TypeError)):
        with pytest.raises(error, match="measurement"):
            images.plot_convergence(bad)


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


class Noisy(Affine):
    """Decodes exactly in evaluation mode only."""

    def decode_chart(self, z, chart):
        x = super().decode_chart(z, chart)
        return x + torch.rand_like(x) if self.training else x


def test_a_prior_in_training_is_drawn_in_evaluation_mode_and_left_as_it_was():
    prior = Noisy(dim=1, size=3).train()
    s = solve(lambda x: x, torch.ones(1, 3, dtype=FLOAT), prior, trajectory=True)
    first, again = (s.plot_path(resolution=5).axes[0].lines[0].get_ydata() for _ in range(2))
    assert np.array_equal(first, again)
    assert prior.training


def test_a_path_needs_a_trajectory_and_a_problem(images, tmp_path):
    with pytest.raises(ValueError, match=r"trajectory=True"):
        images.plot_path()
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


def test_a_film_has_a_frame_for_each_step(tmp_path):
    y = torch.stack([Images().decode_chart(torch.full((1, 2), 0.5).to(FLOAT), 0)[0, 0]] * 2)
    start = Point(
        torch.zeros(2, dtype=torch.long), torch.tensor([[-0.9, -0.9], [0.4, 0.4]], dtype=FLOAT)
    )
    s = solve(lambda x: x[:, 0], y, Images(), starts=start, trajectory=True)
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


def test_films_that_cannot_be_made(images, tmp_path):
    with pytest.raises(ValueError, match="trajectory=True"):
        images.animate(tmp_path / "film.gif")
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
