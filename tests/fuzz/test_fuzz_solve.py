"""solve() with arguments of every kind: refused, or the minimum that a formula or a grid gives."""

import math
import warnings

import numpy as np
import torch
from analytic_priors import Affine, Circle
from hypothesis import strategies as st
from judge import Refused, exact, outcome
from scipy.sparse import coo_array, csr_matrix
from scipy.sparse.linalg import aslinearoperator
from scipy.stats import chi2

from onmanifold import Autodiff, Gaussian, solve

GOOD_STD = ["float", "numpy", "array", "tensor", "0-d", "f4"]
ODD_STD = ["text", "negative", "zero", "nan"]
ODD = [math.nan, math.inf, -math.inf, 1e300, -1e300, 1e-300, 1e38, 1e-38, 0.0]
DTYPES = [
    "f2",
    "f4",
    "f8",
    ">f4",
    ">f8",
    "g",
    "i1",
    "i2",
    "i8",
    ">i4",
    "u1",
    "u8",
    "?",
    "c8",
    "O",
    "U",
    "M8[s]",
]
TORCH = [
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.int8,
    torch.int64,
    torch.bool,
    torch.complex64,
]


class Product(Autodiff):
    linear = True

    def __init__(self, matrix):
        self.matrix, (m, n) = matrix, matrix.shape
        self.x_shape, self.y_shape = (n,), (m,)

    def A(self, x):
        return x @ self.matrix.T.to(x)


def forms(matrix, like):
    """The same linear map, as everything that solve() takes for an operator."""
    tensor = torch.from_numpy(matrix)
    linear = torch.nn.Linear(*matrix.shape[::-1], bias=False, dtype=like)
    linear.weight.data.copy_(tensor)
    return {
        "numpy": matrix,
        "fortran": np.asfortranarray(matrix),
        "strided": np.repeat(matrix, 2, axis=1)[:, ::2],
        "tensor": tensor,
        "transposed": tensor.T.contiguous().T,
        "sparse": csr_matrix(matrix),
        "coo": coo_array(matrix),
        "scipy": aslinearoperator(matrix),
        "function": lambda x: x @ tensor.T.to(x),
        "class": Product(tensor),
        "network": linear,
    }


def good_array(draw, y, dtype):
    """The numbers y in a form that loses nothing."""
    way = draw(
        st.sampled_from(
            ["numpy", "torch", "list", "reversed", "readonly", "fortran", "grad", "int"]
        )
    )
    tensor = torch.from_numpy(y).to(dtype)
    return {
        "numpy": lambda: y.astype(draw(st.sampled_from(["f4", "f8", ">f4", ">f8", "g"]))),
        "torch": lambda: tensor.T.contiguous().T,
        "list": y.tolist,
        "reversed": lambda: np.flip(np.flip(y).copy()),
        "readonly": lambda: np.broadcast_to(y, y.shape),
        "fortran": lambda: np.asfortranarray(y),
        "grad": lambda: tensor.requires_grad_(),
        "int": lambda: np.rint(y.clip(-1e9, 1e9)).astype(
            draw(st.sampled_from(["i4", "i8", ">i8"]))
        ),
    }[way]()


def odd_array(draw, y):
    """The numbers y, one of them odd, in another shape, dtype or container; some of that is right, too."""
    change = draw(
        st.sampled_from(["entry", "entry", "empty", "flat", "more", "axis", "0-d", "none"])
    )
    if change == "entry":
        y = y.copy()
        y.flat[draw(st.integers(0, y.size - 1))] = draw(st.sampled_from(ODD))
    shapes = {"empty": y[:0], "flat": y.ravel(), "more": y[:, :-1], "axis": y[None], "0-d": y[0, 0]}
    y = np.asarray(shapes.get(change, y))
    way = draw(st.sampled_from(["numpy", "torch", "masked", "sparse", "none", "text", "plain"]))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if way == "numpy":
                return y.astype(draw(st.sampled_from(DTYPES)))
            if way == "torch":
                return torch.tensor(y).to(draw(st.sampled_from(TORCH)))
        except (ValueError, TypeError, OverflowError):
            return y
    sparse = torch.tensor(y).to_sparse() if y.ndim else y
    odd = {"masked": np.ma.masked_greater(y, 0), "sparse": sparse, "none": None, "text": str(y)}
    return odd.get(way, y)


@st.composite
def tries(draw):
    """Arguments of solve(), and what the oracle needs."""
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    affine = draw(st.booleans())
    seed = draw(st.integers(0, 9))
    prior = (
        Affine(draw(st.integers(1, 3)), draw(st.integers(3, 5)), seed=seed, dtype=dtype)
        if affine
        else Circle(dtype)
    )
    n, m, batch = prior.x_shape[0], draw(st.integers(1, 4)), draw(st.integers(1, 3))
    source = np.random.default_rng(draw(st.integers(0, 10**6)))
    unit = 10.0 ** draw(st.sampled_from([0, 0, 0, 0, -12, -8, -3, 3, 8, 12]))
    matrix = source.normal(size=(m, n)) * unit
    x = prior.decode(prior.sample(batch, draw(st.integers(0, 99)))).double().numpy()
    y = x @ matrix.T + 0.1 * unit * source.normal(size=(batch, m))
    form = draw(st.sampled_from(list(forms(matrix, dtype))))
    odd = draw(st.sampled_from(["nothing", "nothing", "measurement", "std", "seed", "starts"]))
    measurement = odd_array(draw, y) if odd == "measurement" else good_array(draw, y, dtype)
    std = draw(st.sampled_from([None, 0.1, 0.01, 1.0]))
    how = draw(st.sampled_from(ODD_STD if odd == "std" else GOOD_STD))
    seed = draw(
        st.sampled_from(
            [True, 1.5, "1", 2**70] if odd == "seed" else [0, np.int64(3), np.uint8(2), -5]
        )
    )
    starts = draw(
        st.sampled_from([0, -1, 2.5, True, "4"] if odd == "starts" else [None, 4, np.int32(8), 8])
    )
    return odd, prior, matrix, form, measurement, std, unit, how, seed, starts


