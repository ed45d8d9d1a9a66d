"""Tanks to reconstruct: simulated ones, kept in a folder, and measured ones."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from onmanifold.applications.tanks import cut, read_cases
from onmanifold.operators.eit import Measurement, ktc
from shared.jobs import in_jobs
from tanks_parts.scenes import make_scene
from tanks_parts.simulation import make_tank, simulate_scene

SIMULATED = Path(__file__).resolve().parents[2] / "runs" / "tanks"
BAD = (29, 30)  # patterns of the measured tanks' bad electrode
SPECK = 60  # pixels: smaller regions of an image count as no object; the smallest object has 1000
Labels = NDArray[np.uint8]


class Case(NamedTuple):
    """A tank to reconstruct."""

    name: str
    kind: str  # "apart", "touching", "wall", or "measured"
    reference: Measurement  # of the tank without objects, complete
    measurement: Measurement  # with objects, cut to a level
    truth: Labels  # classes (256, 256)
    objects: tuple[int, int]  # number of resistive and of conductive ones
    bad: tuple[int, ...]  # patterns of the bad electrode, from 0, which no reconstruction knows

    @property
    def number(self) -> int:
        """That of the scene, or of the measured tank."""
        return int(self.name.rpartition("-")[2])

    def at(self, level: int) -> "Case":
        """The case as the challenge cuts it at a level."""
        return self._replace(measurement=cut(self.measurement, level))


def components(labels: Labels) -> tuple[int, int]:
    """Number of connected resistive and conductive regions that are no specks.

    Example:
        >>> image = np.zeros((256, 256), np.uint8)
        >>> image[40:60, 40:60] = image[80:100, 40:60] = 1
        >>> image[90, 90] = 2
        >>> components(image)
        (2, 0)
    """
    kinds = (ktc.RESISTIVE, ktc.CONDUCTIVE)
    sizes = (np.bincount(label(labels == kind)[0].ravel())[1:] for kind in kinds)
    resistive, conductive = (int((size >= SPECK).sum()) for size in sizes)
    return resistive, conductive


def load_cases(folder: Path, numbers: Sequence[int], jobs: int = 1) -> list[Case]:
    """Simulated scenes by number; voltages that the folder lacks are simulated."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [number for number in numbers if not _file(folder, number).is_file()]
    if missing:
        in_jobs(partial(_simulate, folder), missing, jobs, "scenes")
    return [_load(folder, number) for number in numbers]


def _file(folder: Path, number: int) -> Path:
    return folder / f"scene-{number:03d}.npy"


def _simulate(folder: Path, number: int) -> None:
    """Write the voltages without and with the objects, complete or not at all."""
    file = _file(folder, number)
    unfinished = file.with_name(f".{file.name}")
    np.save(unfinished, np.stack(simulate_scene(make_scene(number), make_tank(number))))
    unfinished.replace(file)


def _load(folder: Path, number: int) -> Case:
    scene, bad, file = make_scene(number), make_tank(number).bad, _file(folder, number)
    reference, measurement = (Measurement.from_values(ktc.protocol(), v) for v in np.load(file))
    about = scene.labels(), scene.counts, (bad - 1, bad)
    return Case(file.stem, scene.kind, reference, measurement, *about)


def measured_tanks() -> Path:
    """The folder of the challenge's tanks: below $ONMANIFOLD_DATA, or in ../shared/data."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(os.environ.get("ONMANIFOLD_DATA", beside)) / "ktc2023" / "training"


def load_real() -> list[Case]:
    """The measured tanks.

    Raises:
        FileNotFoundError: there is none.
    """
    folder = measured_tanks()
    cases, reference = [], ktc.read(folder / "ref.mat")
    for each in read_cases(folder, folder, levels=None):
        about = each.truth, components(each.truth), BAD
        cases.append(Case(f"tank-{each.number}", "measured", reference, each.measurement, *about))
    return cases
