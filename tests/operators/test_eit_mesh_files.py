"""Meshes read from files: electrodes by name, orders, dimensions, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from mesh_cases import volumes

from onmanifold.operators.eit.geometry.base import MeshGeometry
from onmanifold.operators.eit.mesh.files import read_mesh
from onmanifold.operators.eit.mesh.generate import gmsh_session

BOTTOM, TOP = (0.75, 0.0, 0.0), (0.75, 1.0, 0.0)


def _write(gmsh, path, names, *, dim=2, order=1, version=4.1, binary=False, quads=False):
    """The box [0, 1.5] x [0, 1] (x [0, 0.5]), its sides at y = 0 and y = 1 in groups of these names."""
    with gmsh_session(gmsh):
        gmsh.option.setNumber("Mesh.MeshSizeMax", 0.4)
        occ = gmsh.model.occ
        occ.addRectangle(0, 0, 0, 1.5, 1) if dim == 2 else occ.addBox(0, 0, 0, 1.5, 1, 0.5)
        occ.synchronize()
        sides = [
            [tag for of, tag in gmsh.model.getEntities(dim - 1) if _on(gmsh, of, tag, y)]
            for y in (0, 1)
        ]
        gmsh.model.addPhysicalGroup(dim, [1], name="water")
        for side, name in zip(sides, names, strict=False):
            gmsh.model.addPhysicalGroup(dim - 1, side, name=name)
        if quads:
            gmsh.model.mesh.setRecombine(2, 1)
        gmsh.model.mesh.generate(dim)
        gmsh.model.mesh.setOrder(order)
        gmsh.option.setNumber("Mesh.MshFileVersion", version)
        gmsh.option.setNumber("Mesh.Binary", binary)
        gmsh.write(str(path))
    return path


def _on(gmsh, dim, tag, y):
    box = np.array(gmsh.model.getBoundingBox(dim, tag)).reshape(2, 3)
    return np.allclose(box[:, 1], y, atol=1e-5)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("version", [2.2, 4.1])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("dim", [2, 3])
def test_msh(gmsh, tmp_path, dim, order, version, binary):
    names = ["Electrode_02", "electrode 1"]
    path = _write(
        gmsh, tmp_path / "box.msh", names, dim=dim, order=order, version=version, binary=binary
    )
    mesh = read_mesh(path)
    assert (mesh.dim, mesh.order, mesh.electrodes) == (dim, order, 2)
    assert volumes(mesh).sum() == pytest.approx(1.5 if dim == 2 else 0.75)
    geometry = MeshGeometry.of(mesh, contact_impedance=[1.0, 2.0], shunted=[1])
    middle = [0.75, 0.0, 0.25][:dim]
    np.testing.assert_allclose(geometry.centres[1], middle, atol=1e-9)
    np.testing.assert_allclose(geometry.centres[0], [0.75, 1.0, 0.25][:dim], atol=1e-9)
    np.testing.assert_array_equal(geometry.impedances, [1, 2])
    assert geometry.shunted == (1,)
    box = ((0, -0.25), (1.5, 1.25)) if dim == 2 else ((0, 0, 0), (1.5, 1, 0.5))
    np.testing.assert_allclose(geometry.extent, box, atol=1e-9)


def test_electrodes_by_name_or_tag(gmsh, tmp_path):
    path = _write(gmsh, tmp_path / "box.msh", ["left plate", "right plate"])
    mesh = read_mesh(path, {"right plate": 0, "left plate": 1})
    assert (mesh.points[mesh.facets[mesh.electrode == 0], 1] == 1).all()
    mesh = read_mesh(path, {2: 0, "right plate": 1})
    assert (mesh.points[mesh.facets[mesh.electrode == 0], 1] == 0).all()


def test_msh_refuses(gmsh, tmp_path):
    path = _write(gmsh, tmp_path / "plates.msh", ["left plate", "right plate"])
    with pytest.raises(ValueError, match=r"plates.msh: no group .*2 'left plate', 3 'right plate'"):
        read_mesh(path)
    with pytest.raises(ValueError, match=r"plates.msh: no group of facets 'top'.*'right plate'"):
        read_mesh(path, {"top": 0, "left plate": 1})
    bare = _write(gmsh, tmp_path / "bare.msh", [])
    with pytest.raises(ValueError, match=r"bare.msh: no group .*\(none\)"):
        read_mesh(bare)
    skipped = _write(gmsh, tmp_path / "skipped.msh", ["e1", "e3"])
    with pytest.raises(ValueError, match=r"skipped.msh: electrode 2 has no facet"):
        read_mesh(skipped)
    mixed = _write(gmsh, tmp_path / "mixed.msh", ["e1", "e2"], quads=True)
    with pytest.raises(ValueError, match=r"mixed.msh: expected triangles .*Quadrilateral"):
        read_mesh(mixed)
    cubic = _write(gmsh, tmp_path / "cubic.msh", ["e1", "e2"], order=3)
    with pytest.raises(ValueError, match=r"cubic.msh: expected triangles"):
        read_mesh(cubic)
    broken = tmp_path / "broken.msh"
    broken.write_text("$MeshFormat\n4.1 0 8\n$EndMeshFormat\n$Nodes\nnonsense\n")
    with pytest.raises(ValueError, match=r"broken.msh: "):
        read_mesh(broken)
    with pytest.raises(ValueError, match=r"mesh.stl is not a mesh of a known kind"):
        (tmp_path / "mesh.stl").touch()
        read_mesh(tmp_path / "mesh.stl")
    with pytest.raises(FileNotFoundError, match="there is no mesh"):
        read_mesh(tmp_path / "none.msh")


def _write_xdmf(path, dim, order=1, values=(1, 2), tagged=True):
    """A unit square or cube, the sides x = 0 and x = 1 with these values."""
    import basix.ufl
    from dolfinx import io, mesh
    from mpi4py import MPI

    if dim == 2:
        domain = mesh.create_unit_square(MPI.COMM_SELF, 3, 3)
    else:
        domain = mesh.create_unit_cube(MPI.COMM_SELF, 2, 2, 2)
    if order == 2:
        domain = _second_order(domain, dim, basix.ufl, mesh, MPI)
    sides = [
        mesh.locate_entities_boundary(domain, dim - 1, lambda x, v=v: np.isclose(x[0], v))
        for v in (0, 1)
    ]
    facets = np.concatenate(sides)
    numbers = np.repeat(np.array(values, np.int32), [len(s) for s in sides])
    order_ = np.argsort(facets)
    tags = mesh.meshtags(domain, dim - 1, facets[order_], numbers[order_])
    tags.name = "plates"
    with io.XDMFFile(MPI.COMM_SELF, str(path), "w") as file:
        file.write_mesh(domain)
        if tagged:
            domain.topology.create_connectivity(dim - 1, dim)
            file.write_meshtags(tags, domain.geometry)
    return path


def _second_order(domain, dim, elements, mesh, mpi):
    from onmanifold.operators.eit.mesh.mesh import with_middles

    points, (cells,) = with_middles(domain.geometry.x[:, :dim], domain.geometry.dofmaps[0])
    name = ("triangle", "tetrahedron")[dim - 2]
    element = elements.element("Lagrange", name, 2, shape=(dim,))
    return mesh.create_mesh(mpi.COMM_SELF, cells.astype(np.int64), element, points)


@pytest.mark.usefixtures("dolfinx")
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("dim", [2, 3])
def test_xdmf(tmp_path, dim, order):
    mesh = read_mesh(_write_xdmf(tmp_path / "box.xdmf", dim, order))
    assert (mesh.dim, mesh.order, mesh.electrodes) == (dim, order, 2)
    assert volumes(mesh).sum() == pytest.approx(1)
    for number in (0, 1):
        facets = mesh.facets[mesh.electrode == number]
        np.testing.assert_allclose(mesh.points[facets, 0], number)
    mesh = read_mesh(tmp_path / "box.xdmf", {2: 0, 1: 1})
    np.testing.assert_allclose(mesh.points[mesh.facets[mesh.electrode == 0], 0], 1)


@pytest.mark.usefixtures("dolfinx")
def test_xdmf_refuses(tmp_path):
    with pytest.raises(ValueError, match=r"box.xdmf: no group of facets 7; it has the groups 1, 2"):
        read_mesh(_write_xdmf(tmp_path / "box.xdmf", 2), {7: 0})
    with pytest.raises(ValueError, match=r"plain.xdmf: it holds no grid of facets with values"):
        read_mesh(_write_xdmf(tmp_path / "plain.xdmf", 2, tagged=False))
    with pytest.raises(ValueError, match=r"zero.xdmf: no facet has a positive value"):
        read_mesh(_write_xdmf(tmp_path / "zero.xdmf", 2, values=(0, -1)))
    broken = tmp_path / "broken.xdmf"
    broken.write_text("no xml")
    with pytest.raises(ValueError, match=r"broken.xdmf: it is not XML"):
        read_mesh(broken)
    broken.write_text("<Xdmf><Domain/></Xdmf>")
    with pytest.raises(ValueError, match=r"broken.xdmf: it holds no grid of triangles"):
        read_mesh(broken)
    (tmp_path / "box.h5").unlink()
    with pytest.raises(ValueError, match=r"box.xdmf: dolfinx cannot read it"):
        read_mesh(tmp_path / "box.xdmf")
