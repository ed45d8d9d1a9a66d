"""Descents from the paper's starts, and from random ones, on the toy manifolds that ship."""

import importlib.util
import sys
from functools import cache
from pathlib import Path

import pytest

from onmanifold import load_prior, prior_names

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "toys.py"


@cache
def toys():
    spec = importlib.util.spec_from_file_location("toys", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["toys"] = module  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


@cache
def prior_of(name):
    if name not in prior_names():
        pytest.skip(f"no prior {name!r} ships")
    return load_prior(name)


NAMES = ["ring", "two-circles", "sphere", "torus"]
METHODS = ["gradient", "LM"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("retraction", ["chart", "projection"])
def test_every_start_of_the_paper_reaches_the_minimum(name, method, retraction):
    prior, toy = prior_of(name), toys().TOYS[name]
    x = toy.starts(0)
    solution = toys().descend(name, prior, x, method, retraction)
    assert (toys().off_the_minimum(name, x, solution) <= toy.tolerance).all()
    assert solution.steps.max() <= {"gradient": 100, "LM": 25}[method]
    assert (solution.history.objective.diff(dim=0) <= 0).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", METHODS)
def test_so_do_random_starts(name, method):
    prior, toy = prior_of(name), toys().TOYS[name]
    x = toys().random_starts(name, 50, seed=7)
    solution = toys().descend(name, prior, x, method)
    reached = toys().off_the_minimum(name, x, solution) <= toy.tolerance
    assert reached.float().mean() >= 0.98


@pytest.mark.parametrize("name", NAMES)
def test_many_starts_find_the_global_minimum(name):
    off = toys().multi_start(name, prior_of(name), seeds=2)
    assert (off <= toys().TOYS[name].tolerance).all()


def test_a_path_leads_around_the_ring():
    x = toys().TOYS["ring"].starts(0)
    solution = toys().descend("ring", prior_of("ring"), x, "gradient")
    assert (solution.trajectory.norm(dim=2) > 0.45).all()  # never through the hole
    assert (solution.x[:, 0] < -0.9).all()
