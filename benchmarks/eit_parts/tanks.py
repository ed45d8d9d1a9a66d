"""How well models fit four measured water tanks whose contents are known.

With the true image of each tank, three numbers (conductivities of resistive objects, conductive ones and
water) are fitted to the difference of its voltages to those of the tank without objects. Everything else
(contacts, instrument, the electrodes' width) is fitted to the latter alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import least_squares

from onmanifold.operators.eit import (
    EIT,
    Calibration,
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

TANKS = (1, 2, 3, 4)
BAD = (29, 30)  # patterns of their bad electrode, from 0


@dataclass(frozen=True)
class Residual:
    """What is left of a tank's difference voltages.

    Attributes:
        whole: relative residual.
        good: the same without the bad electrode's patterns.
        conductivities: of the resistive objects, the water, the conductive objects, S; NaN where absent.
    """

    whole: float
    good: float
    conductivities: tuple[float, float, float]


def mesh_of(tank: Tank) -> Discretization:
    """Linear cells, 12 edges on each electrode, and no gmsh."""
    return assemble(_mesh(tank))


def _mesh(tank: Tank, longest: float = 0.03) -> Mesh:
    return polar_mesh(tank, 12, 1.3, longest)


def tank_residuals(
    folder: Path, calibration: Calibration, mesh: str | Discretization
) -> list[Residual]:
    """Residuals of the four tanks with three fitted numbers each.

    Args:
        folder: with ``ref.mat``, ``data1.mat``, ``true1.mat`` and so on.
        calibration: of ``ref.mat``: contacts, instrument, conductivity of the reference.
        mesh: of ``calibration.geometry``.
    """
    reference = ktc.read(folder / "ref.mat").voltages
    operator = free_materials(calibration, mesh, reference)
    return [
        truth_residual(
            operator,
            reference,
            ktc.read(folder / f"data{k}.mat").voltages,
            ktc.read_truth(folder / f"true{k}.mat"),
            BAD,
        )
        for k in TANKS
    ]


def free_materials(
    calibration: Calibration, mesh: str | Discretization, reference: torch.Tensor
) -> EIT:
    """The calibrated model of images ``(4, 256, 256)``: classes, and three materials' conductivities."""
    water = calibration.values.conductivity
    return EIT(
        calibration.geometry,
        calibration.protocol,
        (4, 256, 256),
        conductivity=Labels(0.02 * water, water, 50 * water, free=MATERIALS),
        mesh=mesh,
        reference=reference.flatten(),
    )


def truth_residual(
    operator: EIT,
    reference: torch.Tensor,
    y: torch.Tensor,
    truth: np.ndarray,
    bad: Sequence[int],
) -> Residual:
    """The relative residual under a true image when the materials' conductivities are fitted.

    Args:
        operator: of :func:`free_materials`.
        reference: voltages without objects, ``(76, 31)``.
        y: with objects.
        truth: classes ``(256, 256)``.
        bad: patterns to leave out of ``good``, from 0.
    """
    image = ktc.image(truth, 256)
    change = y - reference
    free = [j for j, value in enumerate((-1, 0, 1)) if bool((image == value).any())]

    def at(theta: np.ndarray) -> torch.Tensor:
        channels = torch.zeros(3, dtype=torch.float64)
        channels[free] = torch.from_numpy(theta)
        return torch.cat([image, channels[:, None, None].expand(3, 256, 256)])[None]

    def rest(theta: np.ndarray) -> np.ndarray:
        return ((y.flatten() - operator.A(at(theta)).flatten()) / change.norm()).numpy()

    def slope(theta: np.ndarray) -> np.ndarray:
        directions = torch.zeros(1, len(free), *operator.x_shape, dtype=torch.float64)
        for t, j in enumerate(free):
            directions[0, t, 1 + j] = 1.0
        moved = operator.linearize(at(theta)).jvp(directions)[0].flatten(1)
        return -(moved / change.norm()).T.numpy()

    # beyond factors of 0.01 and 1000 the voltages hardly change
    found = least_squares(rest, np.zeros(len(free)), slope, bounds=(-3, 3), xtol=1e-4, ftol=1e-6)
    left = torch.from_numpy(rest(found.x)).reshape(76, 31) * change.norm()
    labels = operator.conductivity
    assert isinstance(labels, Labels)
    numbers = [float("nan")] * 3
    for j, theta in zip(free, found.x, strict=True):
        numbers[j] = getattr(labels, MATERIALS[j]) * float(np.exp(theta))
    kept = [k for k in range(31) if k not in bad]
    good = float(left[:, kept].norm() / change[:, kept].norm())
    whole = float(left.norm() / change.norm())
    return Residual(whole, good, (numbers[0], numbers[1], numbers[2]))


def table(folder: Path) -> list[str]:
    """A line for each model: residual of the reference, then of each tank, without patterns 30 and 31."""
    reference = ktc.read(folder / "ref.mat")
    lines = ["model".ljust(50) + "reference  " + "  ".join(f"tank {k}".ljust(13) for k in TANKS)]
    wider = calibrate_width(
        ktc.tank(), reference, make_mesh=mesh_of, fit=("conductivity", "common")
    ).geometry
    assert isinstance(wider, Tank)
    fitted = ("conductivity", "common", "currents")
    placed = calibrate_electrodes(
        wider, reference, make_mesh=partial(_mesh, longest=0.2), fit=fitted
    )
    elsewhere = assemble(with_electrode_edges(_mesh(wider), wider, placed.edges))
    for tank, mesh, title in (
        (ktc.tank(), mesh_of(ktc.tank()), "electrodes of {:.2f} degrees"),
        (wider, mesh_of(wider), "electrodes of {:.2f} degrees"),
        (wider, elsewhere, "each electrode where it is"),
    ):
        lines.append(f"{title.format(tank.width)}, {len(mesh.cells)} cells")
        for parts in (
            (),
            ("impedances",),
            ("offsets",),
            ("common",),
            ("common", "currents"),
            ("impedances", "common", "currents"),
        ):
            calibration = calibrate(tank, reference, mesh=mesh, fit=("conductivity", *parts))
            residuals = tank_residuals(folder, calibration, mesh)
            name = "  three numbers" + "".join(f" + {part}" for part in parts)
            lines.append(
                name.ljust(50)
                + f"{calibration.after:.4f}     "
                + "  ".join(f"{r.whole:.3f} ({r.good:.3f})" for r in residuals)
            )
    return lines


def channels(measurement: Measurement) -> list[str]:
    """What the measurement says of its own channels, without any model."""
    report = flag_channels(measurement)
    relative, floor = fit_noise(measurement)
    return [
        f"noise between repeats: {100 * relative:.2g} % of each voltage, {100 * floor:.2g} % of the largest",
        f"reciprocity holds to {100 * report.reciprocity:.1f} %",
        *report.reasons,
    ]


def main(folder: Path) -> None:
    """Print both."""
    if not folder.is_dir():
        print(f"no measured tanks: there is no folder {folder}")
        return
    print("relative residual of the difference voltages under the true images")
    print("(in brackets without patterns 30 and 31); offsets cancel in differences")
    print("\n".join(table(folder)))
    print("\nthe reference measurement's channels")
    print("\n".join(channels(ktc.read(folder / "ref.mat"))))
