"""What the EIT operator costs, and how well it explains the measured tanks.

Run ``python benchmarks/eit.py [--data FOLDER]``; FOLDER holds ``ktc2023/training`` (the measured part is left
out where it is not there).
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from onmanifold.operators.eit import (
    EIT,
    Exponential,
    Protocol,
    Saturating,
    Tank,
    ktc_picture,
    read_ktc,
    read_ktc_truth,
)

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def milliseconds(work: Callable[[], object], repeats: int = 9) -> float:
    """Median wall time of ``work``, after one call to warm up, in ms."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def cost(mesh: str, directions: int = 48) -> list[float]:
    """Cells, then ms of: voltages, linearization, its jvp, its vjp, the whole Jacobian."""
    operator = EIT(Tank.ktc(), Protocol.ktc(), conductivity=Exponential(0.8), mesh=mesh)
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    x, v = 0.3 * random(1, *operator.x_shape), random(1, directions, *operator.x_shape)
    u = random(1, 1, *operator.y_shape)
    lin = operator.linearize(x)
    return [
        float(operator.cell_conductivity(x).shape[1]),
        milliseconds(lambda: operator.A(x)),
        milliseconds(lambda: operator.linearize(x)),
        milliseconds(lambda: lin.jvp(v)),
        milliseconds(lambda: lin.vjp(u)),
        milliseconds(lin.jacobian, 2),
    ]


def residuals(folder: Path, mesh: str) -> list[str]:
    """Relative residual of each tank's difference voltages under its true picture, and the water's drift."""
    reference = read_ktc(folder / "ref.mat")
    operator = EIT(
        Tank.ktc(),
        reference.protocol,
        (1, 256, 256),
        conductivity=Saturating(0.79, conductive=0.97),
        mesh=mesh,
        reference=reference.voltages,
    )
    texts = []
    for k in range(1, 5):
        x = ktc_picture(read_ktc_truth(folder / f"true{k}.mat"), 256)[None]
        y = read_ktc(folder / f"data{k}.mat").voltages[None]
        scale = float(operator.fit_scale(x, y))
        rest, change = (y - operator.scaled(scale).A(x))[0], y[0] - reference.voltages
        whole, good = (float(rest[:, :m].norm() / change[:, :m].norm()) for m in (31, 29))
        texts.append(f"{whole:.3f} ({good:.3f}, x{scale:.3f})")
    return texts


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ONMANIFOLD_DATA", DATA)))
    folder = parser.parse_args().data / "ktc2023" / "training"
    print(f"76 injections, 31 voltages, 64 x 64 pixels; {torch.get_num_threads()} threads; ms")
    print("mesh     cells     A  linearize  jvp (48)  vjp (1)  Jacobian")
    for mesh in ("coarse", "medium", "fine"):
        cells, *times = cost(mesh)
        print(
            f"{mesh:8s} {cells:5.0f} " + "{:5.0f} {:10.0f} {:9.0f} {:8.0f} {:9.0f}".format(*times)
        )
    if not folder.is_dir():
        print(f"no measured tanks: there is no folder {folder}")
        return
    print("\nrelative residual of the difference voltages under the true pictures")
    print("(without patterns 30 and 31; water's drift), tanks 1 to 4")
    for mesh in ("coarse", "medium", "fine"):
        print(f"{mesh:8s}", "  ".join(residuals(folder, mesh)))


if __name__ == "__main__":
    main()
