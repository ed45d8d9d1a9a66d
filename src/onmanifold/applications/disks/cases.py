"""Measured disks of a folder, in the layout of the Helsinki Tomography Challenge 2022."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onmanifold.operators.ct import Sinogram, htc


@dataclass(frozen=True, eq=False)
class Case:
    """A disk to reconstruct.

    Attributes:
        name: of the file, without its ending.
        level: of difficulty that the views were cut to, 0 if all are there.
        measured: the sinogram.
        truth: where the material is, ``(512, 512)``, where it is known.
    """

    name: str
    level: int
    measured: Sinogram
    truth: NDArray[np.bool_] | None


def solid_file(folder: Path, given: Path | None) -> Path:
    """The measurement of a solid disk: the one that is given, or ``solid*.mat`` in the folder.

    Raises:
        FileNotFoundError: there is none, or more than one.
    """
    if given is not None:
        return given
    found = [file for file in sorted(folder.glob("solid*.mat")) if "fbp" not in file.stem.lower()]
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise FileNotFoundError(
            f"{folder} has to hold one measurement of a disk without holes, solid*.mat; found {names}: "
            "name it by --solid FILE"
        )
    return found[0]


def read_cases(folder: Path, solid: Path, truths: Path | None, level: int) -> list[Case]:
    """The other Matlab files of a folder, each cut to a level of difficulty.

    Args:
        folder: of the measurements.
        solid: the file that is none of them.
        truths: of ``NAME_true.png`` for NAME.mat, or for NAME_ARC.mat, if they are known.
        level: 1 (90 degrees) to 7 (30 degrees).

    Raises:
        FileNotFoundError: there is no measurement, or no truth of one.
    """
    files = [
        file
        for file in sorted(folder.glob("*.mat"))
        if file.resolve() != solid.resolve() and not file.stem.lower().startswith("solid")
    ]
    if not files:
        raise FileNotFoundError(f"{folder} holds no measurement of a disk with holes, *.mat")
    return [
        Case(
            file.stem,
            level,
            htc.cut(htc.read(file), level),
            None if truths is None else htc.read_truth(_truth_file(truths, file.stem)),
        )
        for file in files
    ]


def _truth_file(folder: Path, name: str) -> Path:
    """``NAME_true.png``, or that without the last part of the name."""
    names = [name, name.rpartition("_")[0]]
    for one in names:
        if one and (found := folder / f"{one}_true.png").is_file():
            return found
    raise FileNotFoundError(
        f"there is no {' or '.join(f'{one}_true.png' for one in names if one)} in {folder}"
    )
