"""Every linear solver against scipy's, on matrices with the patterns of finite elements."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csc_array, csr_array
from scipy.sparse.linalg import splu
from scipy.spatial import Delaunay

from onmanifold.operators.eit.fem.assembly import require_dolfinx
from onmanifold.operators.eit.solvers import make_solver
from onmanifold.operators.eit.solvers.base import SOLVERS
from onmanifold.operators.eit.solvers.multifrontal import MultifrontalCholesky
from onmanifold.operators.eit.solvers.workers import can_have_workers

NAMES = [name for name in SOLVERS if name != "auto"]


class _Problem:
    """Stiffness matrices of random conductivities on a random mesh, with a few electrodes."""

    def __init__(self, points, batch=3, dimension=2, electrodes=3, seed=0):
        rng = np.random.default_rng(seed)
        place = rng.uniform(size=(points, dimension))
        cells = Delaunay(place).simplices
        vertices = cells.shape[1]
        edges = [(i, j) for i in range(vertices) for j in range(vertices)]
        rows = np.concatenate([cells[:, i] for i, _ in edges])
        columns = np.concatenate([cells[:, j] for _, j in edges])
        sign = np.repeat([vertices - 1.0 if i == j else -1.0 for i, j in edges], len(cells))
        members = []
        for _ in range(batch):
            s = np.tile(np.exp(rng.normal(size=len(cells))), len(edges))
            k = csr_array((s * sign, (rows, columns)), shape=(points + electrodes,) * 2).tolil()
            for e in range(electrodes):  # couple an electrode to a few nodes, strongly
                for node in np.argsort(place[:, 0] - e / electrodes)[: 4 + e]:
                    weight = 10.0 ** rng.uniform(0, 3)
                    k[node, node] += weight
                    k[node, points + e] -= weight
                    k[points + e, node] -= weight
                    k[points + e, points + e] += weight
            k[points, points] += 1.0  # grounded
            for e in range(electrodes):
                k[points + e, points + e] += 0.1
            member = csr_array(k)
            member.sort_indices()
            members.append(member)
        assert all((m.indices == members[0].indices).all() for m in members)
        self.members = members
        self.indptr, self.indices = members[0].indptr, members[0].indices
        self.size = points + electrodes
        nowhere = np.full((electrodes, dimension), np.nan)
        self.coordinates = np.concatenate([place, nowhere])
        self.entries = torch.from_numpy(np.stack([m.data for m in members]))
        self.sparse = torch.zeros(self.size, electrodes, dtype=torch.float64)
        self.sparse[points:] = torch.eye(electrodes, dtype=torch.float64)
        self.dense = torch.from_numpy(rng.normal(size=(batch, self.size, 4)))

    def solver(self, name, device="cpu"):
        if name == "mumps":
            try:
                require_dolfinx()
            except ImportError as error:
                pytest.skip(str(error))
        return make_solver(name, self.indptr, self.indices, self.coordinates, device)

    def expected(self, right):
        right = right.expand(len(self.members), *right.shape[-2:]).numpy()
        pairs = zip(self.members, right, strict=True)
        return np.stack([splu(csc_array(m)).solve(r.copy()) for m, r in pairs])


@pytest.fixture(scope="module")
def problem():
    return _Problem(700)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def _close(x, expected, rtol=1e-10):
    scale = np.abs(expected).max(axis=(1, 2), keepdims=True)
    np.testing.assert_array_less(np.abs(x.cpu().numpy() - expected) / scale, rtol)


def test_all_agree_with_scipy(problem, name):
    solver = problem.solver(name)
    for right in (problem.sparse, problem.dense[0], problem.dense):
        _close(solver.solve(problem.entries, right), problem.expected(right))


def test_all_agree_in_three_dimensions(name):
    problem = _Problem(400, dimension=3)
    solver = problem.solver(name)
    for right in (problem.sparse, problem.dense):
        _close(solver.solve(problem.entries, right), problem.expected(right))


@settings(max_examples=25, deadline=None)
@given(points=st.integers(5, 400), batch=st.integers(1, 7), seed=st.integers(0, 1000))
def test_torch_solves_meshes_of_any_size(points, batch, seed):
    problem = _Problem(points, batch, seed=seed)
    solver = problem.solver("torch")
    for right in (problem.sparse, problem.dense):
        _close(solver.solve(problem.entries, right), problem.expected(right))


def test_a_batch_gives_what_its_members_give(problem, name):
    together = problem.solver(name).solve(problem.entries, problem.dense)
    solver = problem.solver(name)
    alone = [
        solver.solve(problem.entries[k : k + 1], problem.dense[k : k + 1])[0]
        for k in range(len(problem.entries))
    ]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-11, atol=1e-12)


def test_the_same_tensor_is_factorized_once_until_it_is_changed(problem, name):
    solver = problem.solver(name)
    entries = problem.entries[:1].clone()
    solver.solve(entries, problem.sparse)
    kept = solver._kept._last
    assert kept is not None
    again = solver.solve(entries, problem.dense[0])
    assert solver._kept._last is kept
    _close(again, problem.expected(problem.dense[0])[:1])
    entries.mul_(2.0)
    halved = solver.solve(entries, problem.dense[0])
    torch.testing.assert_close(halved, again / 2)


def test_right_hand_sides_that_change_are_seen(problem, name):
    solver = problem.solver(name)
    right = problem.sparse.clone()
    first = solver.solve(problem.entries, right)
    right.mul_(3.0)
    torch.testing.assert_close(solver.solve(problem.entries, right), 3 * first)
    zero = torch.zeros_like(right)
    assert not solver.solve(problem.entries, zero).any()


def test_unknowns_that_have_a_place_change_nothing(problem):
    placed = np.nan_to_num(problem.coordinates, nan=0.5)
    x = MultifrontalCholesky(problem.indptr, problem.indices, placed).solve(
        problem.entries, problem.sparse
    )
    _close(x, problem.expected(problem.sparse))


@pytest.mark.parametrize("change", [-1.0, float("nan"), float("inf")])
def test_what_is_not_positive_definite_is_refused(problem, name, change):
    solver = problem.solver(name)
    entries = problem.entries.clone()
    rows = np.repeat(np.arange(problem.size), np.diff(problem.indptr))
    diagonal = np.flatnonzero(rows == problem.indices)
    entries[1, diagonal[100]] = change
    expected = "member 1 is not positive" if np.isfinite(change) else "NaN or infinite"
    with pytest.raises(ValueError, match=expected):
        solver.solve(entries, problem.sparse)
    x = solver.solve(problem.entries, problem.sparse)  # and it works on
    _close(x, problem.expected(problem.sparse))


def test_a_singular_matrix_is_refused(name):
    pattern = np.array([0, 2, 4]), np.array([0, 1, 0, 1])
    _Problem(5).solver(name)  # skips where it is missing
    solver = make_solver(name, *pattern, np.zeros((2, 2)))
    with pytest.raises(ValueError, match="member 0 is not positive definite"):
        solver.solve(torch.ones(1, 4, dtype=torch.float64), torch.eye(2, dtype=torch.float64))


def test_wrong_shapes_are_named(problem, name):
    solver = problem.solver(name)
    n, nnz = problem.size, problem.entries.shape[1]
    with pytest.raises(ValueError, match=rf"entries have shape .*expected \(B, {nnz}\)"):
        solver.solve(problem.entries[:, 1:], problem.sparse)
    with pytest.raises(ValueError, match=rf"right has shape .*expected \({n}, k\)"):
        solver.solve(problem.entries, problem.sparse[1:])
    with pytest.raises(ValueError, match="float64"):
        solver.solve(problem.entries.float(), problem.sparse)


def test_unknown_names_and_devices_are_refused(problem):
    with pytest.raises(ValueError, match="unknown solver 'pardiso'; known: auto, mumps"):
        problem.solver("pardiso")
    with pytest.raises(ValueError, match="CPU only"):
        problem.solver("superlu", "meta")
    assert isinstance(problem.solver("torch"), MultifrontalCholesky)


def test_torch_on_the_chosen_device(problem, device):
    solver = problem.solver("torch", device)
    x = solver.solve(problem.entries.to(device), problem.sparse.to(device))
    assert x.device.type == device.type
    _close(x, problem.expected(problem.sparse))


@pytest.fixture
def working(problem, monkeypatch):
    """MUMPS whose two worker processes are ready."""
    if not can_have_workers():
        pytest.skip("no worker processes here")
    solver = problem.solver("mumps")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(solver, "_spent", 1e9)  # batches have taken long enough
    deadline = time.monotonic() + 60
    while not solver._has_workers():
        assert time.monotonic() < deadline, "the workers do not start"
        time.sleep(0.01)
    yield solver
    torch.set_num_threads(threads)


def test_workers_give_the_very_same_numbers(problem, working):
    alone = problem.solver("mumps")
    for right in (problem.sparse, problem.dense, problem.dense[0]):  # the shared memory grows
        x = working.solve(problem.entries, right)
        assert torch.equal(x, alone._alone(problem.entries, right))
    many = problem.entries.repeat(5, 1)
    assert torch.equal(working.solve(many, problem.sparse), alone._alone(many, problem.sparse))
    many[7] *= -1
    with pytest.raises(ValueError, match="member 7 is not positive definite"):
        working.solve(many, problem.sparse)
    assert torch.equal(working.solve(problem.entries, right), x)


def test_the_work_goes_on_without_a_worker_that_was_killed(problem, working):
    processes = [worker.process for worker in working._workers._workers]
    processes[0].kill()
    processes[0].wait()
    _close(working.solve(problem.entries, problem.sparse), problem.expected(problem.sparse))
    assert working._workers is None and not working._has_workers()
    assert [process.poll() for process in processes] == [-9, -9]


def test_workers_end_with_their_solver_and_with_the_program(problem, working, tmp_path):
    processes = [worker.process for worker in working._workers._workers]
    working._workers.close()
    assert [process.poll() for process in processes] == [-9, -9]
    script = tmp_path / "script.py"  # without `if __name__ == "__main__"`
    script.write_text(
        "import numpy as np, torch\n"
        "from onmanifold.operators.eit.solvers.workers import Workers\n"
        "indptr, indices = np.arange(3), np.arange(2)\n"
        "workers = Workers(indptr, indices, 2, 2)\n"
        "while not workers.ready: pass\n"
        "entries = torch.tensor([[1.0, 2.0], [4.0, 8.0]], dtype=torch.float64)\n"
        "print(workers.solve(entries, torch.ones(2, 1, dtype=torch.float64)).flatten().tolist())\n"
        "print(*(w.process.pid for w in workers._workers))\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=120, check=True
    )
    solution, pids = done.stdout.splitlines()
    assert solution == "[1.0, 0.5, 0.25, 0.125]"
    for pid in pids.split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_a_fork_of_the_program_leaves_the_workers_alone(problem, working, monkeypatch):
    workers = working._workers._workers
    with monkeypatch.context() as forked:
        forked.setattr(os, "getpid", lambda: -1)
        assert not working._has_workers() and working._workers is None
    assert all(worker.process.poll() is None for worker in workers)
    for worker in workers:
        worker.end()
    _close(working.solve(problem.entries, problem.sparse), problem.expected(problem.sparse))


def test_there_are_no_workers_under_a_launcher_of_mpi(problem, working, monkeypatch):
    assert working._has_workers()
    monkeypatch.setenv("PMI_RANK", "0")
    assert not working._has_workers()
