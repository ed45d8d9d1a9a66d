"""Matlab files of any version, for the operators that read measurements."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from scipy.io import loadmat

from onmanifold.errors import InputError
from onmanifold.operators.matlab73 import load_mat73


def load_mat(path: str | Path) -> dict[str, Any]:
    """The variables of a Matlab file, of version 7.3 too where h5py is installed.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: it is of version 7.3, and h5py is missing.
        ValueError: it is no Matlab file; it is named.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with warnings.catch_warnings():  # scipy's sparse matrices become arrays; both are read here
            warnings.simplefilter("ignore", DeprecationWarning)
            content: dict[str, Any] = loadmat(path)
    except NotImplementedError:  # version 7.3
        return load_mat73(path)
    except Exception as error:  # whatever a damaged file makes of the parser
        raise InputError(f"{path} is not a readable Matlab 5 file: {error}") from error
    return {name: value for name, value in content.items() if not name.startswith("__")}
