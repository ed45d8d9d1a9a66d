"""How well models fit four measured water tanks whose contents are known.

With the true image of each tank, three numbers (conductivities of resistive objects, conductive ones and
water) are fitted to the difference of its voltages to those of the tank without objects. Everything else
(contacts, instrument, the electrodes' width) is fitted to the latter alone.
"""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
import torch
from scipy.optimize import least_squares

from onmanifold.operators.eit import (
    EIT,
    Discretization,
    Labels,
    Measurement,
    Mesh,
    Tank,
    assemble,
    calibrate,
    calibrate_electrodes,
    calibrate_width,
    fit_noise,
    flag_channels,
    ktc,
    polar_mesh,
    with_electrode_edges,
)
from onmanifold.operators.eit.conductivity import MATERIALS
from shared.tables import Table
from tanks_parts.cases import BAD, Case, load_real, measured_tanks

FITTED = (  # to the tank without objects, beside its conductivity
    (),
    ("impedances",),
    ("offsets",),
    ("common",),
    ("common", "currents"),
    ("impedances", "common", "currents"),
)


def mesh_of(tank: Tank, longest: float = 0.03) -> Mesh:
    """Linear cells, 12 edges on each electrode, and no gmsh."""
    return polar_mesh(tank, 12, 1.3, longest)


def truth_residual(operator: EIT, case: Case) -> tuple[float, float]:
    """The relative residual under the true image when the materials' conductivities are fitted.

    Args:
        operator: images ``(4, 256, 256)`` to voltages: classes, and three materials' conductivities.
        case: a measured tank.

    Returns:
        That of all differences to the reference, and without the bad electrode's patterns.
    """
    image, y = ktc.image(case.truth, ktc.SIZE), case.measurement.voltages
    change = y - case.reference.voltages
    there = [bool((image == value).any()) for value in (-1, 0, 1)]  # in the order of MATERIALS

    def residual(theta: np.ndarray) -> np.ndarray:
        channels = torch.zeros(len(MATERIALS), dtype=torch.float64)
        channels[there] = torch.from_numpy(theta)
        x = torch.cat([image, channels[:, None, None].expand(-1, *image.shape[1:])])
        return ((y.flatten() - operator.A(x[None]).flatten()) / change.norm()).numpy()

    # beyond factors of 0.01 and 1000 the voltages hardly change
    found = least_squares(residual, np.zeros(sum(there)), bounds=(-3, 3), xtol=1e-4, ftol=1e-6)
    left = torch.from_numpy(found.fun).view_as(change) * change.norm()
    good = [k for k in range(change.shape[1]) if k not in BAD]
    return float(left.norm() / change.norm()), float(left[:, good].norm() / change[:, good].norm())


def models(reference: Measurement) -> dict[str, tuple[Tank, Discretization]]:
    """The tank as it is described, with wider electrodes, and with each of them where it is."""
    described, fit = ktc.tank(), ("conductivity", "common")
    wider = calibrate_width(described, reference, make_mesh=mesh_of, fit=fit).geometry
    assert isinstance(wider, Tank)
    coarse = partial(mesh_of, longest=0.2)
    placed = calibrate_electrodes(wider, reference, make_mesh=coarse, fit=(*fit, "currents"))
    elsewhere = assemble(with_electrode_edges(mesh_of(wider), wider, placed.edges))
    return {
        f"{described.width:.2f} degrees": (described, assemble(mesh_of(described))),
        f"{wider.width:.2f} degrees": (wider, assemble(mesh_of(wider))),
        "each where it is": (wider, elsewhere),
    }


def print_residuals(cases: list[Case]) -> None:
    """Print a row for each model: residual of the reference, then of each tank."""
    reference = cases[0].reference
    columns = {"electrodes": "<16", "fitted": "<30", "reference": ".4f"}
    table = Table(columns | {case.name: "13" for case in cases})
    for (title, (tank, mesh)), parts in product(models(reference).items(), FITTED):
        found = calibrate(tank, reference, mesh=mesh, fit=("conductivity", *parts))
        water = found.values.conductivity
        operator = EIT(
            found.geometry,
            found.protocol,
            (1 + len(MATERIALS), ktc.SIZE, ktc.SIZE),
            conductivity=Labels(0.02 * water, water, 50 * water, free=MATERIALS),
            mesh=mesh,
            reference=reference.voltages.flatten(),
        )
        residuals = (truth_residual(operator, case) for case in cases)
        cells = (f"{whole:.3f} ({good:.3f})" for whole, good in residuals)
        table.row(title, ", ".join(parts), found.after, *cells)


def print_channels(measurement: Measurement) -> None:
    """Print what the measurement says of its own channels, without any model."""
    report = flag_channels(measurement)
    relative, floor = fit_noise(measurement)
    print("\nthe reference measurement's channels")
    print(f"noise between repeats: {relative:.2%} of each voltage, {floor:.2%} of the largest")
    print(f"reciprocity holds to {report.reciprocity:.1%}")
    print("\n".join(report.reasons))


def main() -> None:
    """Print both."""
    if not measured_tanks().is_dir():
        print(f"no measured tanks: there is no folder {measured_tanks()}, set ONMANIFOLD_DATA")
        return
    print("relative residual of the difference voltages under the true images")
    print("(in brackets without patterns 30 and 31); offsets cancel in differences")
    cases = load_real()
    print_residuals(cases)
    print_channels(cases[0].reference)
