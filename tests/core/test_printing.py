"""What is printed stays short, and says what is to be believed."""

import pytest
import torch
from analytic_priors import Circle, Sphere

from onmanifold import CorrelatedGaussian, Gaussian, Poisson, StudentT, load_prior, solve
from onmanifold.posterior import laplace, sample_posterior
from onmanifold.printing import Table

FLOAT = torch.float64


@pytest.fixture(scope="module")
def solution():
    y = torch.ones(30, 2, dtype=FLOAT)
    y[3] = 50.0
    return solve(lambda x: x, y, Circle(), fidelity=Gaussian(0.5), starts=2)


def assert_short(value):
    lines = repr(value).splitlines()
    assert len(lines) <= 20 and all(len(line) <= 400 for line in lines), repr(value)


def test_a_solution_prints_status_and_consistency(solution):
    assert_short(solution)
    text = repr(solution)
    assert text.startswith("Solution of 30 measurements: x (2,), ")
    assert "1 inconsistent with the noise" in text and "and 20 more" in text
    head, *rows = solution.summary().splitlines()[:31]
    assert head.split() == [
        "objective", "misfit", "expected", "p-value", "consistent", "steps", "calls", "status"
    ]  # fmt: skip
    assert rows[3].split()[5] == "no" and rows[4].split()[5] == "yes"
    assert all(row.split()[-1] == s.name for row, s in zip(rows, solution.status, strict=True))
    assert max(map(len, [head, *rows])) <= 80


def test_a_notebook_shows_a_table(solution):
    html = solution._repr_html_()
    assert html.count("<tr>") == 11 and "<th>consistent</th>" in html and "and 20 more" in html
    assert laplace(solution.select(torch.arange(2)))._repr_html_().count("<tr>") == 3


def test_without_a_noise_level_consistency_is_unknown():
    s = solve(lambda x: x, torch.ones(1, 2, dtype=FLOAT), Circle(), starts=1)
    assert "unknown" in repr(s) and "inconsistent" not in repr(s)


def test_posteriors_and_parts_print_shortly(solution):
    some = solution.select(torch.tensor([0, 3]))
    posterior = laplace(some)
    for value in (posterior, some.point, some.history, some.final_points, some.problem):
        assert_short(value)
    assert repr(posterior).splitlines()[2].split()[-1] == "yes"
    assert repr(posterior).splitlines()[3].split()[-1] == "no"
    pytest.importorskip("arviz_stats")
    samples = sample_posterior(solution.select(torch.tensor([0])), draws=100, chains=4)
    assert_short(samples)


def test_noise_models_print_shortly():
    std = torch.ones(3, 40, 40)
    for fidelity in (Gaussian(std), StudentT(std), Poisson(std)):
        assert_short(fidelity)
    assert_short(CorrelatedGaussian(torch.eye(300)))
    assert repr(Gaussian(0.5)) == "Gaussian(std=0.5, mask=None)"


def test_a_prior_prints_what_it_is():
    prior = load_prior("bar")
    assert_short(prior)
    for part in (
        "Atlas(name bar",
        "x (1, 128, 128) float32",
        "d 1",
        "K 2",
        "values 0.5",
        "weights",
    ):
        assert part in repr(prior)
    assert "A bar of 50 x 10 pixels" in prior._repr_html_()
    assert_short(Sphere())


def test_cells_are_escaped():
    assert "&lt;b&gt;" in Table(("", "name"), [("0", "<b>")]).html("")


def test_some_of_a_solution(solution):
    rows = torch.tensor([3, 5])
    some = solution.select(rows)
    assert len(some) == 2 and some.status == (solution.status[3], solution.status[5])
    for part in ("x", "misfit", "p_value"):
        assert torch.equal(getattr(some, part), getattr(solution, part)[rows])
    assert torch.equal(some.history.objective, solution.history.objective[:, rows])
    assert torch.equal(some.spread(), solution.spread()[rows])
    assert len(some.problem) == 2
