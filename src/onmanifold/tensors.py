"""Tensors of whatever holds numbers: the one way in for the arrays of a user.

numpy's arrays, scalars and lists become tensors where nothing is lost. Where something would be, such as a
phase, a masked entry or a count beyond the dtype's range, the caller reads what to do instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onmanifold.errors import InputError, InputTypeError

_HINTS = {
    "c": "it is complex: take its real part or its modulus, or stack real and imaginary part",
    "b": "it is boolean: say what True and False measure, such as x.astype(float)",
    "O": "it holds Python objects: make it an array of numbers, such as np.array(x, dtype=float)",
    "M": "it holds dates", "m": "it holds durations", "V": "it holds records: take one of its fields",
    "S": "it holds text", "U": "it holds text",
}  # fmt: skip


def as_real(
    value: Any,
    name: str,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """A dense tensor of real floating-point numbers.

    A floating-point tensor is returned as it is, whatever its dtype and device: who passes one has chosen
    them. Everything else is copied.

    Args:
        value: a tensor; a numpy array or scalar; numbers in lists; what numpy makes an array of.
        name: what messages call it.
        dtype: floating-point dtype of all else; default: numpy's, and float64 for integers.
        device: device of what is no tensor.

    Raises:
        TypeError: complex, boolean, sparse or quantized entries, or no numbers at all.
        ValueError: masked entries, lists of different lengths, numbers that ``dtype`` cannot hold.

    Example:
        >>> as_real(np.arange(3, dtype=">i2"), "measurement", dtype=torch.float32)
        tensor([0., 1., 2.])
        >>> as_real(np.array([1j]), "measurement")
        Traceback (most recent call last):
        onmanifold.errors.InputTypeError: measurement cannot be used: it is complex: take its real part ...
    """
    if isinstance(value, Tensor):
        tensor = _dense(value, name)
        if tensor.is_floating_point():
            return tensor.clone() if tensor.is_inference() else tensor  # without derivatives
        exact = tensor.to(torch.float64)
        if not bool((exact.to(tensor.dtype) == tensor).all()):
            raise InputError(f"{name} holds integers that float64 cannot tell apart")
    else:
        exact = torch.from_numpy(real_array(value, name)).to(device=device)
        if dtype is None:
            dtype = torch.float32 if exact.dtype == torch.float32 else torch.float64
    return _narrowed(exact, torch.float64 if dtype is None else dtype, name)


def real_array(value: Any, name: str) -> NDArray[np.floating[Any]]:
    """A new numpy array, float32 or float64, of a user's numbers; errors as of :func:`as_real`."""
    if isinstance(value, Tensor):
        value = as_real(value, name).detach().cpu().numpy()
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise InputError(
            f"{name} has masked entries: fill them, value.filled(0), and mark them by a fidelity's mask"
        )
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise InputError(f"{name} is no array of numbers: {error}") from error
    if array.dtype.kind not in "fiu":
        hint = _HINTS.get(array.dtype.kind, f"its entries are {array.dtype}")
        raise InputTypeError(f"{name} cannot be used: {hint}")
    native = np.float32 if array.dtype.kind == "f" and array.dtype.itemsize <= 4 else np.float64
    with np.errstate(over="ignore"):
        result: NDArray[np.floating[Any]] = np.array(array, dtype=native, order="C")
    wide = array.dtype.kind in "iu" and array.dtype.itemsize == 8
    if wide and not np.array_equal(_back(result, array.dtype), array):
        raise InputError(f"{name} holds integers that float64 cannot tell apart")
    if array.dtype.itemsize > 8 and not np.array_equal(np.isfinite(result), np.isfinite(array)):
        raise InputError(f"{name} holds numbers beyond the range of float64")
    return result


def as_mask(value: Any, name: str) -> Tensor:
    """A boolean tensor of a boolean tensor, array or list; ``TypeError`` for anything else.

    Example:
        >>> as_mask(np.array([True, False]), "mask")
        tensor([ True, False])
    """
    if isinstance(value, Tensor):
        mask = value
    else:
        try:
            array = np.asarray(value)
        except (ValueError, TypeError) as error:
            raise InputTypeError(f"{name} has to be a boolean tensor: {error}") from error
        if array.dtype.kind != "b":
            raise InputTypeError(f"{name} has to be a boolean tensor, got {type(value).__name__}")
        mask = torch.from_numpy(np.array(array))
    if mask.dtype != torch.bool:
        raise InputTypeError(f"{name} has to be a boolean tensor, got {mask.dtype}")
    return mask


def _back(result: NDArray[np.floating[Any]], dtype: np.dtype[Any]) -> NDArray[Any]:
    info = np.iinfo(dtype)
    inside = np.clip(result, float(info.min), np.nextafter(float(info.max), 0))
    return np.asarray(inside, dtype)


def _dense(value: Tensor, name: str) -> Tensor:
    if value.is_complex():
        raise InputTypeError(f"{name} cannot be used: {_HINTS['c']}")
    if value.dtype == torch.bool:
        raise InputTypeError(
            f"{name} cannot be used: it is boolean: say what True and False measure"
        )
    if value.layout != torch.strided or value.is_quantized or value.is_nested:
        raise InputTypeError(
            f"{name} has to be a dense tensor, such as x.to_dense() or x.dequantize()"
        )
    return value


def _narrowed(exact: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    """``exact`` in ``dtype``, if its numbers are within that range."""
    result = exact.to(dtype)
    lost = (torch.isfinite(exact) & ~torch.isfinite(result)) | ((exact != 0) & (result == 0))
    if bool(lost.any()):
        worst = exact[lost].flatten()[0]
        raise InputError(
            f"{name} holds {worst:g}, beyond the range of {dtype}: use other units, or float64"
        )
    return result
