"""Images in a folder: PNG, JPEG and TIFF, as examples to learn from.

Files are read by scikit-image. An image becomes ``(C, H, W)``; integers become numbers from 0 to 1, as
``onmanifold solve`` reads them.
"""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onmanifold.errors import InputError
from onmanifold.extras import needs

TIFF = (".tif", ".tiff")
SUFFIXES = (".png", ".jpg", ".jpeg", *TIFF)
LARGEST = {"b": 1, "u1": 255, "u2": 65535}  # by kind and size of a number, what becomes 1
NAMED = 3  # files that one message names at most

Image = NDArray[Any]


def read_folder(folder: Path, resize: tuple[int, int] | None, gray: bool) -> tuple[Image, str]:
    """All images of a folder and of those within it, in the order of their names.

    Returns:
        The images ``(n, C, H, W)``, and one line about the files.

    Raises:
        InputError: no images, files that cannot be read, transparent pixels; 8 and 16 bits, gray and colour,
            or several sizes mixed.
    """
    files = image_files(folder)
    raw = _read_all(files)
    names = [str(file.relative_to(folder)) for file in files]
    kinds = _same([_bits(image) for image in raw], names, "numbers", "save all in the same way")
    images = [channels_first(image, str(file)) for image, file in zip(raw, files, strict=True)]
    suffixes = Counter(file.suffix.lower().removeprefix(".") for file in files)
    listed = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common())
    return together(images, names, resize, gray), f"{listed} files of {kinds}"


def image_files(folder: Path) -> list[Path]:
    """The image files of a folder and of those within it, hidden ones aside."""
    found = sorted(file for file in folder.rglob("*") if file.is_file())
    seen = [f for f in found if not any(p.startswith(".") for p in f.relative_to(folder).parts)]
    files = [file for file in seen if file.suffix.lower() in SUFFIXES]
    if not files:
        others = Counter(file.suffix.lower() or "without a suffix" for file in seen)
        held = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5))
        raise InputError(
            f"{folder} holds no images ({held or 'it is empty'}); expected .png, .jpg or .tif files, in it "
            "or in folders within it"
        )
    return files


def _read_all(files: Sequence[Path]) -> list[Image]:
    with needs("images are read by scikit-image", "train"):
        from skimage.io import imread
    images, broken = [], []
    for file in files:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # about metadata of files that are read all the same
                # all but TIFF from memory: their readers leave files open when they fail
                tiff = file.suffix.lower() in TIFF
                image = np.asarray(imread(file if tiff else io.BytesIO(file.read_bytes())))
            if image.size == 0 or image.dtype.kind not in "bufi":
                raise ValueError(f"{image.dtype} {image.shape}")
            images.append(image)
        except Exception as error:  # each format's reader fails in its own ways
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            broken.append(f"{file} ({reason[:100]})")
    if broken:
        more = f" and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
        raise InputError(
            f"{len(broken)} of {len(files)} image files cannot be read: {', '.join(broken[:NAMED])}{more}; "
            "replace or remove them"
        )
    return images


def _bits(image: Image) -> str:
    if image.dtype.kind == "f":
        return "floating-point numbers"
    return "1 bit" if image.dtype.kind == "b" else f"{8 * image.dtype.itemsize} bits"


def _same(values: Sequence[Any], names: Sequence[str], what: str, advice: str) -> Any:
    """The value that all have in common."""
    counts = Counter(values)
    if len(counts) > 1:
        example = {value: names[values.index(value)] for value in counts}
        found = ", ".join(
            f"{n} of {value} (such as {example[value]})" for value, n in counts.most_common(4)
        )
        raise InputError(f"the images have different {what}: {found}; {advice}")
    return values[0]


def channels_first(image: Image, name: str) -> Image:
    """An image as files hold it, ``(H, W)`` or ``(H, W, C)``, as ``(C, H, W)`` in float32.

    Integers of 8 and 16 bits become numbers from 0 to 1; an opaque alpha channel is left out.

    Raises:
        InputError: transparent pixels, several pages, integers of other sizes.

    Example:
        >>> channels_first(np.full((2, 2), 255, dtype=np.uint8), "white.png").tolist()
        [[[1.0, 1.0], [1.0, 1.0]]]
    """
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] > 4:
        raise InputError(
            f"{name} holds an array {image.shape}, expected one image (H, W), (H, W, 3) or (H, W, 4); save "
            "pages one by one, or as a .npy file (n, H, W)"
        )
    kind = image.dtype.kind + (str(image.dtype.itemsize) if image.dtype.kind == "u" else "")
    largest = LARGEST.get(kind, 1 if image.dtype.kind == "f" else None)
    if largest is None:
        raise InputError(
            f"{name} holds {image.dtype}, expected 8 or 16 bits, or floating-point numbers"
        )
    scaled = image.astype(np.float32) / np.float32(largest)
    if image.shape[2] in (2, 4):
        if not (scaled[:, :, -1] == 1).all():
            raise InputError(
                f"{name} has transparent pixels, whose values are unknown: put it on a background and save "
                "it without the alpha channel"
            )
        scaled = scaled[:, :, :-1]
    return np.ascontiguousarray(np.moveaxis(scaled, 2, 0))


def together(
    images: Sequence[Image], names: Sequence[str], resize: tuple[int, int] | None, gray: bool
) -> Image:
    """Images ``(C, H, W)`` as one array ``(n, C, H, W)``; gray where all their colours are.

    Args:
        images: all images.
        names: what messages call them.
        resize: height and width to bring all to; None: they have to have the same.
        gray: make colours gray.

    Raises:
        InputError: several sizes, or gray and colour, and nobody asked to change that.
    """
    if gray or all(_is_gray(image) for image in images):
        images = [_to_gray(image) for image in images]
    colours = {1: "1 channel (gray)", 3: "3 channels (colour)"}
    counted = [colours.get(len(image), f"{len(image)} channels") for image in images]
    _same(counted, names, "numbers of channels", "gray=True (--gray) makes all of them gray")
    if resize is not None:
        images = [resized(image, resize) for image in images]
    sizes = [f"{image.shape[1]} x {image.shape[2]} pixels" for image in images]
    _same(sizes, names, "sizes", "resize=(H, W) (--resize HxW) brings all to one size")
    return np.stack(images)


def _is_gray(image: Image) -> bool:
    return len(image) == 1 or bool((image == image[:1]).all())


def _to_gray(image: Image) -> Image:
    if len(image) != 3 or _is_gray(image):
        return image[:1]
    red, green, blue = image
    mixed: Image = 0.2125 * red + 0.7154 * green + 0.0721 * blue
    return mixed[None].astype(image.dtype)


def resized(image: Image, size: tuple[int, int]) -> Image:
    """An image ``(C, H, W)`` cut to the shape of ``size`` around its middle, and brought to that size.

    Finer structure than the new pixels is smoothed away first (scikit-image's ``resize``).
    """
    if image.shape[1:] == tuple(size):
        return image
    with needs("images are resized by scikit-image", "train"):
        from skimage.transform import resize as resample
    _, height, width = image.shape
    scale = min(height / size[0], width / size[1])
    rows, columns = (max(1, round(scale * n)) for n in size)
    top, left = (height - rows) // 2, (width - columns) // 2
    cut = image[:, top : top + rows, left : left + columns].astype(np.float64)
    small: Any = resample(  # type: ignore[no-untyped-call]
        cut, (len(image), *size), anti_aliasing=True, preserve_range=True
    )
    return np.asarray(small, dtype=np.float32)
