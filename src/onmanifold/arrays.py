"""Arrays from files that a user names: .npy, .npz, .mat and .png."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from onmanifold.errors import InputError

Array = NDArray[Any]


def read_array(path: Path, key: str | None = None, complex_too: bool = False) -> Array:
    """Read one numeric array.

    Args:
        path: ``.npy``, ``.npz``, ``.mat`` or ``.png``. Values of an image are scaled to ``[0, 1]``. One
            whose colours are all grey is ``(H, W)``, any other ``(3, H, W)``.
        key: name of the variable in a ``.npz`` or ``.mat`` file with more than one.
        complex_too: whether its entries may be complex.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another format, a damaged file, no such variable, a ``key`` for a file whose array has no
            name, or entries that are no numbers.

    Example:
        >>> read_array(Path("measured.txt"))
        Traceback (most recent call last):
        onmanifold.errors.InputError: measured.txt: expected a file of type .npy, .npz, .mat, .png
    """
    readers: dict[str, Callable[[Path], Array | Mapping[str, Any]]] = {
        ".npy": _read_npy,
        ".npz": _read_npz,
        ".mat": _read_mat,
        ".png": _read_png,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: expected a file of type {', '.join(readers)}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        content = reader(path)
    except Exception as error:  # these formats' readers fail in many ways on a damaged file
        raise InputError(
            f"{path} is not a readable {path.suffix} file: {reason_of(error)}"
        ) from error
    if key is not None and not isinstance(content, Mapping):
        raise InputError(
            f"{path} holds one array, which has no name: leave out the key {key!r} (--key)"
        )
    array = _pick(path, content, key) if isinstance(content, Mapping) else content
    if array.dtype.kind not in ("fiubc" if complex_too else "fiub"):
        raise InputError(f"{path} holds {array.dtype} entries, expected real numbers")
    return array


def reason_of(error: Exception) -> str:
    """What the error of a library's reader says to somebody who never called it, in one line."""
    if "pickle" in str(error):  # numpy recommends to read it nevertheless
        return "it holds no plain array of numbers, and a pickle is never read"
    if not isinstance(error, ValueError | OSError | EOFError | BadZipFile | zlib.error):
        return "it is damaged"  # the message speaks of the reader's inner variables
    return (str(error).splitlines() or [type(error).__name__])[0]


def _read_npy(path: Path) -> Array:
    with path.open("rb") as stream:  # numpy leaves a damaged file open
        array: Array = np.load(stream, allow_pickle=False)
    return array


def _read_npz(path: Path) -> dict[str, Array]:
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        return dict(archive)


def _read_mat(path: Path) -> dict[str, Array]:
    from scipy.io import loadmat

    try:
        content = loadmat(path)
    except NotImplementedError:  # of version 7.3
        raise InputError(
            "it is of Matlab's version 7.3: save it again in Matlab by save(file, name, '-v7')"
        ) from None
    return {name: value for name, value in content.items() if not name.startswith("__")}


def _read_png(path: Path) -> Array:
    from matplotlib.image import imread

    image: Array = imread(path)
    if image.ndim == 2:
        return image
    if image.shape[-1] == 4 and not (image[..., 3] == 1).all():
        raise InputError("it has transparent pixels, whose values are unknown")
    colours = np.moveaxis(image[..., :3], -1, 0)
    grey = (colours == colours[:1]).all()  # stored in colour, as screenshots and plots are
    return colours[0] if grey else colours


def _pick(path: Path, content: Mapping[str, Array], key: str | None) -> Array:
    names = ", ".join(content) or "nothing"
    if key is None and len(content) != 1:
        raise InputError(f"{path} holds {names}: say which one by its key (--key)")
    if key is not None and key not in content:
        raise InputError(f"{path} holds {names}, not {key!r}")
    return content[key] if key is not None else next(iter(content.values()))
