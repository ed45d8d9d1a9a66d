"""The demo: its table, its figures, and that its problems are solved."""

import pytest
import torch

import onmanifold.demo
from onmanifold.demo import (
    EXPERIMENTS,
    balls_by_impedance,
    blurred_bars,
    demo,
    noisy_points,
    objects_in_a_tank,
)


def test_demo_prints_a_table_and_writes_figures(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(onmanifold.demo, "EXPERIMENTS", (noisy_points, blurred_bars))
    demo(tmp_path / "figures", seed=1)
    printed = capsys.readouterr().out
    for name in ("denoising", "two-circles", "deblurring", "PSNR", "consistent", "4 of 4"):
        assert name in printed, "whole in 80 columns"
    assert "nan" not in printed
    written = {file.name for file in (tmp_path / "figures").iterdir()}
    assert written == {"overview.png", "two-circles.png", "bar.png"}


@pytest.mark.parametrize(
    ("make", "limit"), [(noisy_points, 0.1), (blurred_bars, 0.05), (balls_by_impedance, 0.1)]
)
def test_problems_are_solved(make, limit):
    result = make(2)
    assert result.error.median() < limit
    assert result.converged.float().mean() > 0.9
    assert result.consistent.float().mean() > 0.95


def test_objects_in_the_tank_are_found():
    result = objects_in_a_tank(0)
    assert result.consistent.all()
    for sign in (-1, 1):  # most of each kind is found, and little else
        truth, found = sign * result.truth > 0.5, sign * result.found > 0.5
        assert (truth & found).sum() > 0.75 * (truth | found).sum()
    assert torch.isnan(result.truth[0, :8, :8]).all()


def test_same_seed_same_result():
    first, again = (blurred_bars(1) for _ in range(2))
    assert torch.equal(first.found, again.found)
    assert torch.equal(first.measurement, again.measurement)


def test_all_problems_are_in_the_demo():
    assert EXPERIMENTS == (noisy_points, blurred_bars, balls_by_impedance, objects_in_a_tank)
