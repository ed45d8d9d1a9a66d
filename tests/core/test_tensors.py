"""Whatever holds numbers becomes a tensor, or is refused where something would be lost."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onmanifold.tensors import as_mask, as_real, real_array

KINDS = "?bBhHiIlLqQefdgFDGOSUMmV"


@pytest.mark.parametrize(
    "value",
    [
        np.arange(4.0)[::-1],
        np.arange(4, dtype=">i2"),
        np.arange(4, dtype=">f8"),
        np.arange(4, dtype=np.float16),
        np.arange(4, dtype=np.longdouble),
        np.arange(8, dtype=np.uint16)[::2],
        np.ma.array([1.0, 2.0], mask=[False, False]),
        np.float32(3.0),
        np.int64(3),
        3,
        [1, 2.5, np.float32(4)],
        (range(3), range(3)),
        torch.arange(3),
    ],
)
def test_numbers_keep_their_values(value):
    tensor = as_real(value, "v", dtype=torch.float32)
    assert tensor.dtype == torch.float32
    assert np.array_equal(tensor.numpy(), np.asarray(value, np.float32))
    assert np.array_equal(real_array(value, "v"), np.asarray(value, np.float64))


def test_arrays_are_copied_and_may_be_read_only():
    array = np.arange(3.0)
    array.flags.writeable = False
    tensor = as_real(array, "v")
    tensor += 1
    assert array.tolist() == [0.0, 1.0, 2.0]


def test_floating_point_tensors_are_the_caller_s_choice():
    value = torch.ones(2, dtype=torch.float64)
    assert as_real(value, "v", dtype=torch.float32) is value


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.array([1j]), TypeError, "v cannot be used: it is complex"),
        (np.complex64(1), TypeError, "real part or its modulus"),
        (torch.zeros(2, dtype=torch.cfloat), TypeError, "it is complex"),
        (np.array([True]), TypeError, "it is boolean"),
        (torch.tensor([True]), TypeError, "it is boolean"),
        (np.array([1, None]), TypeError, "Python objects"),
        (None, TypeError, "Python objects"),
        ({}, TypeError, "Python objects"),
        ("1.0", TypeError, "it holds text"),
        (np.array(["2020-01-01"], "M8[D]"), TypeError, "it holds dates"),
        (np.zeros(2, [("a", "f4")]), TypeError, "take one of its fields"),
        ([[1.0], [2.0, 3.0]], ValueError, "v is no array of numbers"),
        (np.ma.array([1.0, 2.0], mask=[True, False]), ValueError, "masked entries"),
        (np.array([2**53 + 1]), ValueError, "integers that float64 cannot tell apart"),
        (np.array([2**64 - 1], np.uint64), ValueError, "integers that float64"),
        (torch.tensor([2**53 + 1]), ValueError, "integers that float64"),
        (np.longdouble("1e400"), ValueError, "beyond the range of float64"),
        (np.array([1e300]), ValueError, "beyond the range of torch.float32"),
        (np.array([1e-300]), ValueError, "beyond the range of torch.float32"),
        (torch.eye(2).to_sparse(), TypeError, "dense tensor"),
    ],
)
def test_what_would_lose_something_is_refused(value, error, message):
    with pytest.raises(error, match=message):
        as_real(value, "v", dtype=torch.float32)


@pytest.mark.parametrize("value", [[1, 0], np.array([1, 0]), torch.tensor([1.0]), "ab", None])
def test_masks_are_boolean(value):
    with pytest.raises(TypeError, match="m has to be a boolean tensor"):
        as_mask(value, "m")


@given(st.data())
def test_every_array_of_numpy_keeps_its_values_or_is_refused(data):
    dtype = np.dtype(data.draw(st.sampled_from(KINDS)))
    dtype = np.dtype("V8") if dtype.kind == "V" else np.dtype("U3") if dtype.kind == "U" else dtype
    if dtype.kind in "OV" or dtype.kind in "SMm" and dtype.itemsize == 0:
        array = np.zeros(data.draw(hnp.array_shapes()), dtype)
    else:
        array = data.draw(hnp.arrays(dtype, hnp.array_shapes(max_dims=3, max_side=3)))
    try:
        tensor = as_real(array, "v")
    except (TypeError, ValueError):
        assert array.dtype.kind not in "fiu" or array.dtype.itemsize >= 8
        return
    assert array.dtype.kind in "fiu"
    assert np.array_equal(
        tensor.numpy().astype(array.dtype), array, equal_nan=array.dtype.kind == "f"
    )
