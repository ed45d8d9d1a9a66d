"""What dolfinx assembles, once: element matrices and electrode blocks of the complete electrode model.

With piecewise constant conductivity ``s`` the stiffness matrix is the sum of ``s_c E_c`` over the cells, so
the element matrices ``E_c`` are all that the finite element library has to tell. They are kept in one small
object that is saved to ``.npz``; the meshes that ship with the package come with theirs.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from onmanifold.operators.eit.mesh import Mesh
from onmanifold.operators.eit.tank import Tank

Array = NDArray[np.float64]
Index = NDArray[np.int32]

SHIPPED = ("coarse", "medium", "fine")


@dataclass(frozen=True, eq=False)
class Discretization:
    """Element matrices and electrode blocks; everything the solver needs of mesh and elements.

    Attributes:
        points: vertices, m, ``(V, 2)``.
        cells: vertices of each cell, ``(C, 3)``.
        dofs: degrees of freedom of each cell, ``(C, n)``; n = 3 for linear elements.
        stiffness: ``E_c[i, j]``, the integral of ``grad phi_i . grad phi_j`` over cell c, ``(C, n, n)``.
        rows: row of each entry of the electrode mass matrix, ``(Q,)``.
        columns: its column, ``(Q,)``.
        mass: its value, the integral of ``phi_i phi_j`` over an electrode, m, ``(Q,)``.
        electrode: the electrode it belongs to, from 0, ``(Q,)``.
    """

    points: Array
    cells: Index
    dofs: Index
    stiffness: Array
    rows: Index
    columns: Index
    mass: Array
    electrode: Index

    @property
    def electrodes(self) -> int:
        """Number of electrodes L."""
        return int(self.electrode.max()) + 1

    @property
    def size(self) -> int:
        """Number of degrees of freedom of the potential."""
        return int(self.dofs.max()) + 1

    def placed(self, tank: Tank) -> Discretization:
        """A discretization of the unit disk, its first electrode at angle 0, moved into ``tank``.

        In two dimensions the stiffness does not depend on the size; the electrodes' mass grows with it.
        """
        turn = np.deg2rad(tank.first_angle)
        rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        electrode = (-self.electrode) % self.electrodes if tank.clockwise else self.electrode
        return replace(
            self,
            points=tank.radius * (self.points @ rotation),
            mass=tank.radius * self.mass,
            electrode=electrode,
        )

    def save(self, path: str | Path) -> None:
        """Write to an ``.npz`` file, element matrices in single precision.

        An element matrix is symmetric with zero row sums, so its upper triangle is enough.
        """
        i, j = np.triu_indices(self.dofs.shape[1], 1)
        arrays = {name: getattr(self, name) for name in self.__dataclass_fields__}
        arrays["stiffness"] = self.stiffness[:, i, j].astype(np.float32)
        if np.array_equal(self.dofs, self.cells):
            del arrays["dofs"]
        for name in ("cells", "rows", "columns", "electrode"):
            array = arrays[name]
            arrays[name] = array.astype(np.min_scalar_type(int(array.max())))
        np.savez_compressed(path, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Discretization:
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: the file is not such a file (it is named, with what is missing).
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays: dict[str, Any] = dict(file)
        except (ValueError, OSError, EOFError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise ValueError(f"{path} is not a readable .npz file: {error}") from error
        arrays.setdefault("dofs", arrays.get("cells"))
        missing = [name for name in cls.__dataclass_fields__ if arrays.get(name) is None]
        if missing:
            raise ValueError(f"{path} is not a saved discretization: it lacks {', '.join(missing)}")
        for name in ("cells", "dofs", "rows", "columns", "electrode"):
            arrays[name] = arrays[name].astype(np.int32)
        arrays["stiffness"] = _symmetric(arrays["stiffness"].astype(np.float64))
        return cls(**arrays)


def load_discretization(name: str, tank: Tank) -> Discretization:
    """A shipped mesh with its assembled matrices, moved into ``tank``.

    Args:
        name: ``"coarse"`` (about 4000 cells), ``"medium"`` (12 000) or ``"fine"`` (20 000, a different mesh,
            from which to simulate data).
        tank: a tank with 32 electrodes of 5.625 degrees, of any size.

    Raises:
        ValueError: an unknown name, or a tank with other electrodes.
    """
    if name not in SHIPPED:
        raise ValueError(f"unknown mesh {name!r}; known: {', '.join(SHIPPED)}")
    if tank.electrodes != 32 or not np.isclose(tank.width, 5.625):
        raise ValueError(
            "the shipped meshes have 32 electrodes of 5.625 degrees; for "
            f"{tank.electrodes} of {tank.width:g} degrees pass mesh=disk_mesh(tank) or polar_mesh(tank)"
        )
    file = resources.files("onmanifold.operators.eit") / "meshes" / f"{name}.npz"
    with resources.as_file(file) as path:
        return Discretization.load(path).placed(tank)


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
    return Discretization(
        mesh.points, cells[order], cells[order], np.asarray(stiffness, np.float64).reshape(row.shape)[order],
        rows, columns, block.data, electrode[rows],
    )  # fmt: skip


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


def _symmetric(upper: Array) -> Array:
    """Symmetric matrices with zero row sums from their strict upper triangles ``(C, n (n - 1) / 2)``."""
    n = int((1 + np.sqrt(1 + 8 * upper.shape[1])) / 2)
    i, j = np.triu_indices(n, 1)
    full = np.zeros((len(upper), n, n))
    full[:, i, j] = full[:, j, i] = upper
    full[:, range(n), range(n)] = -full.sum(axis=2)
    return full
