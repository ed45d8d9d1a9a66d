"""Measured tanks of a folder, in the layout of the Kuopio Tomography Challenge 2023."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from onmanifold.operators.eit import Measurement, ktc


@dataclass(frozen=True, eq=False)
class Case:
    """A tank to reconstruct.

    Attributes:
        number: of the file.
        level: of difficulty that the voltages were cut to, 0 if they are complete.
        measurement: the voltages.
        truth: classes ``(256, 256)``, where they are known.
    """

    number: str
    level: int
    measurement: Measurement
    truth: NDArray[np.uint8] | None

    @property
    def file(self) -> str:
        """The name of the file."""
        return f"data{self.number}.mat"


def read_cases(folder: Path, truths: Path | None, levels: Sequence[int] | None) -> list[Case]:
    """The cases ``data1.mat``, ``data2.mat``, ... of a folder, each cut to the given levels.

    Args:
        folder: of the measurements.
        truths: of ``true1.mat``, ``true2.mat``, ..., if they are known.
        levels: of difficulty, 1 to 7; ``None`` for the complete data.

    Raises:
        FileNotFoundError: there is no measurement, or no truth of one.
    """
    files = sorted(
        folder.glob("data*.mat"), key=lambda file: int(re.sub(r"\D", "", file.stem) or 0)
    )
    if not files:
        raise FileNotFoundError(f"{folder} holds no data1.mat, data2.mat, ...")
    cases = []
    for file in files:
        data, number = ktc.read(file), re.sub(r"\D", "", file.stem)
        truth = None if truths is None else ktc.read_truth(truths / f"true{number}.mat")
        cases += [Case(number, level, cut(data, level), truth) for level in levels or [0]]
    return cases


def cut(data: Measurement, level: int) -> Measurement:
    """The voltages that a level of difficulty leaves: electrodes are removed two by two."""
    if level == 0:
        return data
    mask = data.mask & ktc.level_mask(level, data.protocol)
    return replace(data, voltages=torch.where(mask, data.voltages, 0.0), mask=mask)
