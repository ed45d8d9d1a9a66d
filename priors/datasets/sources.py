"""Examples of a user, whatever they come in: files, folders, arrays, tensors, data sets of torch."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onmanifold.checks import check_count
from onmanifold.errors import InputError, InputTypeError
from onmanifold.extras import needs
from onmanifold.priors.datasets.base import CHANNELS, check_channels, check_differences
from onmanifold.priors.datasets.image_files import channels_first, read_folder, together
from onmanifold.tensors import real_array

ZARR = ("zarr.json", ".zarray", ".zgroup")  # files by which a folder is a zarr store
FILES = ".npy or .npz file, a folder of PNG, JPEG or TIFF images, or a .zarr folder"


@dataclass(frozen=True)
class Source:
    """Examples that were read.

    Attributes:
        x: the examples in float32, ``(n, *x_shape)``.
        kind: in a few words what they came in, such as ``"320 png files of 8 bits"``.
    """

    x: Tensor
    kind: str


def read_source(
    data: Any,
    key: str | None = None,
    resize: Sequence[int] | None = None,
    gray: bool = False,
) -> Source:
    """Examples from what a user has.

    Args:
        data: a path to a ``.npy`` or ``.npz`` file, to a folder of images, or to a zarr store; an array or
            tensor ``(n, m)``, ``(n, H, W)`` or ``(n, C, H, W)``; a data set of torch, or a sequence, of such
            examples, or of pairs that begin with one.
        key: name of the array in a file that holds several.
        resize: height and width that images are brought to.
        gray: make coloured images gray.

    Raises:
        FileNotFoundError: there is no such file or folder.
        InputError: anything that cannot be learned from: no images, labels, NaN, channels last, a damaged
            file, several sizes.

    Example:
        >>> read_source(np.zeros((5, 8, 6))).x.shape
        torch.Size([5, 1, 8, 6])
    """
    size = None if resize is None else _size(resize)
    if isinstance(data, str | Path):
        path, name = Path(data), str(data)
        if path.is_dir() and not any(path.joinpath(file).exists() for file in ZARR):
            images, kind = read_folder(path, size, gray)
            return Source(as_examples(images, name), kind)
        array, kind = _stored(path, key)
    elif isinstance(data, Tensor | np.ndarray) or hasattr(data, "__array__"):
        array, kind, name = _in_memory(data), type(data).__name__, "data"
    else:
        array, kind, name = _items(data, size, gray), f"{type(data).__name__} of examples", "data"
    x = as_examples(array, name)
    if x.ndim == 4 and (size is not None or gray):
        names = [f"{name}[{i}]" for i in range(len(x))]
        x = as_examples(together(list(x.numpy()), names, size, gray), name)
    elif size is not None:
        raise InputError(f"{name}: resize is for images, these are vectors {tuple(x.shape)}")
    return Source(x, kind)


def _size(resize: Sequence[int]) -> tuple[int, int]:
    if isinstance(resize, str) or not isinstance(resize, Sequence) or len(resize) != 2:
        raise InputTypeError(
            f"resize has to be a height and a width, such as (64, 64); got {resize!r}"
        )
    return check_count(resize[0], "resize"), check_count(resize[1], "resize")


def _in_memory(data: Any) -> Any:
    return data.detach().cpu() if isinstance(data, Tensor) else np.asarray(data)


def _items(data: Any, size: tuple[int, int] | None, gray: bool) -> NDArray[Any]:
    """The examples of a data set of torch, or of a list; of pairs the first members."""
    listed = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    if not listed or isinstance(data, Mapping):
        raise InputTypeError(
            f"data is {type(data).__name__}, expected an array, a tensor, a data set of torch with a length, "
            f"or the path of a {FILES}"
        )
    if len(data) == 0:
        raise InputError("data holds no examples")
    items = [_item(data[i], f"data[{i}]") for i in range(len(data))]
    names = [f"data[{i}]" for i in range(len(items))]
    if all(item.ndim == 3 for item in items):
        return together(items, names, size, gray)
    shapes = {item.shape for item in items}
    if len(shapes) > 1:
        raise InputError(
            f"data holds examples of different shapes, such as {', '.join(map(str, sorted(shapes)[:3]))}; "
            "expected one"
        )
    return np.stack(items)


def _item(item: Any, name: str) -> NDArray[Any]:
    """One example as an array, an image as ``(C, H, W)``; of a pair, such as image and label, the first."""
    if isinstance(item, tuple) and len(item):
        item = item[0]
    if hasattr(item, "getbands"):  # of pillow
        return channels_first(np.asarray(item), name)
    array = item.detach().cpu().numpy() if isinstance(item, Tensor) else np.asarray(item)
    return array[None] if array.ndim == 2 else array


def as_examples(array: Any, name: str) -> Tensor:
    """An array of a user as examples in float32, ``(n, m)`` or ``(n, C, H, W)``.

    Args:
        array: numbers ``(n, m)``, ``(n, H, W)`` or ``(n, C, H, W)``, of any size and unit.
        name: what messages call it.

    Raises:
        InputError: labels, no numbers, another number of axes, channels last, NaN, values that float32 cannot
            tell apart.
    """
    array = array.numpy() if isinstance(array, Tensor) else np.asarray(array)
    if array.ndim == 1 and array.dtype.kind in "iub" and array.size:
        raise InputError(
            f"{name}: {len(array)} integers from {array.min()} to {array.max()} look like labels, expected "
            "the images themselves, (n, H, W) or (n, C, H, W)"
        )
    if array.dtype.kind not in "fiub" or array.ndim not in (2, 3, 4) or array.size == 0:
        raise InputError(
            f"{name}: expected numbers (n, m), (n, H, W) or (n, C, H, W), got {array.dtype} {array.shape}"
        )
    if array.ndim == 3 and 2 < array.shape[2] <= CHANNELS < min(array.shape[:2]):
        raise InputError(
            f"{name}: {array.shape} looks like one picture with its channels last, expected (n, H, W) or "
            "(n, C, H, W): images that are that narrow have to say their channels, x[:, None]"
        )
    check_channels(array.shape[1:], name)
    small = array.dtype.kind in "iub" and array.dtype.itemsize <= 2  # float32 holds them all
    exact = array if small else real_array(array, name)
    bad = int((~np.isfinite(exact)).reshape(len(exact), -1).any(axis=1).sum())
    if bad:
        raise InputError(
            f"{name}: {bad} of {len(exact)} examples hold NaN or infinite values: leave these examples out, "
            "or fill in what is missing"
        )
    check_differences(float(exact.min()), float(exact.max()), name)
    with np.errstate(over="ignore"):
        x = torch.from_numpy(exact.astype(np.float32))
    if not bool(torch.isfinite(x).all()):
        raise InputError(f"{name}: values beyond the range of float32: take another unit")
    return x.unsqueeze(1) if x.ndim == 3 else x


def _stored(path: Path, key: str | None) -> tuple[NDArray[Any], str]:
    """The array in a file, or in a zarr store; the one of that name where it holds several."""
    if path.is_dir():
        with needs("zarr stores are read by zarr", "zarr"):
            import zarr
        try:
            loaded: Any = zarr.open(path, mode="r")
        except Exception as error:  # stores fail in as many ways as there are stores
            raise InputError(f"{path}: not a readable zarr store ({_reason(error)})") from error
        names = None if hasattr(loaded, "shape") else sorted(name for name, _ in loaded.arrays())
        return np.asarray(_picked(path, loaded, names, key)[...]), "zarr store"
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}: expected a {FILES}")
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded, f"{path.suffix} file"
        with loaded:
            return np.asarray(_picked(path, loaded, loaded.files, key)), f"{path.suffix} file"
    except InputError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zipfile.error) as error:
        raise InputError(
            f"{path}: not a .npy or .npz file of numbers ({_reason(error)}); expected a {FILES}"
        ) from error


def _picked(path: Path, loaded: Any, names: list[str] | None, key: str | None) -> Any:
    if names is None:
        return loaded
    if key is None and len(names) == 1:
        key = names[0]
    if key not in names:
        raise InputError(
            f"{path} holds {', '.join(names) or 'nothing'}; say which one by key, got {key!r}"
        )
    return loaded[key]


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
