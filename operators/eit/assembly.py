"""From a mesh to element matrices and electrode blocks, by dolfinx."""

from __future__ import annotations

import contextlib
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from onmanifold.operators.eit.discretization import Discretization
from onmanifold.operators.eit.mesh import Mesh

Array = NDArray[np.float64]
Index = NDArray[np.int32]


def assemble(mesh: Mesh) -> Discretization:
    """Assemble element matrices and electrode blocks of linear elements with dolfinx.

    Args:
        mesh: the mesh, in m.

    Raises:
        ImportError: dolfinx is missing; the message says how to install it.
        RuntimeError: it cannot compile its forms; the message says what that needs.
    """
    dolfinx = require_dolfinx()
    fem, ufl = dolfinx.fem, import_module("ufl")
    domain = _dolfinx_mesh(mesh)
    broken = fem.functionspace(domain, ("Discontinuous Lagrange", 1))
    u, v = ufl.TrialFunction(broken), ufl.TestFunction(broken)
    matrix = _assemble(fem, ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx)
    dofs = broken.dofmap.list
    row, column = np.broadcast_arrays(dofs[:, :, None], dofs[:, None, :])
    stiffness = matrix[row.ravel(), column.ravel()]

    space = fem.functionspace(domain, ("Lagrange", 1))
    facets = _electrode_facets(dolfinx, domain, mesh)
    tags = dolfinx.mesh.meshtags(domain, 1, facets, np.ones(len(facets), np.int32))
    ds = ufl.Measure("ds", domain=domain, subdomain_data=tags)
    u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
    block = _assemble(fem, u * v * ds(1)).tocoo()
    block.eliminate_zeros()

    vertex = np.empty(len(mesh.points), np.int32)  # degree of freedom -> vertex of the given mesh
    vertex[space.dofmap.list] = _vertices(domain)[domain.geometry.dofmaps[0]]
    electrode = np.full(len(mesh.points), -1, np.int32)
    electrode[mesh.edges] = mesh.electrode[:, None]
    rows, columns = vertex[block.row], vertex[block.col]
    cells = vertex[space.dofmap.list]
    order = np.argsort(domain.topology.original_cell_index)  # back to the given mesh's order
    stiffness = np.asarray(stiffness, np.float64).reshape(row.shape)[order]
    nodes, dofs = mesh.points, cells[order]
    return Discretization(
        mesh.points, dofs, nodes, dofs, stiffness, rows, columns, block.data, electrode[rows]
    )


def _assemble(fem: Any, form: Any) -> csr_array:
    """The matrix of a bilinear form."""
    try:
        compiled = fem.form(form)
    except Exception as error:  # cffi, setuptools and the compiler each have their own
        raise RuntimeError(
            f"dolfinx could not compile a form ({error}). It needs a C compiler and Python's headers "
            "(Debian: `apt-get install gcc libc6-dev python3-dev`); the shipped meshes need neither."
        ) from error
    return csr_array(fem.assemble_matrix(compiled).to_scipy())


def require_dolfinx() -> Any:
    """Import dolfinx and petsc4py, or say how to install them.

    Raises:
        ImportError: one of them is missing, or PETSc has complex scalars.
    """
    try:
        with contextlib.suppress(ModuleNotFoundError):  # conda-forge's dolfinx comes without it
            import_module("dolfinx_solver")  # the wheel's libraries have to be loaded in its order
        dolfinx = import_module("dolfinx")
        import_module("dolfinx.fem")
        import_module("dolfinx.mesh")
        scalar = import_module("petsc4py.PETSc").ScalarType
    except ImportError as error:
        raise ImportError(
            f"electrical impedance tomography needs dolfinx with petsc4py ({error}). Install it with "
            "`pip install onmanifold[eit]` (Linux, x86-64) or "
            "`conda install -c conda-forge fenics-dolfinx` (elsewhere)."
        ) from error
    if np.issubdtype(scalar, np.complexfloating):
        raise ImportError("this PETSc computes with complex numbers; install its real variant")
    return dolfinx


def _dolfinx_mesh(mesh: Mesh) -> Any:
    element = import_module("basix.ufl").element("Lagrange", "triangle", 1, shape=(2,))
    create, alone = import_module("dolfinx.mesh").create_mesh, import_module("mpi4py.MPI").COMM_SELF
    return create(alone, mesh.cells.astype(np.int64), element, mesh.points)


def _vertices(domain: Any) -> Index:
    """The vertex of the given mesh at each of dolfinx's geometry nodes."""
    return np.asarray(domain.geometry.input_global_indices, np.int32)


def _electrode_facets(dolfinx: Any, domain: Any, mesh: Mesh) -> Index:
    """Numbers of dolfinx's facets that lie on electrodes, ascending."""
    domain.topology.create_connectivity(1, 2)
    facets = np.sort(dolfinx.mesh.exterior_facet_indices(domain.topology))
    ends = _vertices(domain)[dolfinx.mesh.entities_to_geometry(domain, 1, facets)]
    count = len(mesh.points)

    def key(edges: Any) -> Any:
        low, high = np.sort(edges, axis=1).astype(np.int64).T
        return low * count + high

    return np.asarray(facets[np.isin(key(ends), key(mesh.edges))], np.int32)
