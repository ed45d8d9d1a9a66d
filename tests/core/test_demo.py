"""The demo: its table, its figures, and that its problems are solved."""

import pytest
import torch

from onmanifold import load_prior
from onmanifold.demo import EXPERIMENTS, balls_by_impedance, demo, run, tank_by_impedance


def test_demo_prints_a_table_and_writes_figures(tmp_path, capsys):
    demo(tmp_path / "figures", seed=1)
    printed = capsys.readouterr().out
    for name in ("denoising", "deblurring", "EIT, disk", "EIT, tank", "PSNR"):
        assert name in printed
    assert "nan" not in printed
    written = {file.name for file in (tmp_path / "figures").iterdir()}
    assert written == {"overview.png", "two-circles.png", "bar.png", "two-balls.png", "tank.png"}


@pytest.mark.parametrize(("make", "limit"), [*zip(EXPERIMENTS[:3], (0.1, 0.05, 0.1), strict=True)])
def test_problems_are_solved(make, limit):
    experiment = make(2)
    solution = run(experiment, load_prior(experiment.prior), 2)
    error = (solution.x - experiment.truth).flatten(1).norm(dim=1)
    relative = error / experiment.truth.flatten(1).norm(dim=1)
    assert relative.median() < limit
    assert solution.converged.float().mean() > 0.9
    again = run(experiment, load_prior(experiment.prior), 2)
    assert torch.equal(solution.x, again.x), "same seed, same result"


def test_only_visible_pixels_count():
    visible = tank_by_impedance(0).visible[0]
    assert visible[32].all() and not (visible[0, :8] | visible[0, -8:] | visible[-1, :8]).any()
    assert balls_by_impedance(0).visible[0, 64].all()
    assert all(make(0).visible.all() for make in EXPERIMENTS[:2])
