"""What users pass: one rule for arrays, numbers and flags at every door of the operators."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onmanifold.errors import InputError
from onmanifold.operators import Blur, Mask, gaussian_kernel
from onmanifold.operators import blur as blurs
from onmanifold.operators import mask as masks
from onmanifold.operators.eit import (
    EIT,
    Affine,
    BoundaryCurve,
    Continuum,
    Cylinder,
    Exponential,
    Inclusions,
    Labels,
    Measurement,
    Mesh,
    MeshGeometry,
    Protocol,
    Saturating,
    Tank,
    from_options,
    noise_std,
    polar_mesh,
    with_electrode_edges,
)

TANK, ADJACENT = Tank(electrodes=8, width=20), Protocol.adjacent(8)
MESH = polar_mesh(TANK, edges=2)
SQUARE = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
EDGES = np.stack([TANK.angles - 10, TANK.angles + 10], axis=1)


def eit(**options):
    return EIT(Tank.unit(), Protocol.adjacent(32), (1, 8, 8), mesh="coarse", **options)


# each door: what it makes of an array, and an array that it takes
DOORS = {
    "kernel": (lambda a: Blur(a, (8, 8)).kernel, np.ones((3, 3))),
    "voltages": (lambda a: Measurement.from_values(ADJACENT, a).voltages, np.ones((8, 8))),
    "reference": (lambda a: eit(background=1.0, reference=a).draw_y, np.ones((32, 32))),
    "injections": (lambda a: Protocol(a, np.eye(8)).injections, ADJACENT.injections.copy()),
    "patterns": (lambda a: Protocol(ADJACENT.injections, a).patterns, np.eye(8)),
    "contact impedance": (lambda a: Tank(electrodes=8, contact_impedance=a).impedances, np.ones(8)),
    "points of a mesh": (
        lambda a: Mesh(a, MESH.cells, MESH.facets, MESH.electrode).points,
        MESH.points,
    ),
    "outline": (lambda a: BoundaryCurve(a, 2, 0.1).centres, SQUARE),
    "places": (lambda a: BoundaryCurve(SQUARE, width=0.1, at=a).centres, np.array([0.2, 0.7])),
    "widths": (lambda a: BoundaryCurve(SQUARE, 2, a).centres, np.array([0.1, 0.2])),
    "rings": (lambda a: Cylinder(rings=a).centres, np.array([0.2, 0.7])),
    "edges": (lambda a: with_electrode_edges(MESH, TANK, a).points, EDGES),
    "currents": (lambda a: Continuum.piecewise(a), np.array([[1.0, -1.0], [2.0, -2.0]])),
    "noise": (noise_std, np.ones(4)),
}
doors = pytest.mark.parametrize(("door", "array"), DOORS.values(), ids=DOORS)


@doors
@pytest.mark.parametrize(
    "convert",
    [
        np.asarray,
        torch.from_numpy,
        np.asfortranarray,
        lambda a: a.astype(">f8"),
        lambda a: a.astype(np.longdouble),
        lambda a: a.tolist(),
        lambda a: torch.from_numpy(a).requires_grad_(),
        lambda a: np.ma.masked_array(a, np.zeros(a.shape, bool)),
        lambda a: a[::-1].copy()[::-1],
    ],
    ids=["numpy", "torch", "fortran", "big", "long", "list", "grad", "unmasked", "strided"],
)
def test_real_numbers_are_taken(door, array, convert):
    expected, found = door(array), door(convert(array))
    if isinstance(expected, np.ndarray | torch.Tensor):
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


@doors
@pytest.mark.parametrize(
    "convert",
    [
        lambda a: a * np.exp(1.3j),
        lambda a: a + 0j,
        lambda a: torch.from_numpy(a + 0j),
        lambda a: (a + 1j).tolist(),
        lambda a: a != 0,
        lambda a: torch.from_numpy(a != 0),
        lambda a: np.ma.masked_array(a, np.ones(a.shape, bool)),
        lambda a: a.astype(str),
        lambda a: a.astype("datetime64[s]"),
        lambda a: [[1.0, 2.0], [3.0]],
        lambda a: {"a": 1},
        lambda a: torch.from_numpy(a).to_sparse(),
    ],
    ids="phase complex ctensor clist bool btensor masked text dates ragged mapping sparse".split(),
)
def test_what_would_lose_something_is_refused(door, array, convert):
    with pytest.raises(InputError):
        door(convert(array))


# each: a constructor with one number, and that number
NUMBERS = {
    "radius": (lambda v: Tank(radius=v), 0.5),
    "width": (lambda v: Tank(width=v), 5.0),
    "first_angle": (lambda v: Tank(first_angle=v), 5.0),
    "height": (lambda v: Cylinder(height=v), 2.0),
    "first": (lambda v: BoundaryCurve(SQUARE, 2, 0.1, first=v), 0.1),
    "offset": (lambda v: Affine(v, 1.0), 0.5),
    "slope": (lambda v: Affine(0.1, v), 0.5),
    "background": (Exponential, 0.5),
    "rate": (lambda v: Exponential(1.0, v), 0.5),
    "reach": (lambda v: Saturating(reach=v), 0.5),
    "resistive": (lambda v: Labels(resistive=v), 0.5),
    "inclusions": (lambda v: Inclusions(resistive=v), 0.5),
    "current": (lambda v: Protocol.adjacent(8, v), 0.5),
    "waves": (lambda v: Protocol.trigonometric(8, v), 0.5),
    "water": (lambda v: eit(background=v), 0.5),
    "scaled": (lambda v: eit().scaled(v), 0.5),
    "relative": (lambda v: noise_std([1.0, 2.0], v), 0.5),
    "floor": (lambda v: noise_std([1.0, 2.0], floor=v), 0.5),
    "growth": (lambda v: polar_mesh(TANK, growth=v), 1.5),
    "longest": (lambda v: polar_mesh(TANK, longest=v), 0.5),
    "std": (lambda v: gaussian_kernel(3, v), 0.5),
    "blur std": (lambda v: blurs.from_options((8, 8), std=v), 0.5),
    "keep": (lambda v: masks.from_options((8, 8), keep=v), 0.5),
}
COUNTS = {
    "electrodes": lambda v: Tank(electrodes=v),
    "per ring": lambda v: Cylinder(per_ring=v),
    "along a curve": lambda v: BoundaryCurve(SQUARE, v, 0.1),
    "adjacent": Protocol.adjacent,
    "skip": lambda v: Protocol.skip(16, v),
    "arcs": Continuum.walsh,
    "order": Continuum.trigonometric,
    "points": lambda v: Continuum.walsh(4, v),
    "edges": lambda v: polar_mesh(TANK, edges=v),
    "size": lambda v: gaussian_kernel(v, 1.0),
    "blur size": lambda v: blurs.from_options((8, 8), std=1.0, size=v),
    "seed": lambda v: masks.from_options((8, 8), seed=v),
}


@pytest.mark.parametrize(("make", "value"), NUMBERS.values(), ids=NUMBERS)
def test_numbers(make, value):
    for kind in (float, np.float32, np.float64, np.float16):
        make(kind(value))
    bad = ["abc", "1,5", "0.5", None, True, np.True_, 1j, np.complex128(1), [1.0, 2.0], math_nan()]
    for wrong in bad:
        if wrong is None and make is NUMBERS["water"][0]:
            continue
        if isinstance(wrong, list) and make in (NUMBERS["std"][0], NUMBERS["blur std"][0]):
            continue  # one for each axis
        with pytest.raises(InputError):
            make(wrong)


def math_nan():
    return float("nan")


@pytest.mark.parametrize("make", COUNTS.values(), ids=COUNTS)
def test_counts(make):
    for kind in (int, np.int64, np.uint8):
        make(kind(4))
    for wrong in ("4", 4.5, 4.0, True, None, 4j, -1, 10**30):
        if wrong is None and make in (COUNTS["seed"], COUNTS["blur size"]):
            continue
        if wrong == 10**30 and make not in (COUNTS["electrodes"], COUNTS["adjacent"]):
            continue
        if wrong == -1 and make is COUNTS["seed"]:
            continue
        with pytest.raises(InputError):
            make(wrong)


@pytest.mark.parametrize(
    "make",
    [
        lambda v: Tank(clockwise=v),
        lambda v: BoundaryCurve(SQUARE, 2, 0.1, smooth=v),
        lambda v: Protocol.adjacent(8, drop_driven=v),
        lambda v: from_options((1, 8, 8), mesh="coarse", drop_driven=v),
    ],
)
def test_flags(make):
    make(np.bool_(False))
    for wrong in ("false", "no", 0, 1, None, [True]):
        with pytest.raises(InputError, match="true or false"):
            make(wrong)


def test_whole_numbers_stay_whole():
    kept = Mesh(
        MESH.points, MESH.cells.astype(float), MESH.facets, MESH.electrode.astype(np.uint64)
    )
    np.testing.assert_array_equal(kept.cells, MESH.cells)
    for cells in (MESH.cells + 0.5, MESH.cells.astype(np.int64) + 2**32, MESH.cells + 0j):
        with pytest.raises(InputError, match="cells"):
            Mesh(MESH.points, cells, MESH.facets, MESH.electrode)
    with pytest.raises(InputError, match="whole"):
        MeshGeometry.of(MESH, shunted=[0.5])


@pytest.mark.parametrize(
    "make",
    [
        lambda m: Mask(m, (8, 8)).mask,
        lambda m: Measurement.from_values(ADJACENT, np.ones((8, 8)), m).mask,
        lambda m: torch.from_numpy(Protocol(ADJACENT.injections, ADJACENT.patterns, m).mask),
    ],
)
def test_masks(make):
    given = np.eye(8, dtype=bool)
    for mask in (given, torch.from_numpy(given), given.tolist(), np.asfortranarray(given)):
        np.testing.assert_array_equal(make(mask), given)
    for wrong in (given.astype(float), given.astype(int), given + 0j, "mask", torch.ones(8, 8)):
        with pytest.raises(InputError, match="boolean"):
            make(wrong)


# Half precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize("boundary", ["zero", "reflect", "circular"])
@pytest.mark.parametrize("method", ["separable", "spatial", "fft"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_blur_in_half_precision(dtype, method, boundary):
    """The result is that of float32, rounded once."""
    x = torch.rand(2, 32, 31, generator=torch.Generator().manual_seed(0)).to(dtype)
    blur = Blur(gaussian_kernel(9, 2.0), (32, 31), boundary=boundary, method=method)
    for apply in (blur.A, blur.A_adjoint, lambda v: blur.A_jvp(v, v)):
        y = apply(x)
        assert y.dtype == dtype
        assert torch.equal(y, apply(x.float()).to(dtype))
    for low in (
        Blur(gaussian_kernel(9, 2.0, dtype), (32, 31), boundary=boundary, method=method),
        Blur(gaussian_kernel(9, 2.0), (32, 31), boundary=boundary, method=method).to(dtype),
    ):
        error = (low.A(x).float() - blur.A(x.float())).abs().max()
        assert error < 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mask_in_half_precision(dtype):
    x = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    mask = Mask(np.eye(4, dtype=bool), (4, 4))
    assert torch.equal(mask.A(x), x[:, range(4), range(4)])
    assert torch.equal(mask.A_adjoint(mask.A(x)), x * torch.eye(4, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_eit_refuses_half_precision(dtype):
    x = torch.ones(1, 1, 8, 8, dtype=dtype)
    operator = eit()
    for apply in (operator.A, operator.linearize, operator.cell_conductivity):
        with pytest.raises(InputError, match="float32 or float64"):
            apply(x)


# Options of the command line ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"tank": {"radius": "abc"}},
        {"tank": {"radius": [1]}},
        {"tank": {"electrodes": 8.5}},
        {"tank": 5},
        {"tank": ["unit"]},
        {"tank": {"shape": "curve", "points": "x"}},
        {"tank": {"shape": "curve", "points": [[0, 0], [1]]}},
        {"tank": {"shape": 5}},
        {"contact_impedance": "abc"},
        {"contact_impedance": [1, "x"]},
        {"contact_impedance": True},
        {"mesh": 5},
        {"mesh": {"mesh": "polar", "edges": "x"}},
        {"mesh": {"mesh": "gmsh", "edge": "x"}},
        {"mesh": "mesh.stl"},
        {"protocol": 5},
        {"protocol": {"protocol": "skip", "skip": "x"}},
        {"protocol": {"protocol": "adjacent", "current": "1,5"}},
        {"protocol": "skip-x"},
        {"conductivity": {"map": "affine", "slope": "x"}},
        {"conductivity": {"map": "labels", "free": 5}},
        {"conductivity": 5},
        {"reference": [[1, 2], [3]]},
        {"reference": [[1, "x"]]},
        {"reference": 5},
        {"background": "abc"},
        {"background": True},
        {"degree": "x"},
        {"degree": 3},
        {"solver": 5},
        {"solver": "cg"},
        {"device": "foo"},
        {"device": "cuda:99"},
        {"device": [1]},
        {"drop_driven": "false"},
    ],
    ids=str,
)
def test_options_of_eit_are_refused_in_one_line(options):
    with pytest.raises(InputError) as refused:
        from_options(**({"x_shape": (1, 8, 8), "mesh": "coarse"} | options))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [{"std": v} for v in ("abc", "1,5", None, True, 0, [1, 2, 3])]
    + [{"std": 3, "size": v} for v in ("abc", 40.7, True, 0, [3, "x"])]
    + [{"std": 3, "boundary": 5}, {"std": 3, "method": ["fft"]}],
    ids=str,
)
def test_options_of_blur_are_refused_in_one_line(options):
    with pytest.raises(InputError) as refused:
        blurs.from_options((16, 16), **options)
    assert "\n" not in str(refused.value)
