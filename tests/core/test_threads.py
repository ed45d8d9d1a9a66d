"""`solve` in several Python threads finds what it finds in one."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from analytic_priors import Circle, Sphere
from torch import nn

from onmanifold import LBFGS, Gaussian, LevenbergMarquardt, solve
from onmanifold.autodiff import jvp
from onmanifold.duals import Dual

JOBS = 24


def curved(x):
    return torch.cat([x.square().sin(), x.exp()], dim=1)


def by_torch(x):
    """Has no rule for dual numbers."""
    return torch.cat([x.square().sin(), torch.erfinv(x / 3)], dim=1)


@pytest.mark.parametrize("method", [LevenbergMarquardt(), LBFGS()])
@pytest.mark.parametrize("function", [curved, by_torch])
@pytest.mark.parametrize("prior", [Circle(), Sphere()])
def test_threads_find_what_one_finds(prior, function, method):
    x = prior.decode(prior.sample(JOBS, 3))
    y = function(x) + 0.01

    def job(i):
        return solve(
            function, y[i : i + 1], prior, fidelity=Gaussian(0.05), starts=2, method=method
        ).x

    expected = [job(i) for i in range(JOBS)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(job, range(JOBS)))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_threads_share_a_network_in_training_mode():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).double()
    y = torch.ones(1, 2, dtype=torch.float64)

    def job(i):
        return solve(network, y, Circle(), starts=2, seed=i).x

    expected = [job(i) for i in range(JOBS)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(job, range(JOBS)))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert network.training
    assert network[1].training


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_is_not_held_up_by_a_thread_of_its_parent():
    inside, over = threading.Event(), threading.Event()

    def held(x):
        if isinstance(x, Dual):  # first, in vain and without a lock
            return torch.erfinv(x)
        inside.set()
        over.wait(60)
        return torch.erfinv(x)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(jvp, held, torch.zeros(1), torch.ones(1))
        inside.wait(60)
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # ends a child that waits for the lock
            os._exit(int(jvp(torch.erfinv, torch.zeros(1), torch.ones(1))[1] <= 0))
        over.set()
    assert os.waitpid(child, 0)[1] == 0
