"""How hard simulated tanks are, beside measured ones: what models leave unexplained under true pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from benchmarks.eit_parts.tanks import free_materials, mesh_of, truth_residual
from benchmarks.tanks_parts.cases import Case
from benchmarks.tanks_parts.parallel import in_jobs
from benchmarks.tanks_parts.simulation import WIDTH
from onmanifold.operators.eit import (
    Calibration,
    Discretization,
    Measurement,
    Tank,
    calibrate,
    flag_channels,
    ktc,
)

DESCRIBED, WIDER = ktc.tank(), replace(ktc.tank(), width=WIDTH)
# name, tank, what is fitted to the reference beside the conductivity
MODELS = (
    ("nominal", DESCRIBED, ()),
    ("width", WIDER, ()),
    ("width, common", WIDER, ("common",)),
    ("width, common, currents", WIDER, ("common", "currents")),
)


@dataclass(frozen=True)
class Hardness:
    """Of one case.

    Attributes:
        kind: of the case.
        signal: difference voltages relative to those of the reference, in norm.
        reference: relative residual of the reference, a number for each of :data:`MODELS`.
        truth: relative residual of the difference voltages under the true picture.
        good: the same without the bad electrode's patterns.
        flagged: whether ``flag_channels`` finds all of these, and nothing else, in the reference.
    """

    kind: str
    signal: float
    reference: tuple[float, ...]
    truth: tuple[float, ...]
    good: tuple[float, ...]
    flagged: bool


def measure_all(cases: Sequence[Case], jobs: int) -> list[Hardness]:
    """How hard each case is."""
    return list(in_jobs(measure, cases, jobs, "tanks"))


def measure(case: Case) -> Hardness:
    """How hard a case is."""
    before, y = case.reference.voltages, case.measurement.voltages
    reference, truth, good = [], [], []
    for _, tank, fit in MODELS:
        calibration = _calibrated(case.reference, tank, fit)
        operator = free_materials(calibration, _mesh(tank), before)
        residual = truth_residual(operator, before, y, case.truth, case.bad)
        reference.append(calibration.after)
        truth.append(residual.whole)
        good.append(residual.good)
    return Hardness(
        case.kind,
        float((y - before).norm() / before.norm()),
        tuple(reference),
        tuple(truth),
        tuple(good),
        flag_channels(case.reference).bad == case.bad,
    )


def table(found: Sequence[Hardness]) -> list[str]:
    """Smallest, median and largest of each number by kind of case; in brackets without the bad electrode."""
    kinds = list(dict.fromkeys(one.kind for one in found))
    groups = {kind: [one for one in found if one.kind == kind] for kind in kinds}
    lines = [" " * 46 + "".join(f"{kind} ({len(own)})".rjust(22) for kind, own in groups.items())]

    def line(name: str, value: object) -> None:
        cells = (_range([value(one) for one in own]) for own in groups.values())
        lines.append(name.ljust(46) + "".join(cell.rjust(22) for cell in cells))

    line("difference signal / reference", lambda one: one.signal)
    for part, of in (
        ("residual of the reference", "reference"),
        ("residual of the truth", "truth"),
        ("the same without the bad electrode", "good"),
    ):
        lines.append(part)
        for m, (name, _, _) in enumerate(MODELS):
            line("  " + name, lambda one, of=of, m=m: getattr(one, of)[m])
    flagged = (f"{np.mean([one.flagged for one in own]):.0%}" for own in groups.values())
    lines.append(
        "bad electrode flagged, and nothing else".ljust(46) + "".join(f.rjust(22) for f in flagged)
    )
    return lines


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.3f} {np.median(values):.3f} {max(values):.3f}"


def _calibrated(reference: Measurement, tank: Tank, fit: tuple[str, ...]) -> Calibration:
    return calibrate(tank, reference, mesh=_mesh(tank), fit=("conductivity", *fit))


@cache
def _mesh(tank: Tank) -> Discretization:
    return mesh_of(tank)
