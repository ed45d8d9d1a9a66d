"""How hard simulated tanks are, beside measured ones: relative residuals of models under the true images."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from eit_parts.tanks import free_materials, mesh_of, truth_residual
from onmanifold.operators.eit import Discretization, Tank, calibrate, flag_channels, ktc
from shared.jobs import in_jobs
from shared.tables import Table
from tanks_parts.cases import Case
from tanks_parts.simulation import WIDTH

DESCRIBED, WIDER = ktc.tank(), replace(ktc.tank(), width=WIDTH)
# title: tank, what is fitted to the reference beside the conductivity
MODELS = {
    "as described": (DESCRIBED, ()),
    "calibrated": (WIDER, ("common", "currents")),
}


def measure(case: Case) -> dict[str, float]:
    """How hard a case is."""
    before, y = case.reference.voltages, case.measurement.voltages
    found = {"difference signal / reference": float((y - before).norm() / before.norm())}
    for name, (tank, fit) in MODELS.items():
        fitted = calibrate(tank, case.reference, mesh=_mesh(tank), fit=("conductivity", *fit))
        operator = free_materials(fitted, _mesh(tank), before)
        residual = truth_residual(operator, before, y, case.truth, case.bad)
        found |= {
            f"residual of the reference, {name}": fitted.after,
            f"residual of the truth, {name}": residual.whole,
            "  without the bad electrode, " + name: residual.good,
        }
    flagged = flag_channels(case.reference).bad == case.bad
    return found | {"bad electrode flagged, and nothing else": float(flagged)}


def compare(cases: Sequence[Case], jobs: int) -> None:
    """Print smallest, median and largest of each number by kind of case."""
    groups: dict[str, list[dict[str, float]]] = {case.kind: [] for case in cases}
    for case, found in in_jobs(measure, cases, jobs, "tanks"):
        groups[case.kind].append(found)
    heads = {f"{kind} ({len(own)})": "22" for kind, own in groups.items()}
    table = Table({"smallest, median, largest": "<46"} | heads)
    for name in next(iter(groups.values()))[0]:
        values = ([one[name] for one in own] for own in groups.values())
        table.row(name, *(f"{min(v):.3f} {np.median(v):.3f} {max(v):.3f}" for v in values))


@cache
def _mesh(tank: Tank) -> Discretization:
    return mesh_of(tank)