def noise(std, unit, how, m):
    if std is None:
        return None, None
    s = std * unit
    given = {
        "float": s,
        "numpy": np.float64(s),
        "array": np.full(m, s),
        "tensor": torch.full((m,), s).double(),
        "0-d": np.array(s),
        "text": "loud",
        "negative": -s,
        "zero": 0.0,
        "nan": math.nan,
        "f4": np.float32(s),
    }[how]
    return given, s


def minimum(prior, matrix, y, std):
    """The smallest objective on the manifold, by linear algebra or on a fine grid: ``(B,)``, float64."""
    if isinstance(prior, Affine):
        basis, centre = prior.matrix.double().numpy(), prior.centre.double().numpy()
        a, r = matrix @ basis / std[0], (y - matrix @ centre) / std[0]
        rows, right = (
            (a, r)
            if not std[1]
            else (
                np.vstack([a, np.eye(a.shape[1])]),
                np.hstack([r, np.zeros((len(r), a.shape[1]))]),
            )
        )
        scale = np.abs(rows).max() or 1.0
        z = np.linalg.lstsq(rows / scale, right.T / scale, rcond=None)[0].T
        return 0.5 * ((right - z @ rows.T) ** 2).sum(1)
    angle = np.linspace(0, 2 * np.pi, 20_001)
    points = np.stack([np.cos(angle), np.sin(angle)], 1) @ matrix.T
    return 0.5 * (((points[None] - y[:, None]) / std[0]) ** 2).sum(2).min(1)


def nearby(x, matrix, y, std):
    """The smallest objective on the circle within 3 degrees of points x: descents end at local minima."""
    turn = np.linspace(-0.05, 0.05, 1001)
    angle = np.arctan2(x[:, 1], x[:, 0])[:, None] + turn
    points = np.stack([np.cos(angle), np.sin(angle)], 2) @ matrix.T
    return 0.5 * (((points - y[:, None]) / std[0]) ** 2).sum(2).min(1)


def objective(prior, matrix, x, y, std):
    """The objective at x and the coordinates of its penalty, from the values alone."""
    misfit = 0.5 * (((x @ matrix.T - y) / std[0]) ** 2).sum(1)
    if not isinstance(prior, Affine) or not std[1]:
        return misfit, misfit
    z = np.linalg.lstsq(
        prior.matrix.double().numpy(), (x - prior.centre.double().numpy()).T, rcond=None
    )[0].T
    return misfit, misfit + 0.5 * (z**2).sum(1)


def check(one):
    with np.errstate(over="ignore", invalid="ignore"):
        judge(*one)


def judge(odd, prior, matrix, form, measurement, std, unit, how, seed, starts):
    given, s = noise(std, unit, how, len(matrix))

    def call():
        fidelity = None if given is None else Gaussian(given)
        operator = forms(matrix, prior.dtype)[form]
        return solve(operator, measurement, prior, fidelity=fidelity, seed=seed, starts=starts)

    found = outcome(call)
    good = exact(measurement)
    plain = (
        good is not None
        and good.shape[1:] == (len(matrix),)
        and good.size
        and np.isfinite(good).all()
    )
    if isinstance(found, Refused):
        assert odd != "nothing", f"refused what is right: {found.message}"
        return
    assert plain, "accepted a measurement that is no finite batch of numbers"
    assert s is None or how not in ODD_STD, f"accepted a std {given!r}"
    assert not isinstance(seed, bool | float | str) and not isinstance(starts, bool | float | str)
    told = np.array([status.converged for status in found.status])
    scale = (max(unit, np.abs(good).max()) if s is None else s, s is not None)
    best = minimum(prior, matrix, good, scale)
    if not np.isfinite(
        best
    ).all():  # numbers that the oracle's own arithmetic does not hold, as 1e300
        return
    x = np.asarray(found.x, dtype=float)  # an array where the measurement was one
    misfit, value = objective(prior, matrix, x, good, scale)
    eps = torch.finfo(prior.dtype).eps
    size = np.abs(x) @ np.abs(matrix).T + np.abs(good)
    rounding = ((eps * 8 * size / scale[0]) ** 2).sum(1) + (
        8 * eps * size * np.abs(x @ matrix.T - good) / scale[0] ** 2
    ).sum(1)
    allowed = 1e-3 * best + 1e-5 * (s is None) * (good**2).sum(1) / scale[0] ** 2 + rounding + 1e-4
    if isinstance(prior, Circle):  # two minima at most: few starts may all end in the shallower one
        best = np.maximum(best, nearby(x, matrix, good, scale))
    wrong = told & ~(value <= best + allowed)
    assert not wrong.any(), f"objective {value}, its minimum is {best}"
    if s is not None:
        right = chi2.sf(2 * misfit, len(matrix))
        stated = np.asarray(found.p_value, dtype=float)
        near = (
            np.abs(np.log(np.maximum(right, 1e-30)) - np.log(np.maximum(stated, 1e-30)))
            < 0.05 + 2 * rounding
        )
        assert (near | ((right < 1e-20) & (stated < 1e-20)) | ~told).all(), (
            f"p-value {stated}, not {right}"
        )


def test_solve_is_right_or_refuses(fuzz):
    fuzz(check, tries(), 3000)
