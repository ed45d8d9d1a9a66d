"""How many files of the package one Levenberg-Marquardt step passes through."""

import sys
from pathlib import Path

import torch
from analytic_priors import Sphere
from descent_cases import randn

import onmanifold
from onmanifold import Gaussian, LevenbergMarquardt
from onmanifold.descent import build_problem

PACKAGE = Path(onmanifold.__file__).parent
LIMIT = 14


def files_of(call):
    """The package's files in which some function runs during ``call``."""
    seen = set()

    def note(frame, event, _):
        if event == "call":
            seen.add(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return {Path(file).relative_to(PACKAGE) for file in seen if PACKAGE in Path(file).parents}


def test_a_step_on_a_gaussian_problem_passes_through_few_files():
    """A matrix as operator, a prior of a few lines (no file of the package), independent normal errors.

    The second step of three members, one of which may be rejected: every file of the package in which a
    function is called counts, the operator's too.
    """
    prior, method = Sphere(), LevenbergMarquardt()
    problem = build_problem(randn(5, 3), randn(3, 5, seed=1), prior, Gaussian(0.1))
    state = method.step(problem, method.init(problem, prior.sample(3, 1)))
    files = files_of(lambda: method.step(problem, state))
    assert Path("descent/levenberg_marquardt.py") in files
    assert len(files) <= LIMIT, sorted(map(str, files))
    assert torch.isfinite(state.objective).all()
