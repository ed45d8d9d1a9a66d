"""Images: what is on them, in 2D and 3D."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from mesh_cases import volumes

from onmanifold.operators.eit.fem.assembly import assemble
from onmanifold.operators.eit.geometry.cylinder import Cylinder
from onmanifold.operators.eit.geometry.tank import Tank
from onmanifold.operators.eit.mesh.polar import polar_mesh
from onmanifold.operators.eit.plot import _cut, plot_eit

TANK = Tank(radius=0.5, electrodes=8, width=20, first_angle=30, shunted=[2])
CYLINDER = Cylinder(0.14, 0.2, rings=(0.05, 0.15), per_ring=6, width=30, electrode_height=0.03)

pytestmark = pytest.mark.usefixtures("compiler")


@pytest.fixture(scope="module")
def disk():
    return assemble(polar_mesh(TANK, 2))


@pytest.fixture(scope="module")
def body():
    return assemble(polar_mesh(CYLINDER, 2))


def test_every_electrode_has_its_number_beside_it(disk):
    ax = plot_eit(TANK, disk)
    assert [text.get_text() for text in ax.texts] == [str(k + 1) for k in range(8)]
    for text, centre in zip(ax.texts, TANK.centres, strict=True):
        x, y = text.get_position()
        assert np.hypot(x, y) > 0.5 and np.hypot(*(centre - (x, y))) < 0.1
    colours = [tuple(lines.get_color()[0]) for lines in ax.collections]
    assert colours.count(colours[1]) == 7  # all electrodes but the shunted one


def test_conductivity_has_a_colour_bar_with_its_unit(disk):
    s = 1 + np.arange(len(disk.cells))
    ax = plot_eit(TANK, disk, s)
    drawn = next(c for c in ax.collections if c.get_array() is not None)
    np.testing.assert_array_equal(drawn.get_array(), s)
    assert (drawn.norm.vmin, drawn.norm.vmax) == (1, len(s))
    assert "conductivity (S/m)" in [other.get_ylabel() for other in ax.figure.axes]


def test_given_axes_are_used_and_drawn(disk, body, tmp_path):
    figure = Figure()
    flat, solid = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2, projection="3d")
    assert plot_eit(TANK, disk, np.ones(len(disk.cells)), flat) is flat
    assert plot_eit(CYLINDER, body, np.arange(len(body.cells)), solid) is solid
    assert len(solid.texts) == 12
    figure.savefig(tmp_path / "eit.png")
    assert (tmp_path / "eit.png").stat().st_size > 10_000


def test_cuts_cover_the_cross_section(body):
    for z in (0.02, 0.1234):
        corners, cells = _cut(body.points, body.cells, z)
        np.testing.assert_allclose(corners[..., 2], z, atol=1e-12)
        x, y = corners[..., 0], corners[..., 1]
        areas = 0.5 * np.abs((x * np.roll(y, -1, axis=1) - y * np.roll(x, -1, axis=1)).sum(axis=1))
        base = polar_mesh(CYLINDER.base, 2)
        assert areas.sum() == pytest.approx(volumes(base).sum(), rel=1e-9)
        heights = body.points[body.cells[cells], 2]
        assert (heights.min(axis=1) <= z).all() and (heights.max(axis=1) >= z).all()


@pytest.mark.parametrize(("geometry", "degree"), [(TANK, 2), (CYLINDER, 1)])
def test_a_mesh_and_its_discretization_look_alike(geometry, degree):
    mesh = polar_mesh(geometry, 2, order=2)
    kinds = []
    for given in (mesh, assemble(mesh, degree)):
        ax = plot_eit(geometry, given)
        sizes = [len(drawn.get_paths()) for drawn in ax.collections]
        kinds.append((sizes, [text.get_position() for text in ax.texts]))
    assert kinds[0][0] == kinds[1][0] and len(kinds[0][0]) == 1 + geometry.electrodes
    np.testing.assert_allclose(kinds[0][1], kinds[1][1])


def test_plot_refuses(disk):
    with pytest.raises(ValueError, match=r"one number for each of \d+ cells, got shape \(3,\)"):
        plot_eit(TANK, disk, np.ones(3))
    values = np.ones(len(disk.cells))
    values[5] = np.nan
    with pytest.raises(ValueError, match="cell 5 is nan; it has to be finite"):
        plot_eit(TANK, disk, values)
