"""Small EIT problems that several test files share."""

from __future__ import annotations

import shutil

import pytest

from onmanifold.operators.eit import Discretization, Tank, assemble, polar_mesh
from onmanifold.operators.eit.mesh.generate import import_gmsh
from onmanifold.operators.native import require_dolfinx


@pytest.fixture(scope="session")
def dolfinx():
    """Skips where dolfinx is not installed."""
    try:
        return require_dolfinx()
    except ImportError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def gmsh():
    """Skips where gmsh does not import."""
    try:
        return import_gmsh()
    except ImportError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def compiler(dolfinx):
    """Skips where dolfinx cannot compile forms."""
    if not (shutil.which("cc") or shutil.which("gcc")):
        pytest.skip("dolfinx compiles forms with a C compiler, and there is none")


@pytest.fixture(scope="session")
def small_tank() -> Tank:
    """Eight electrodes, not at the angles of the shipped meshes."""
    return Tank(radius=0.5, electrodes=8, width=20, first_angle=30, contact_impedance=0.02)


@pytest.fixture(scope="session")
def small_mesh(compiler, small_tank) -> Discretization:
    """128 cells, the same under rotation by one electrode."""
    return assemble(polar_mesh(small_tank, edges=2))
