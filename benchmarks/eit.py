"""The EIT engine against theory, measurements, one factorization, pyEIT, and growing meshes.

Run ``python benchmarks/eit.py [theory] [tanks] [growth] [cost] [solvers]``. Measured tanks are those in
$ONMANIFOLD_DATA. pyEIT, scikit-sparse and cholespy are compared with where they are installed, ranks of MPI
where there is ``mpirun``.
"""

from typing import Annotated

import typer

from eit_parts import cost, growth, solvers, tanks, theory
from shared.options import one_of

PARTS = {
    "theory": theory.main,
    "tanks": tanks.main,
    "growth": growth.main,
    "cost": cost.main,
    "solvers": solvers.main,
}
Part = one_of(PARTS)


def main(parts: Annotated[list[Part], typer.Argument()] = tuple(Part)) -> None:
    """Print parts, by default all."""
    for part in parts:
        print(f"\n== {part}\n", flush=True)
        PARTS[part]()


if __name__ == "__main__":
    typer.run(main)
