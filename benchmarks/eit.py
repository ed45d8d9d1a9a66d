"""The EIT engine against theory, measurements, one factorization, pyEIT, and growing meshes.

Run ``python benchmarks/eit.py [SECTION ...] [--data FOLDER]``, sections theory, tanks, growth, cost, solvers;
all without. FOLDER holds ``ktc2023/training`` (the measured part is left out where it is not there). pyEIT,
scikit-sparse and cholespy are compared with where they are installed, ranks of MPI where there is ``mpirun``.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from eit_parts import cost, growth, solvers, tanks, theory

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Print the sections."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sections = {
        "theory": theory,
        "tanks": tanks,
        "growth": growth,
        "cost": cost,
        "solvers": solvers,
    }
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(sections))
    parser.add_argument("--data", type=Path, help="default: ONMANIFOLD_DATA, or ../shared/data")
    arguments = parser.parse_args()
    unknown = set(arguments.sections) - set(sections)
    if unknown:
        parser.error(f"unknown section {', '.join(unknown)}; known: {', '.join(sections)}")
    default = os.environ.get("ONMANIFOLD_DATA", ROOT.parent / "shared" / "data")
    data = arguments.data or Path(default)
    for name in arguments.sections or sections:
        print(f"\n== {name}\n", flush=True)
        if name == "tanks":
            tanks.main(data / "ktc2023" / "training")
        else:
            sections[name].main()


if __name__ == "__main__":
    main()
