"""The Helsinki Tomography Challenge 2022: its files, pictures, levels of difficulty and score.

A. Meaney and others, "Helsinki Tomography Challenge 2022: open tomographic dataset (HTC 2022)", Zenodo,
doi:10.5281/zenodo.6984868.

    from onmanifold.operators.ct import calibrate_disk, htc

    solid, measured = htc.read("solid.mat"), htc.read("ta.mat")
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onmanifold.checks import check_count
from onmanifold.errors import InputError
from onmanifold.operators.ct.faults import mask_faults, refuse_counts
from onmanifold.operators.ct.geometry import FanBeam
from onmanifold.operators.ct.sinogram import Sinogram
from onmanifold.operators.matlab import load_mat

SIZE = 512
"""Rows and columns of the challenge's pictures."""
PIXEL = 0.14832232
"""Side of their pixels, mm; the middle of a picture is the centre of rotation."""
ARCS = (90.0, 80.0, 70.0, 60.0, 50.0, 40.0, 30.0)
"""Degrees that levels of difficulty 1 to 7 cover."""
_FIELDS = (
    "angles",
    "distanceSourceOrigin",
    "distanceSourceDetector",
    "pixelSizePost",
    "numDetectorsPost",
)
_FANS = ("cone", "fan")


def read(path: str | Path) -> Sinogram:
    """Read a file of the challenge, Matlab 5 or 7.3.

    The source is at ``distanceSourceOrigin (sin a, -cos a)`` for an angle a, x to the right and y up in the
    pictures; at a = 180 it is on top, and the numbers of detector pixels rise to the left.

    Args:
        path: a file with one struct, ``CtDataLimited`` or ``CtDataFull``, of ``sinogram``
            (angles x detectors) and ``parameters``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no Matlab file, a field is missing, sizes do not fit, angles come twice, or values
            are counts instead of line integrals; the file is named.

    Warns:
        UnreliableData: detector pixels are dead or saturated, or angles are missing.
    """
    data, parameters = _struct(path)
    geometry = str(np.ravel(parameters.get("geometryType", "Cone"))[0])
    if geometry.lower() not in _FANS:
        raise InputError(
            f"{path}: geometryType is {geometry!r}; a fan beam with a flat detector was expected ('Cone')"
        )
    values = _numbers(data, "sinogram", path)
    angles = _numbers(parameters, "angles", path).ravel()
    origin, detector, spacing, count = (
        float(_numbers(parameters, name, path).ravel()[0]) for name in _FIELDS[1:]
    )
    _check_sizes(values, angles, int(count), path)
    _check_angles(angles, path)
    turned = np.rad2deg(np.unwrap(np.deg2rad(angles))) + 180.0
    try:
        beam = FanBeam(turned, int(count), spacing, origin, detector)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    found = Sinogram.of(values[:, ::-1], beam, str(path))
    refuse_counts(found)
    return mask_faults(found)


def read_truth(path: str | Path) -> NDArray[np.bool_]:
    """Read a picture: where the material is, ``(512, 512)``, row 0 on top.

    Raises:
        ValueError: the file is no such picture; it is named.
    """
    from PIL import Image

    try:
        picture = np.asarray(Image.open(path).convert("L"))
    except OSError as error:
        raise InputError(f"{path} is not a readable picture: {error}") from error
    if picture.shape != (SIZE, SIZE):
        raise InputError(f"{path} has {picture.shape} pixels, expected {SIZE} x {SIZE}")
    return np.asarray(picture > 127)


def cut(data: Sinogram, level: int) -> Sinogram:
    """The views that a level of difficulty leaves, from the first on.

    Args:
        data: of at least as large an arc.
        level: 1 (90 degrees) to 7 (30 degrees).

    Raises:
        ValueError: no such level, or data of a smaller arc; the file is named.
    """
    if check_count(level, "level") > len(ARCS):
        raise InputError(f"levels are 1 to {len(ARCS)}, got {level}")
    arc, turned = ARCS[level - 1], np.abs(data.angles - data.angles[0])
    if turned.max() < arc - 1.0:
        raise InputError(
            f"{data.name} covers {turned.max():g} degrees, level {level} has {arc:g}: give the level of the "
            "file's arc or a higher one"
        )
    kept = turned <= arc + 1e-6
    return replace(
        data,
        values=data.values[kept],
        mask=data.mask[kept],
        merged=data.merged[kept],
        beam=replace(data.beam, angles=data.angles[kept]),
    )


def score(found: ArrayLike, truth: ArrayLike) -> float:
    """Matthews correlation coefficient of two pictures of material (true) and air, the challenge's score.

    Example:
        >>> truth = np.eye(2, dtype=bool)
        >>> score(truth, truth), score(~truth, truth), score(np.ones((2, 2), bool), truth)
        (1.0, -1.0, 0.0)
    """
    a, b = np.asarray(found, bool), np.asarray(truth, bool)
    if a.shape != b.shape:
        raise InputError(f"score: pictures of shapes {a.shape} and {b.shape}")
    both, neither = float((a & b).sum()), float((~a & ~b).sum())
    more, less = float((a & ~b).sum()), float((~a & b).sum())
    size = (both + more) * (both + less) * (neither + more) * (neither + less)
    return (both * neither - more * less) / float(np.sqrt(size)) if size > 0 else 0.0


# Parts of a file ------------------------------------------------------------------------------------


def _struct(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The struct of a file, and its parameters."""
    content = load_mat(path)
    structs = {
        name: value
        for name, value in content.items()
        if isinstance(value, np.ndarray) and value.dtype.names and value.size
    }
    for name, value in structs.items():
        data = _fields(value)
        if {"sinogram", "parameters"} <= set(data) and data["parameters"].dtype.names:
            parameters = _fields(data["parameters"])
            missing = [field for field in _FIELDS if field not in parameters]
            if missing:
                raise InputError(f"{path}: {name}.parameters lacks {', '.join(missing)}")
            return data, parameters
    raise InputError(
        f"{path} holds {', '.join(sorted(content)) or 'nothing'}; expected a struct such as CtDataLimited "
        "with sinogram and parameters"
    )


def _fields(struct: Any) -> dict[str, Any]:
    first = struct.ravel()[0]
    return {name: first[name] for name in struct.dtype.names}


def _numbers(fields: dict[str, Any], name: str, path: str | Path) -> NDArray[np.float64]:
    try:
        array = np.asarray(fields[name], np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {name} does not hold real numbers: {error}") from error
    if array.size == 0:
        raise InputError(f"{path}: {name} is empty")
    return array


def _check_sizes(
    values: NDArray[np.float64], angles: NDArray[np.float64], count: int, path: str | Path
) -> None:
    if values.ndim != 2 or values.shape != (len(angles), count):
        raise InputError(
            f"{path}: the sinogram has shape {values.shape}; {len(angles)} angles and {count} detector "
            f"pixels (numDetectorsPost) were expected: ({len(angles)}, {count})"
        )
    if len(angles) < 2:
        raise InputError(f"{path}: one angle is too few for an image")


def _check_angles(angles: NDArray[np.float64], path: str | Path) -> None:
    if not np.isfinite(angles).all():
        raise InputError(f"{path}: {int((~np.isfinite(angles)).sum())} angles are NaN or infinite")
    turned = np.sort(np.mod(angles, 360.0))
    same = np.diff(turned, append=turned[0] + 360.0) < 1e-3
    if same.any():
        raise InputError(
            f"{path}: {int(same.sum())} angles come twice, such as {turned[same][0]:g} degrees: each "
            "view was expected once"
        )
