"""Arrays in, arrays out; a single measurement is a batch of one."""

import copy
import pickle

import numpy as np
import pytest
import torch
from analytic_priors import Circle

from onmanifold import Gaussian, Solution, relax, score_test, solve
from onmanifold.posterior import Laplace, find_posterior, laplace

Y = np.array([[0.6, 0.9], [-1.0, 0.1]])


def identity(x):
    return 1.0 * x


def solved(y, **options):
    return solve(identity, y, Circle(), fidelity=Gaussian(0.3), **options)


def test_arrays_in_arrays_out():
    s, same = solved(Y, trajectory=True), solved(torch.from_numpy(Y), trajectory=True)
    assert isinstance(s, Solution)
    for name in ("measurement", "x", "z", "chart", "objective", "p_value", "trajectory"):
        assert isinstance(getattr(s, name), np.ndarray), name
        np.testing.assert_array_equal(getattr(s, name), getattr(same, name).numpy())
    for part in (s.history.objective, s.final_points.x, s.spread(), s.converged, s.consistent):
        assert isinstance(part, np.ndarray)
    assert isinstance(same.x, torch.Tensor) and isinstance(s.tensors.x, torch.Tensor)
    assert s.status == same.status and len(s) == 2 and "consistent" in repr(s)
    assert "<table>" in s._repr_html_()
    assert isinstance(s.select(torch.tensor([1])).x, np.ndarray)


def test_what_takes_a_solution_answers_in_kind(tmp_path):
    s = solved(Y, trajectory=True)
    posterior = laplace(s)
    assert isinstance(posterior, Laplace)
    std, (low, high), draws = posterior.std(), posterior.interval(), posterior.x(5, 0)
    assert all(isinstance(v, np.ndarray) for v in (std, low, high, draws, posterior.weights))
    assert draws.shape == (2, 5, 2) and (low < high).all()
    found = find_posterior(identity, Y, Circle(), fidelity=Gaussian(0.3))
    assert isinstance(found.std(), np.ndarray)
    assert isinstance(relax(s, 0.1).x, np.ndarray) and isinstance(score_test(s), np.ndarray)
    titles = [ax.get_title() for ax in s.plot(truth=Y, std=std, rows=1).axes]
    assert titles == ["truth", "measurement", "reconstruction", "standard deviation"]
    assert s.plot_convergence().axes and s.plot_path(resolution=5).axes
    s.save(tmp_path / "s")
    np.testing.assert_array_equal(Solution.load(tmp_path / "s").x.numpy(), s.x)


def test_views_are_copied_and_pickled():
    s = solved(Y)
    for again in (copy.copy(s.history), pickle.loads(pickle.dumps(s.history))):
        np.testing.assert_array_equal(again.objective, s.history.objective)
    assert copy.deepcopy(s.final_points).x.shape == s.final_points.x.shape
    with pytest.raises(AttributeError):
        s.nothing  # noqa: B018


def test_integers_and_other_dtypes_are_taken():
    assert solved(np.array([[1, 0]])).x.dtype == np.float64
    assert solve(identity, Y, Circle(dtype=torch.float32)).x.dtype == np.float32


@pytest.mark.parametrize("y", [Y[0], torch.from_numpy(Y[0])], ids=["array", "tensor"])
def test_a_single_measurement_is_a_batch_of_one(y):
    s = solved(y)
    assert s.x.shape == (1, 2) and s.measurement.shape == (1, 2)
    assert s.x.tolist() == solved(y[None]).x.tolist()


@pytest.mark.parametrize("shape", [(4,), (2, 3), (1, 1, 2), ()])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(B, 2\), or \(2,\) for a single one"):
        solved(np.zeros(shape))
