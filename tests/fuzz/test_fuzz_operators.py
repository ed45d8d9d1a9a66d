"""Constructors of operators with arguments of every kind: refused, or what scipy and numpy compute."""

import math

import numpy as np
import scipy.ndimage
import torch
from hypothesis import strategies as st
from judge import Refused, exact, outcome

from onmanifold import as_operator, load_operator, operator_names
from onmanifold.operators import Blur, Mask, gaussian_kernel
from onmanifold.operators.eit import Protocol, Tank
from onmanifold.operators.eit.conductivity import Affine, Exponential, Saturating
from onmanifold.plugins import operator_options

MODES = {"zero": "constant", "reflect": "mirror", "symmetric": "reflect", "circular": "wrap"}
NUMBERS = st.one_of(
    st.integers(-3, 12),
    st.sampled_from([0.5, 2.0, 40.7, -1.5, math.nan, math.inf, 1e300, 1e-300, 10**400, 2**70]),
    st.sampled_from(
        [None, True, False, "abc", "1,5", "3", "", 1j, np.float32(1.5), np.int64(4), np.array(2.0)]
    ),
)
ANYTHING = st.recursive(
    NUMBERS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
)


def image(shape, seed):
    return torch.randn(
        2, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def dot_test(operator, x):
    u = torch.randn(operator.A(x).shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    left, right = (operator.A(x) * u).sum(), (x * operator.A_vjp(x, u)).sum()
    size = (operator.A(x).abs() * u.abs()).sum()
    assert abs(left - right) <= 1e-9 * size + 1e-300, "the adjoint is another operator's"


@st.composite
def kernels(draw):
    shape = (draw(st.integers(0, 7)), draw(st.integers(1, 7)))
    source = np.random.default_rng(draw(st.integers(0, 999)))
    kernel = source.normal(size=shape)
    if draw(st.integers(0, 6)) == 0 and kernel.size:
        kernel.flat[0] = draw(st.sampled_from([math.nan, math.inf]))
    way = draw(
        st.sampled_from(
            ["f8", "f4", ">f4", "f2", "i4", "?", "c16", "list", "flip", "t8", "t2", "tint", "3d"]
        )
    )
    if way == "list":
        return kernel.tolist()
    if way == "flip":
        return kernel[::-1, ::-1]
    if way == "3d":
        return kernel[None]
    if way[0] == "t":
        kinds = {"t8": torch.float64, "t2": torch.float16, "tint": torch.int64}
        return torch.from_numpy(np.nan_to_num(kernel, posinf=1.0)).to(kinds[way])
    return (
        np.clip(10 * np.nan_to_num(kernel, posinf=1.0), -99, 99) if way in "i4?" else kernel
    ).astype(way)


SIDES = st.one_of(
    st.integers(1, 8),
    st.integers(1, 8),
    st.sampled_from([0, -1, 2.5, 4.0, "3", None, np.int32(5), True]),
)


@st.composite
def blurs(draw):
    shape = tuple(draw(SIDES) for _ in range(draw(st.sampled_from([2, 2, 2, 3, 1]))))
    boundary = draw(st.sampled_from([*MODES, *MODES, "mirror", "", None, 3]))
    method = draw(st.sampled_from(["auto", "auto", "fft", "spatial", "separable", "FFT", None]))
    return draw(kernels()), shape, boundary, method


def check_blur(one):
    kernel, shape, boundary, method = one
    made = outcome(lambda: Blur(kernel, shape, boundary, method))
    if isinstance(made, Refused):
        return
    values = exact(kernel)
    assert values is not None and np.isfinite(values).all() and boundary in MODES
    assert all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in shape), shape
    x = image(made.x_shape, 0)
    planes = x.numpy().reshape(-1, *shape[-2:])
    values = values.reshape(values.shape[-2:])  # "3d": one of several
    right = np.stack([scipy.ndimage.convolve(p, values, mode=MODES[boundary]) for p in planes])
    off = np.abs(made.A(x).numpy().reshape(right.shape) - right).max()
    eps = max(
        1e-10, 30 * torch.finfo(made.kernel.dtype).eps
    )  # the kernel's numbers are known to that
    assert off <= eps * (np.abs(values).sum() * np.abs(planes).max()), f"off by {off}"
    dot_test(made, x)


def check_gaussian_kernel(one):
    size, std = one
    made = outcome(lambda: gaussian_kernel(size, std))
    if isinstance(made, Refused):
        return
    h, w = size if isinstance(size, tuple | list) else (size, size)
    a, b = std if isinstance(std, tuple | list) else (std, std)
    assert not any(isinstance(n, bool | float | str) for n in (h, w)), "a size that is no int"
    assert not any(isinstance(n, bool | str) for n in (a, b)), (
        "a standard deviation that is no number"
    )
    axes = [np.abs(np.arange(int(n)) - (int(n) - 1) / 2) for n in (h, w)]
    with np.errstate(over="ignore"):  # of the tap in the middle, and of those around it
        right = [
            np.exp((t.min() ** 2 - t**2) / 2 / s / s) for t, s in zip(axes, (a, b), strict=True)
        ]
    right = np.outer(right[0] / right[0].sum(), right[1] / right[1].sum())
    np.testing.assert_allclose(made.numpy(), right, rtol=1e-9, atol=1e-300)


@st.composite
def masks(draw):
    shape = tuple(draw(st.integers(1, 5)) for _ in range(draw(st.integers(1, 3))))
    source = np.random.default_rng(draw(st.integers(0, 999)))
    mask = source.random(shape[-2:] if draw(st.booleans()) else shape) < draw(
        st.sampled_from([0.5, 0.9, 0.0])
    )
    way = draw(
        st.sampled_from(["numpy", "torch", "list", "int", "float", "object", "flip", "more"])
    )
    odd = {
        "numpy": mask,
        "torch": torch.from_numpy(mask),
        "list": mask.tolist(),
        "int": mask.astype(int),
        "float": torch.from_numpy(mask).double(),
        "object": mask.astype(object),
        "flip": np.flip(mask),
        "more": mask[None],
    }[way]
    return odd, shape


def check_mask(one):
    mask, shape = one
    made = outcome(lambda: Mask(mask, shape))
    if isinstance(made, Refused):
        return
    whole = np.broadcast_to(np.asarray(mask), shape)
    assert whole.dtype == bool and whole.any()
    x = image(shape, 0)
    np.testing.assert_array_equal(made.A(x).numpy(), np.stack([one[whole] for one in x.numpy()]))
    dot_test(made, x)


@st.composite
def matrices(draw):
    shape = draw(st.sampled_from([(3, 4), (1, 4), (4,), (0, 4), (2, 2, 4), (3, 6)]))
    matrix = np.random.default_rng(draw(st.integers(0, 999))).normal(size=shape)
    if draw(st.integers(0, 5)) == 0 and matrix.size:
        matrix.flat[0] = draw(st.sampled_from([math.nan, math.inf, 1e300, 1e-300]))
    dtype = draw(st.sampled_from(["f8", "f4", "f2", ">f8", "g", "i4", "?", "c16", "O", "U"]))
    kind = draw(st.sampled_from(["numpy", "list", "torch", "fortran", "masked"]))
    with np.errstate(all="ignore"):
        array = (10 * matrix if dtype == "i4" else matrix).astype(dtype)
    if kind == "torch" and dtype in ("f8", "f4", "f2", "i4", "?", "c16"):
        return torch.from_numpy(array)
    if kind == "fortran":
        return np.asfortranarray(array)
    if kind == "masked":
        return np.ma.masked_less(matrix, 0)
    return array.tolist() if kind == "list" else array


def check_matrix(one):
    matrix, dtype, x_shape = one
    made = outcome(lambda: as_operator(matrix, x_shape, dtype=dtype))
    if isinstance(made, Refused):
        return
    boolean = getattr(matrix, "dtype", None) in (np.dtype(bool), torch.bool)  # 0 and 1
    values = exact(np.asarray(matrix).astype(int) if boolean else matrix)
    assert values is not None and not np.ma.is_masked(matrix), (
        "accepted what is no matrix of numbers"
    )
    assert np.isfinite(values).all(), "accepted NaN or infinite entries"
    x = image(made.x_shape, 0).to(dtype)
    rows = x.double().numpy().reshape(2, -1)
    off = np.abs(made.A(x).double().numpy() - rows @ values.T)
    allowed = 100 * torch.finfo(dtype).eps * (np.abs(rows) @ np.abs(values).T) + 1e-37
    assert (off <= allowed).all(), f"off by {off}"


@st.composite
def options(draw):
    name = draw(st.sampled_from([n for n in operator_names() if n in ("blur", "mask")]))
    names = {"blur": ["std", "size", "boundary", "method"], "mask": ["keep", "seed", "box"]}[name]
    chosen = draw(st.lists(st.sampled_from([*names, *names, "typo"]), unique=True, max_size=4))
    values = {
        n: draw(ANYTHING | st.sampled_from(["zero", "reflect", (1, 2), [2.0, 1.0], (0, 2, 0, 2)]))
        for n in chosen
    }
    if name == "blur" and draw(st.booleans()):
        values.setdefault("std", 1.5)
    return name, draw(st.sampled_from([(5, 6), (3, 5, 6), (4,), None])), values


NEW = {
    "downsampling": ["factor", "filter", "dims"],
    "fourier": ["acceleration", "centre", "pattern", "seed", "coils"],
    "tomography": ["angles", "arc", "detectors", "spacing", "pixel"],
}


@st.composite
def options_of_linear_operators(draw):
    name = draw(st.sampled_from(sorted(NEW)))
    words = st.sampled_from(
        ["average", "cubic", "random", "equispaced", (1, 2), [2.0, 1.0], 2, 1.5]
    )
    chosen = draw(st.lists(st.sampled_from(NEW[name]), unique=True, max_size=3))
    values = {one: draw(ANYTHING | words) for one in chosen}
    if name == "downsampling" and draw(st.booleans()):
        values.setdefault("factor", 2)
    return (
        name,
        draw(st.sampled_from([(5, 6), (1, 5, 6), (2, 5, 6), (3, 4, 5), (4,), None])),
        values,
    )


def check_linear_operators(one):
    """Refused in words of ours, or an operator whose adjoint is one, and that keeps numbers finite."""
    name, x_shape, values = one
    made = outcome(lambda: load_operator(name, x_shape, **values))
    if isinstance(made, Refused) or made.y_shape[-1] > 10_000:
        return
    assert "typo" not in values
    x = image(made.x_shape, 0)
    assert bool(torch.isfinite(made.A(x)).all())
    dot_test(made, x)


def is_number(value, whole=False):
    if isinstance(value, bool | complex | str | type(None)) or isinstance(
        value, list | tuple | dict
    ):
        return False
    return isinstance(value, int | np.integer) if whole else bool(np.isfinite(np.float64(value)))


def check_options(one):
    name, x_shape, values = one
    made = outcome(lambda: load_operator(name, x_shape, **values))
    if isinstance(made, Refused):
        return
    pairs = {k: v if isinstance(v, list | tuple) else [v] for k, v in values.items()}
    assert "typo" not in values
    for option in ("std", "keep"):
        assert all(map(is_number, pairs.get(option, [])))
    for option in ("size", "seed", "box"):
        if values.get(option) is not None:
            assert all(is_number(v, whole=True) for v in pairs[option]), values
    if name == "blur":
        size = made.kernel.shape
        right = gaussian_kernel(
            tuple(size),
            values["std"] if not isinstance(values["std"], list) else tuple(values["std"]),
        )
        assert torch.equal(made.kernel, right)
        assert (
            tuple(size) == tuple(np.broadcast_to(values["size"], 2))
            if values.get("size") is not None
            else True
        )


def check_texts(one):
    """Options as text: what is accepted is of the option's type by a parser of its own."""
    name, text = one
    made = outcome(
        lambda: load_operator(
            "blur", (6, 6), **{"std": 1.5, **operator_options("blur", {name: text})}
        )
    )
    if isinstance(made, Refused):
        return
    if name == "size":
        assert text == "null" or all(
            part.strip().isdigit() for part in text.strip("[] \n\t\r").split(",")
        ), text
    if name == "std":
        for part in text.strip("[] \n\t\r").split(","):
            assert 0 < float(part) < math.inf and part.strip()[:1].isdigit(), text
        assert "," not in text or "[" in text, text
    if name in ("boundary", "method"):
        assert text.strip('" \n\t\r') in (*MODES, "auto", "fft", "spatial", "separable"), text


@st.composite
def bodies(draw):
    """A class of the EIT operator's parts with arguments of every kind."""
    kind = draw(
        st.sampled_from(
            [
                Tank,
                Affine,
                Exponential,
                Saturating,
                Protocol.adjacent,
                Protocol.skip,
                Protocol.opposite,
                Protocol.trigonometric,
            ]
        )
    )
    names = {
        Tank: ["radius", "electrodes", "width", "first_angle", "contact_impedance", "shunted"],
        Affine: ["offset", "slope"],
        Exponential: [],
        Saturating: [],
    }.get(kind, ["electrodes", "skip"][: 1 + (kind == Protocol.skip)])
    return kind, {
        name: draw(ANYTHING) for name in names if kind not in (Tank, Affine) or draw(st.booleans())
    }


def check_body(one):
    kind, arguments = one
    made = outcome(lambda: kind(**arguments))
    if isinstance(made, Refused):
        return
    for value in arguments.values():
        flat = value if isinstance(value, list | tuple) else [value]
        assert not any(isinstance(v, str | complex | type(None) | dict) for v in flat), arguments
        assert all(math.isfinite(float(v)) for v in flat), arguments
    if kind is Tank:
        assert made.centres.shape == (made.electrodes, 2)
        np.testing.assert_allclose(np.hypot(*made.centres.T), made.radius, rtol=1e-9)
    elif kind is Affine:
        x = torch.linspace(0, 1, 5, dtype=torch.float64)
        assert torch.isfinite(made.value(x)).all() if hasattr(made, "value") else True
    elif hasattr(made, "injections"):
        assert (
            np.abs(made.injections.sum(axis=0)).max() < 1e-9 and np.isfinite(made.injections).all()
        )


def test_blur(fuzz):
    fuzz(check_blur, blurs(), 900)


def test_gaussian_kernel(fuzz):
    pair = st.one_of(NUMBERS, st.tuples(NUMBERS, NUMBERS))
    fuzz(check_gaussian_kernel, st.tuples(pair, pair), 500)


def test_mask(fuzz):
    fuzz(check_mask, masks(), 400)


def test_matrix(fuzz):
    shapes = st.sampled_from([None, (4,), (2, 2), (1, 4), (3,)])
    fuzz(
        check_matrix,
        st.tuples(matrices(), st.sampled_from([torch.float32, torch.float64]), shapes),
        500,
    )


def test_options_by_name(fuzz):
    fuzz(check_options, options(), 700)


def test_options_of_linear_operators(fuzz):
    fuzz(check_linear_operators, options_of_linear_operators(), 900)


def test_options_as_text(fuzz):
    texts = st.one_of(
        st.sampled_from(
            [
                "3",
                "40.7",
                "abc",
                "1,5",
                "null",
                "true",
                "[3, 3]",
                "[3, 2.5]",
                '"3"',
                "NaN",
                "1e400",
                " 2 ",
                "zero",
                '"zero"',
                "{}",
                "[]",
                "[" * 3000,
                "9" * 5000,
                "-1",
                "0",
                "3]",
                "1e-400",
                "0x10",
            ]
        ),
        st.text(alphabet='0123456789.,eE+-[]{}" naultrfse', max_size=8),
    )
    fuzz(check_texts, st.tuples(st.sampled_from(["size", "std", "boundary", "method"]), texts), 700)


def test_parts_of_eit(fuzz):
    fuzz(check_body, bodies(), 500)
