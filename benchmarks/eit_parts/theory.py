"""The finite element model against formulas and against itself."""

from __future__ import annotations

import numpy as np
import torch

from onmanifold.operators.eit import (
    EIT,
    Continuum,
    Exponential,
    Protocol,
    Tank,
    assemble,
    ktc,
    load_discretization,
    polar_mesh,
)
from onmanifold.operators.eit.fem.engine import Engine
from onmanifold.operators.eit.models.electrodes import CompleteElectrodes
from onmanifold.testing import check_operator

RHO, KAPPA = 0.5, 5.0


def trace_error(level: int, degree: int, modes: tuple[int, ...] = (1, 2, 3)) -> tuple[int, float]:
    """Cells, and relative error of the trace of a concentric inclusion, L2 over the boundary.

    On the unit disk of conductivity 1 with ``KAPPA`` within the radius ``RHO``, the current density
    cos(n t) gives the trace ``(1 - m r^2n) / (1 + m r^2n) cos(n t) / n`` with ``m = (KAPPA - 1) /
    (KAPPA + 1)``.
    """
    tank = Tank(electrodes=16, width=11.25)
    mesh = polar_mesh(tank, 2, halvings=level, interface=RHO, order=degree)
    d = assemble(mesh, degree)
    engine = Engine(d, Continuum.trigonometric(max(modes), 256))
    middle = np.linalg.norm(d.points[d.cells].mean(axis=1), axis=1)
    s = torch.from_numpy(np.where(middle < RHO, KAPPA, 1.0))[None]
    y = engine.voltages(engine.fields(s))[0].numpy()
    t = 2 * np.pi * np.arange(256) / 256
    m, errors = (KAPPA - 1) / (KAPPA + 1), []
    for n in modes:
        decay = m * RHO ** (2 * n)
        exact = (1 - decay) / (1 + decay) * np.cos(n * t) / (2 * np.pi * n)
        errors.append(np.linalg.norm(y[2 * n - 2] - exact) / np.linalg.norm(exact))
    return len(d.cells), float(np.max(errors))


def reciprocity(name: str = "medium") -> float:
    """Asymmetry of the transfer matrix of a random conductivity, relative to its largest entry."""
    tank = ktc.tank()
    engine = Engine(
        load_discretization(name, tank), CompleteElectrodes(tank.impedances, ktc.protocol())
    )
    generator = torch.Generator().manual_seed(0)
    s = torch.randn(1, engine.cells, generator=generator, dtype=torch.float64).exp()
    z = engine.transfer(engine.fields(s).w[0])
    return float((z - z.T).abs().max() / z.abs().max())


def rotation() -> float:
    """Change of the voltages when tank and image turn by one electrode, relative."""
    tank = Tank(electrodes=16, width=10.0)
    mesh = polar_mesh(tank, 4)
    engine = Engine(assemble(mesh), CompleteElectrodes(tank.impedances, Protocol.adjacent(16)))
    x, y = mesh.points[mesh.cells].mean(axis=1).T
    images = []
    for turn in (0.0, np.deg2rad(tank.spacing)):
        u = np.cos(turn) * x + np.sin(turn) * y
        v = np.cos(turn) * y - np.sin(turn) * x
        images.append(np.exp(np.sin(3 * u) + v))
    a, b = engine.voltages(engine.fields(torch.from_numpy(np.stack(images))))
    return float((b - a.roll((1, 1), (0, 1))).norm() / a.norm())


def main() -> None:
    """Print all of it."""
    print("trace of a concentric inclusion, error relative to the formula, largest of modes 1 to 3")
    for degree in (1, 2):
        table = [trace_error(level, degree) for level in range(4)]  # edges halve
        errors = np.log2([error for _, error in table])
        order = -np.polyfit(np.arange(len(errors)), errors, 1)[0]
        texts = "  ".join(f"{cells:6d}: {error:.2e}" for cells, error in table)
        print(f"  P{degree}  cells: error  {texts}   observed order {order:.2f}")
    print(f"reciprocity of the transfer matrix      {reciprocity():.1e}")
    print(f"turned by one electrode, change         {rotation():.1e}")
    operator = EIT(ktc.tank(), ktc.protocol(), (1, 64, 64), conductivity=Exponential(0.8))
    x = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    print(f"\nderivatives, on the challenge's tank\n{check_operator(operator, x / 3)}")
