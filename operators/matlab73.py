"""Matlab's files of version 7.3, which are HDF5."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csc_array

from onmanifold.errors import InputError, MissingPackage


def load_mat73(path: str | Path) -> dict[str, Any]:
    """The variables of a file of version 7.3, as scipy's ``loadmat`` gives those of earlier ones.

    Structs are structured arrays ``(1, 1)`` or of the struct array's shape, with fields of objects.

    Raises:
        ImportError: h5py is missing.
        ValueError: the file is damaged; it is named.
    """
    try:
        h5py = import_module("h5py")
    except ImportError as error:
        raise MissingPackage(
            f"{path} is a Matlab 7.3 file, which needs h5py ({error}): `pip install h5py`, or save with -v7"
        ) from error
    try:
        with h5py.File(path, "r") as file:
            names = [name for name in file if not name.startswith("#")]
            return {name: _value(h5py, file, file[name]) for name in names}
    except Exception as error:  # whatever a damaged file makes of the library
        raise InputError(f"{path} is not a readable Matlab 7.3 file: {error}") from error


def _value(h5py: Any, file: Any, item: Any) -> Any:
    if isinstance(item, h5py.Group):
        return _sparse(item) if "MATLAB_sparse" in item.attrs else _struct(h5py, file, item)
    if item.attrs.get("MATLAB_empty", 0):
        return np.zeros(tuple(int(n) for n in item[()].ravel()))
    kind = item.attrs.get("MATLAB_class", b"")
    values = item[()]
    if item.dtype == h5py.ref_dtype:  # a cell array
        return _referred(h5py, file, values)
    if item.dtype.names == ("real", "imag"):
        values = values["real"] + 1j * values["imag"]
    if kind == b"logical":
        values = values.astype(bool)
    if kind == b"char":
        return np.array("".join(map(chr, values.ravel(order="F"))))
    return values.T  # Matlab counts columns first


def _sparse(group: Any) -> csc_array:
    """Matlab's compressed columns; empty matrices have no entries at all."""
    start = group["jc"][()]
    rows = group["ir"][()] if "ir" in group else np.zeros(0, int)
    entries = group["data"][()] if "data" in group else np.zeros(0)
    shape = (int(group.attrs["MATLAB_sparse"]), len(start) - 1)
    return csc_array((entries, rows, start), shape=shape)


def _struct(h5py: Any, file: Any, group: Any) -> Any:
    """A struct, or a struct array: then each field is a table of references."""
    fields = {name: group[name] for name in group}
    array = bool(fields) and all(
        isinstance(field, h5py.Dataset)
        and field.dtype == h5py.ref_dtype
        and "MATLAB_class" not in field.attrs
        for field in fields.values()
    )
    if array:
        values = {name: _referred(h5py, file, field[()]) for name, field in fields.items()}
        shape = next(iter(values.values())).shape
    else:
        values = {name: _value(h5py, file, field) for name, field in fields.items()}
        shape = (1, 1)
    result = np.empty(shape, dtype=[(name, object) for name in fields])
    for name, value in values.items():
        if array:
            result[name] = value
        else:
            result[name][0, 0] = value
    return result


def _referred(h5py: Any, file: Any, references: Any) -> Any:
    """What a table of references refers to, as an array of objects."""
    result = np.empty(references.T.shape, dtype=object)
    for place, reference in np.ndenumerate(references.T):
        result[place] = _value(h5py, file, file[reference])
    return result
