"""The demo: its table, its pictures, and that its problems are solved."""

import pytest
import torch

from onmanifold import load_prior
from onmanifold.demo import PROBLEMS, balls_by_impedance, demo, run, tank_by_impedance


def test_demo_prints_a_table_and_writes_pictures(tmp_path, capsys):
    demo(tmp_path / "pictures", seed=1)
    printed = capsys.readouterr().out
    for name in ("denoising", "deblurring", "EIT, disk", "EIT, tank", "PSNR"):
        assert name in printed
    assert "nan" not in printed
    written = {file.name for file in (tmp_path / "pictures").iterdir()}
    assert written == {"overview.png", "two-circles.png", "bar.png", "two-balls.png", "tank.png"}


@pytest.mark.parametrize(("make", "limit"), [*zip(PROBLEMS[:3], (0.1, 0.05, 0.1), strict=True)])
def test_problems_are_solved(make, limit):
    problem = make(2)
    solution = run(problem, load_prior(problem.prior), 2)
    error = (solution.x - problem.truth).flatten(1).norm(dim=1)
    relative = error / problem.truth.flatten(1).norm(dim=1)
    assert relative.median() < limit
    assert solution.converged.float().mean() > 0.9
    again = run(problem, load_prior(problem.prior), 2)
    assert torch.equal(solution.x, again.x), "same seed, same result"


def test_only_what_the_measurement_sees_counts():
    seen = tank_by_impedance(0).seen[0]
    assert seen[32].all() and not (seen[0, :8] | seen[0, -8:] | seen[-1, :8]).any()
    assert balls_by_impedance(0).seen[0, 64].all()
    assert all(make(0).seen.all() for make in PROBLEMS[:2])
