"""Makes the shipped meshes: ``python benchmarks/eit_parts/shipped_meshes.py [--folder FOLDER]``.

Needs gmsh and dolfinx.
"""

from pathlib import Path

import typer

from onmanifold.operators.eit import Tank, assemble, generate_mesh

SHIPPED = Path(__file__).resolve().parents[2] / "operators" / "eit" / "mesh" / "shipped"
# Length at an electrode's edge, its growth, longest edge; in radii of the tank.
SETTINGS = {
    "coarse": (0.0085, 0.3, 0.09),
    "medium": (0.003, 0.25, 0.05),
    "fine": (0.0018, 0.2, 0.033),
}


def main(folder: Path = SHIPPED) -> None:
    """Mesh and assemble the unit disk with 32 electrodes of 5.625 degrees, at every shipped size."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, lengths in SETTINGS.items():
        discretization = assemble(generate_mesh(Tank.unit(), *lengths))
        discretization.save(folder / f"{name}.npz", single=True)
        print(f"{name}: {len(discretization.cells)} cells")


if __name__ == "__main__":
    typer.run(main)
