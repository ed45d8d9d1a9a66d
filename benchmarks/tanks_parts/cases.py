"""Tanks to reconstruct: simulated ones, kept in a folder, and measured ones."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import label

from onmanifold.operators.eit import Measurement, ktc
from shared.jobs import in_jobs
from tanks_parts.scenes import CONDUCTIVE, RESISTIVE, make_scene
from tanks_parts.simulation import make_tank, simulate_scene

SCENES = 60
SPECK = 60  # pixels: smaller regions of an image count as no object; the smallest object has 1000
Labels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Case:
    """A tank to reconstruct.

    Attributes:
        name: of the case, and of its files.
        kind: "apart", "touching", "wall", or "measured".
        reference: of the tank without objects, complete.
        measurement: with objects, cut to a level.
        truth: classes ``(256, 256)``.
        objects: number of resistive and of conductive ones.
        bad: patterns of the bad electrode, from 0, which no reconstruction knows.
    """

    name: str
    kind: str
    reference: Measurement
    measurement: Measurement
    truth: Labels
    objects: tuple[int, int]
    bad: tuple[int, ...]

    def at(self, level: int) -> "Case":
        """The case as the challenge cuts it at a level."""
        whole = self.measurement
        mask = whole.mask & ktc.level_mask(level, whole.protocol)
        voltages = torch.where(mask, whole.voltages, 0.0)
        return replace(self, measurement=replace(whole, voltages=voltages, mask=mask))


def components(labels: Labels) -> tuple[int, int]:
    """Number of connected resistive and conductive regions that are no specks.

    Example:
        >>> image = np.zeros((256, 256), np.uint8)
        >>> image[40:60, 40:60] = image[80:100, 40:60] = 1
        >>> image[90, 90] = 2
        >>> components(image)
        (2, 0)
    """
    sizes = (np.bincount(label(labels == kind)[0].ravel())[1:] for kind in (RESISTIVE, CONDUCTIVE))
    resistive, conductive = (int((size >= SPECK).sum()) for size in sizes)
    return resistive, conductive


def scene_file(folder: Path, number: int) -> Path:
    """Where a simulated scene is kept."""
    return folder / f"scene-{number:03d}.npz"


def make_cases(folder: Path, scenes: int = SCENES, jobs: int = 1) -> None:
    """Simulate the scenes that the folder lacks."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [k for k in range(scenes) if not scene_file(folder, k).is_file()]
    for _ in in_jobs(partial(make_case, folder), missing, jobs, "scenes"):
        pass


def make_case(folder: Path, number: int) -> None:
    """Simulate a scene and write it, complete or not at all."""
    scene, tank = make_scene(number), make_tank(number)
    voltages = (v.numpy() for v in simulate_scene(scene, tank))
    arrays = dict(zip(("reference", "measured"), voltages, strict=True))
    about = {"kind": scene.kind, "objects": scene.counts, "bad": (tank.bad - 1, tank.bad)}
    file = scene_file(folder, number)
    unfinished = file.with_name(f".{file.name}")
    np.savez_compressed(unfinished, truth=scene.labels(), about=json.dumps(about), **arrays)
    unfinished.replace(file)


def load_cases(folder: Path, numbers: Iterable[int]) -> list[Case]:
    """Simulated scenes by number.

    Raises:
        FileNotFoundError: one was not made yet.
    """
    cases = []
    for file in (scene_file(folder, number) for number in numbers):
        with np.load(file) as arrays:
            about, truth = json.loads(str(arrays["about"])), arrays["truth"]
            both = arrays["reference"], arrays["measured"]
        measurements = (Measurement.from_values(ktc.protocol(), values) for values in both)
        objects, bad = tuple(about["objects"]), tuple(about["bad"])
        cases.append(Case(file.stem, about["kind"], *measurements, truth, objects, bad))
    return cases


def load_real(folder: Path) -> list[Case]:
    """The measured tanks of a folder with ``ref.mat``, ``data1.mat``, ``true1.mat`` and so on.

    Raises:
        FileNotFoundError: there is none.
    """
    reference = ktc.read(folder / "ref.mat")
    cases = []
    for file in sorted(folder.glob("data*.mat")):
        truth = ktc.read_truth(folder / file.name.replace("data", "true"))
        name, objects = file.stem.replace("data", "tank-"), components(truth)
        cases.append(Case(name, "measured", reference, ktc.read(file), truth, objects, (29, 30)))
    return cases
