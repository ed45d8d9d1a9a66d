"""What the caller has switched on in torch does not change what is found."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from onmanifold import LBFGS, Gaussian, LevenbergMarquardt, load_prior, score_test, solve
from onmanifold.posterior import laplace

MATRIX = torch.tensor([[1.0, 0.5], [0.2, 1.0], [0.3, 0.3]])


@contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


CONTEXTS = {
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "no_grad": torch.no_grad,
    "enable_grad": torch.enable_grad,
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True),
    "default dtype": default_dtype,
    "deterministic algorithms": deterministic,
}


def operator(x):
    return x @ MATRIX.mT


TRUTH = torch.tensor([[0.9, 0.3], [-0.4, 0.8]])
MEASURED = operator(TRUTH)


def found(method, prior=None):
    prior = load_prior("two-circles") if prior is None else prior
    y = MEASURED.clone()
    solution = solve(operator, y, prior, fidelity=Gaussian(0.05), starts=2, method=method)
    posterior = laplace(solution)
    return solution.x, posterior.x(4, 0), posterior.log_evidence, score_test(solution, probes=16)


@pytest.mark.filterwarnings("ignore:Anomaly Detection:UserWarning")
@pytest.mark.parametrize("method", [LevenbergMarquardt(), LBFGS()], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("context", CONTEXTS)
def test_a_context_of_the_caller_changes_nothing(context, method):
    expected = found(method)
    with CONTEXTS[context]():
        results = found(method)
    for a, b in zip(results, expected, strict=True):
        assert a.dtype == b.dtype
        assert torch.allclose(a, b, atol=1e-5)
        assert not a.requires_grad


def test_global_random_states_and_thread_counts_are_left_alone():
    prior = load_prior("two-circles")
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()
    found(None, prior)
    after = torch.get_rng_state(), np.random.get_state()[1], torch.get_num_threads()
    assert torch.equal(before[0], after[0])
    assert (before[1] == after[1]).all()
    assert before[2] == after[2]


def test_loading_leaves_random_numbers_alone_and_gives_a_prior_to_differentiate():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with torch.inference_mode():
        prior = load_prior("bar", dtype=torch.float64)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(weight.is_inference() for weight in prior.parameters())


@pytest.mark.parametrize(("large", "inside"), [(10**9, {1}), (10, {1, 2})])
def test_only_large_arrays_are_shared_among_threads(large, inside, monkeypatch):
    monkeypatch.setattr("onmanifold.threads.LARGE", large)
    before, seen = torch.get_num_threads(), set()

    def counting(x):
        seen.add(torch.get_num_threads())
        return operator(x)

    prior = load_prior("two-circles")
    torch.set_num_threads(2)
    try:
        solve(counting, MEASURED, prior, fidelity=Gaussian(0.1))
        assert torch.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError):
            solve(lambda x: operator(x) / (1 // 0), MEASURED, prior)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == inside
