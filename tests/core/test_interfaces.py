"""Operators of other libraries, as ours: matrices, scipy, pylops."""

import numpy as np
import pytest
import scipy.sparse
import torch
from analytic_priors import Affine, Circle
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from onmanifold import LevenbergMarquardt, as_operator, solve
from onmanifold.entry_points import ADAPTERS, plugins
from onmanifold.testing import check_operator


def matrix(rows=5, columns=6, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, columns))


def free(m):
    """The same without its entries."""
    return LinearOperator(m.shape, matvec=lambda x: m @ x, rmatvec=lambda u: m.T @ u, dtype=m.dtype)


FORMS = {
    "numpy": lambda m: m,
    "torch": torch.from_numpy,
    "csr": scipy.sparse.csr_matrix,
    "coo": scipy.sparse.coo_array,
    "dense": aslinearoperator,
    "free": free,
}


@pytest.mark.parametrize("form", FORMS)
@given(
    rows=st.integers(1, 6),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@settings(deadline=None)  # the first comparison of a process takes seconds
def test_every_form_of_a_matrix_multiplies_the_entries_in_row_major_order(form, rows, shape, dtype):
    m = matrix(rows, int(np.prod(shape)))
    operator = as_operator(FORMS[form](m), shape)
    assert (operator.x_shape, operator.y_shape, operator.linear) == (shape, (rows,), True)
    x = torch.randn(3, *shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
    expected = x.flatten(1) @ torch.from_numpy(m).to(dtype).T
    torch.testing.assert_close(operator.A(x), expected)
    assert operator.A_adjoint(expected).shape == x.shape


@pytest.mark.parametrize("form", FORMS)
def test_they_obey_the_laws(form):
    print(check_operator(as_operator(FORMS[form](matrix()), (2, 3))))


@pytest.mark.parametrize("form", FORMS)
def test_solve_takes_them_as_they_are(form):
    prior, m = Affine(dim=2, size=6), matrix()
    point = prior.sample(2, 3)
    y = prior.decode(point) @ torch.from_numpy(m).T
    solution = solve(FORMS[form](m), y, prior)
    torch.testing.assert_close(solution.z, point.z, rtol=1e-6, atol=1e-6)


def test_the_shape_is_the_matrix_columns_unless_told():
    assert as_operator(matrix()).x_shape == (6,)
    assert as_operator(scipy.sparse.eye_array(4)).x_shape == (4,)
    assert as_operator(matrix(), dtype=torch.float32).matrix.dtype == torch.float32
    assert as_operator(np.eye(3, dtype=int)).matrix.dtype == torch.float64


def test_a_matrix_is_copied_from_numpy():
    m = matrix()
    operator = as_operator(m)
    before = operator.A(torch.ones(1, 6, dtype=torch.float64))
    m[:] = 0
    assert torch.equal(operator.A(torch.ones(1, 6, dtype=torch.float64)), before)


@pytest.mark.parametrize("form", ["numpy", "torch", "csr", "dense", "free"])
def test_complex_ones_are_refused(form):
    with pytest.raises(TypeError, match="complex"):
        as_operator(FORMS[form](matrix() + 1j * matrix(seed=1)), (6,))


def test_complex_results_of_a_real_dtype_are_refused():
    fourier = LinearOperator((4, 4), matvec=np.fft.fft, rmatvec=np.fft.ifft, dtype=float)
    with pytest.raises(TypeError, match="complex"):
        as_operator(fourier)


@pytest.mark.parametrize("form", FORMS)
def test_another_number_of_entries_is_refused(form):
    with pytest.raises(ValueError, match=r"x_shape \(2, 2\) has 4 entries.*6 columns"):
        as_operator(FORMS[form](matrix()), (2, 2))


def test_arrays_of_other_axes_are_refused():
    with pytest.raises(ValueError, match=r"a matrix \(m, n\) is needed"):
        as_operator(np.zeros((2, 3, 4)), (4,))
    with pytest.raises(ValueError, match=r"a matrix \(m, n\) is needed"):
        as_operator(torch.zeros(3), (3,))


def test_without_an_adjoint_only_what_needs_one_fails():
    m = matrix(2, 2)
    operator = as_operator(LinearOperator(m.shape, matvec=lambda x: m @ x, dtype=m.dtype))
    y = torch.tensor([[0.6, 0.8]], dtype=torch.float64) @ torch.from_numpy(m).T
    assert solve(operator, y, Circle(), method=LevenbergMarquardt()).misfit < 1e-12
    with pytest.raises(TypeError, match="the adjoint of .* fails .*: define its rmatvec"):
        operator.A_vjp(torch.zeros(1, 2), torch.zeros(1, 2))


def test_what_is_no_operator_of_its_library_is_taken_as_a_callable():
    assert as_operator(torch.nn.Flatten(), (2, 3)).y_shape == (6,)
    with pytest.raises(TypeError, match="expected a forward operator or a callable, got float64"):
        as_operator(np.float64(3.0), (2,))


def test_adapters_load_without_their_libraries_objects():
    assert set(plugins(ADAPTERS)) == {"deepinv", "numpy", "pylops", "scipy", "torch"}


# pylops -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pylops():
    return pytest.importorskip(
        "pylops", reason="pylops is missing: pip install onmanifold[interfaces]"
    )


def operators_of(pylops):
    return [
        pylops.FirstDerivative((4, 6), axis=1),
        pylops.MatrixMult(matrix(5, 24)),
        pylops.Restriction((4, 6), [0, 2, 5], axis=1),
        2 * pylops.Laplacian((4, 6)) * pylops.Diagonal(np.arange(24.0).reshape(4, 6)),
    ]


@pytest.mark.parametrize("number", range(4))
def test_pylops_operators_obey_the_laws(pylops, number):
    theirs = operators_of(pylops)[number]
    operator = as_operator(theirs, (1, 4, 6))
    print(check_operator(operator))
    x = torch.randn(2, 1, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for one, y in zip(x, operator.A(x), strict=True):
        np.testing.assert_allclose(y.numpy().ravel(), theirs @ one.numpy().ravel(), atol=1e-12)


def test_pylops_dims_are_the_shapes(pylops):
    operator = as_operator(pylops.Restriction((4, 6), [0, 2, 5], axis=1))
    assert (operator.x_shape, operator.y_shape) == ((4, 6), (4, 3))


def test_complex_pylops_operators_are_refused(pylops):
    for theirs in (pylops.signalprocessing.FFT(8), pylops.signalprocessing.FFT(8, real=True)):
        with pytest.raises(TypeError, match="FFT.* is complex"):
            as_operator(theirs)


def test_solve_takes_a_pylops_operator(pylops):
    prior = Affine(dim=2, size=6)
    point = prior.sample(2, 3)
    x = prior.decode(point)
    solution = solve(
        pylops.SecondDerivative(6), as_operator(pylops.SecondDerivative(6)).A(x), prior
    )
    torch.testing.assert_close(solution.z, point.z, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor, scipy.sparse.csr_matrix])
@pytest.mark.parametrize("entry", [np.nan, np.inf, 1e300])
def test_matrices_are_finite_in_their_dtype(kind, entry):
    matrix = np.array([[1.0, entry], [2.0, 3.0]])
    if kind is scipy.sparse.csr_matrix and np.isfinite(entry):  # scipy multiplies it in float64
        assert as_operator(kind(matrix), (2,)).y_shape == (2,)
        return
    with pytest.raises(ValueError, match="the matrix holds 1 NaN or infinite of"):
        as_operator(kind(matrix), (2,), dtype=torch.float32)


@pytest.mark.parametrize(
    "shape", [(8.5, 8), (8.0, 8), ("8", 8), (True, 8), 8, "88", (8, 0), (2**30, 2**30)]
)
def test_shapes_are_ints(shape):
    with pytest.raises(ValueError, match="x_shape"):
        as_operator(lambda x: x, shape)
    assert as_operator(lambda x: x, (np.int64(2), np.uint8(3))).x_shape == (2, 3)
