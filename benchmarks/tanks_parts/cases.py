"""Tanks to reconstruct: simulated ones, kept in a folder, and measured ones."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import label

from benchmarks.tanks_parts.parallel import in_jobs
from benchmarks.tanks_parts.scenes import CONDUCTIVE, RESISTIVE, make_scene
from benchmarks.tanks_parts.simulation import make_tank, simulate_scene
from onmanifold.operators.eit import Measurement, ktc

Labels = NDArray[np.uint8]

SCENES = 60
SPECK = (
    60  # pixels: smaller components of a picture count as no object; the smallest object has 1000
)


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
        bad: patterns of the electrode that is bad, from 0; none is told to a reconstruction.
    """

    name: str
    kind: str
    reference: Measurement
    measurement: Measurement
    truth: Labels
    objects: tuple[int, int]
    bad: tuple[int, ...]

    def at(self, level: int) -> Case:
        """The case as the challenge cuts it at a level."""
        whole = self.measurement
        mask = whole.mask & ktc.level_mask(level, whole.protocol)
        voltages = torch.where(mask, whole.voltages, 0.0)
        return replace(self, measurement=replace(whole, voltages=voltages, mask=mask))


def components(labels: Labels) -> tuple[int, int]:
    """Number of connected resistive and conductive regions that are no specks.

    Example:
        >>> picture = np.zeros((256, 256), np.uint8)
        >>> picture[40:60, 40:60] = picture[80:100, 40:60] = 1
        >>> picture[90, 90] = 2
        >>> components(picture)
        (2, 0)
    """
    counts = []
    for kind in (RESISTIVE, CONDUCTIVE):
        regions, _ = label(labels == kind)
        counts.append(int((np.bincount(regions.ravel())[1:] >= SPECK).sum()))
    return counts[0], counts[1]


# Simulated ----------------------------------------------------------------------------------------


def make_cases(folder: Path, scenes: int = SCENES, jobs: int = 1) -> None:
    """Simulate the scenes that the folder lacks."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [k for k in range(scenes) if not scene_file(folder, k).is_file()]
    for _ in in_jobs(partial(make_case, folder), missing, jobs, "scenes"):
        pass


def make_case(folder: Path, number: int) -> None:
    """Simulate a scene and write it, complete or not at all."""
    scene, tank = make_scene(number), make_tank(number)
    reference, measured = simulate_scene(scene, tank)
    about = {
        "kind": scene.kind,
        "objects": scene.counts,
        "families": [body.family for body in scene.bodies],
        "radii": [body.radius for body in scene.bodies],
        "contrasts": [body.contrast for body in scene.bodies],
        "bad": (tank.bad - 1, tank.bad),
        "drift": tank.drift,
        "water": tank.water,
    }
    file = scene_file(folder, number)
    partial = file.with_name(f".{file.name}")
    np.savez_compressed(
        partial,
        truth=scene.labels(),
        reference=reference.numpy(),
        measured=measured.numpy(),
        about=json.dumps(about),
    )
    partial.replace(file)


def load_case(file: Path) -> Case:
    """What :func:`make_case` wrote; reference and measurement as ``ktc.read`` reads real ones."""
    with np.load(file) as arrays:
        about = json.loads(str(arrays["about"]))
        reference, measured = (
            Measurement.from_values(ktc.protocol(), arrays[name])
            for name in ("reference", "measured")
        )
        truth = arrays["truth"]
    resistive, conductive = about["objects"]
    return Case(
        file.stem,
        about["kind"],
        reference,
        measured,
        truth,
        (resistive, conductive),
        tuple(about["bad"]),
    )


def scene_file(folder: Path, number: int) -> Path:
    """Where a scene lies."""
    return folder / f"scene-{number:03d}.npz"


def load_cases(folder: Path, numbers: Iterable[int]) -> list[Case]:
    """Scenes by number.

    Raises:
        FileNotFoundError: one was not made yet.
    """
    return [load_case(scene_file(folder, number)) for number in numbers]


# Measured -------------------------------------------------------------------------------------------


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
