"""Makes the shipped meshes: ``python benchmarks/eit_parts/shipped_meshes.py [FOLDER]``.

Needs gmsh and dolfinx.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from onmanifold.operators.eit import Tank, assemble, generate_mesh

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "operators" / "eit" / "mesh" / "shipped"
# Length at an electrode's edge, its growth, longest edge; in radii of the tank.
SETTINGS = {
    "coarse": (0.0085, 0.3, 0.09),
    "medium": (0.003, 0.25, 0.05),
    "fine": (0.0018, 0.2, 0.033),
}


def main() -> None:
    """Mesh and assemble the unit disk with 32 electrodes of 5.625 degrees, at every shipped size."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=SHIPPED)
    folder = parser.parse_args().folder
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    folder.mkdir(parents=True, exist_ok=True)
    for name, (edge, growth, interior) in SETTINGS.items():
        discretization = assemble(generate_mesh(Tank.unit(), edge, growth, interior))
        path = folder / f"{name}.npz"
        discretization.save(path, single=True)
        size = path.stat().st_size / 1000
        logging.info("%s: %d cells, %.0f kB", path.name, len(discretization.cells), size)


if __name__ == "__main__":
    main()
