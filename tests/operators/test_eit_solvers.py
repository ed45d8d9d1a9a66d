"""Every linear solver against scipy's, on matrices with the patterns of finite elements."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csc_array, csr_array
from scipy.sparse.linalg import splu
from scipy.spatial import Delaunay

from onmanifold.operators.eit.solvers import SOLVERS, make_solver, petsc
from onmanifold.operators.eit.solvers.block_tridiagonal import BlockTridiagonalCholesky
from onmanifold.operators.native import require_dolfinx

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


def _solve(solver, entries, right):
    return solver.factorize(entries).solve(right)


def _close(x, expected, rtol=1e-10):
    scale = np.abs(expected).max(axis=(1, 2), keepdims=True)
    np.testing.assert_array_less(np.abs(x.cpu().numpy() - expected) / scale, rtol)


def test_all_agree_with_scipy(problem, name):
    solver = problem.solver(name)
    for right in (problem.sparse, problem.dense[0], problem.dense):
        _close(_solve(solver, problem.entries, right), problem.expected(right))


def test_right_hand_sides_of_zeros(problem, name):
    """As autograd gives them, which asks for the derivative of one member of a batch alone."""
    solver = problem.solver(name)
    right = problem.dense.clone()
    right[1] = 0
    x = _solve(solver, problem.entries, right)
    assert not x[1].any()
    _close(x[:1], problem.expected(problem.dense)[:1])
    sparse = problem.sparse.clone()
    sparse[:, 1] = 0
    assert not _solve(solver, problem.entries, sparse)[:, :, 1].any()


def test_all_agree_in_three_dimensions(name):
    problem = _Problem(400, dimension=3)
    solver = problem.solver(name)
    for right in (problem.sparse, problem.dense):
        _close(_solve(solver, problem.entries, right), problem.expected(right))


def test_large_matrices_are_dissected(problem, dolfinx, monkeypatch):
    """In the plane too, from a size on; solutions are the same."""
    orders = []
    for large in (10**6, 1):
        monkeypatch.setattr(petsc, "_LARGE", large)
        solver = problem.solver("mumps")
        _close(_solve(solver, problem.entries, problem.dense), problem.expected(problem.dense))
        orders.append(solver._ksp.getPC().getFactorMatrix().getMumpsInfog(7))
    assert orders == [2, 5]  # minimum fill, nested dissection


@settings(max_examples=25, deadline=None)
@given(points=st.integers(5, 400), batch=st.integers(1, 7), seed=st.integers(0, 1000))
def test_torch_solves_meshes_of_any_size(points, batch, seed):
    problem = _Problem(points, batch, seed=seed)
    solver = problem.solver("torch")
    for right in (problem.sparse, problem.dense):
        _close(_solve(solver, problem.entries, right), problem.expected(right))


def test_a_batch_gives_what_its_members_give(problem, name):
    together = _solve(problem.solver(name), problem.entries, problem.dense)
    solver = problem.solver(name)
    alone = [
        _solve(solver, problem.entries[k : k + 1], problem.dense[k : k + 1])[0]
        for k in range(len(problem.entries))
    ]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-11, atol=1e-12)


def test_a_factorization_serves_again_and_beside_others(problem, name):
    solver = problem.solver(name)
    first = solver.factorize(problem.entries)
    second = solver.factorize(2 * problem.entries)
    x = first.solve(problem.sparse)
    torch.testing.assert_close(second.solve(problem.sparse), x / 2)
    _close(first.solve(problem.dense), problem.expected(problem.dense))
    assert torch.equal(first.solve(problem.sparse), x)


@pytest.mark.parametrize("rows", [torch.tensor([2, 0]), torch.tensor([True, False, True])])
def test_members_of_a_factorization_can_be_selected(problem, name, rows):
    factor = problem.solver(name).factorize(problem.entries)
    expected = factor.solve(problem.dense)[rows]
    torch.testing.assert_close(factor.select(rows).solve(problem.dense[rows]), expected)


def test_right_hand_sides_that_change_are_seen(problem, name):
    solver = problem.solver(name)
    right = problem.sparse.clone()
    first = _solve(solver, problem.entries, right)
    right.mul_(3.0)
    torch.testing.assert_close(_solve(solver, problem.entries, right), 3 * first)
    zero = torch.zeros_like(right)
    assert not _solve(solver, problem.entries, zero).any()


def test_torch_solves_what_falls_into_parts():
    pattern = np.arange(201), np.arange(200)
    solver = make_solver("torch", *pattern, np.zeros((200, 2)))
    entries = torch.arange(1.0, 201.0, dtype=torch.float64)[None]
    x = _solve(solver, entries, torch.ones(200, 1, dtype=torch.float64))
    torch.testing.assert_close(x, 1 / entries[..., None])


@pytest.mark.parametrize("change", [-1.0, float("nan"), float("inf")])
def test_what_is_not_positive_definite_is_refused(problem, name, change):
    solver = problem.solver(name)
    entries = problem.entries.clone()
    rows = np.repeat(np.arange(problem.size), np.diff(problem.indptr))
    diagonal = np.flatnonzero(rows == problem.indices)
    entries[1, diagonal[100]] = change
    expected = "member 1 is not positive" if np.isfinite(change) else "NaN or infinite"
    with pytest.raises(ValueError, match=expected):
        _solve(solver, entries, problem.sparse)
    x = _solve(solver, problem.entries, problem.sparse)  # and it works on
    _close(x, problem.expected(problem.sparse))


def test_a_singular_matrix_is_refused(name):
    pattern = np.array([0, 2, 4]), np.array([0, 1, 0, 1])
    _Problem(5).solver(name)  # skips where it is missing
    solver = make_solver(name, *pattern, np.zeros((2, 2)))
    with pytest.raises(ValueError, match="member 0 is not positive definite"):
        _solve(solver, torch.ones(1, 4, dtype=torch.float64), torch.eye(2, dtype=torch.float64))


def test_wrong_shapes_are_named(problem, name):
    solver = problem.solver(name)
    n, nnz = problem.size, problem.entries.shape[1]
    with pytest.raises(ValueError, match=rf"entries have shape .*expected \(B, {nnz}\)"):
        _solve(solver, problem.entries[:, 1:], problem.sparse)
    with pytest.raises(ValueError, match=rf"right has shape .*expected \({n}, k\)"):
        _solve(solver, problem.entries, problem.sparse[1:])
    with pytest.raises(ValueError, match="entries of float64"):
        _solve(solver, problem.entries.float(), problem.sparse)
    with pytest.raises(ValueError, match="right-hand sides of float64"):
        _solve(solver, problem.entries, problem.sparse.float())


def test_unknown_names_and_devices_are_refused(problem):
    with pytest.raises(ValueError, match="unknown solver 'pardiso'; known: auto, mumps"):
        problem.solver("pardiso")
    with pytest.raises(ValueError, match="CPU only"):
        problem.solver("superlu", "meta")
    assert isinstance(problem.solver("torch"), BlockTridiagonalCholesky)
    with pytest.raises(ValueError, match="take 'torch'"):
        problem.solver("mumps", "meta")


def test_torch_on_the_chosen_device(problem, device):
    solver = problem.solver("torch", device)
    x = _solve(solver, problem.entries.to(device), problem.sparse.to(device))
    assert x.device.type == device.type
    _close(x, problem.expected(problem.sparse))
