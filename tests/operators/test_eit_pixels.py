"""Images to cells: averages, orientation, size."""

from __future__ import annotations

import numpy as np
import pytest

from onmanifold.operators.eit.geometry.cylinder import Cylinder
from onmanifold.operators.eit.geometry.tank import Tank
from onmanifold.operators.eit.mesh.pixels import cell_average
from onmanifold.operators.eit.mesh.polar import polar_mesh

TANK = Tank(radius=0.115, electrodes=8, width=20)
CYLINDER = Cylinder(0.2, 0.3, rings=(0.1,), per_ring=8, width=20, electrode_height=0.05)


@pytest.mark.parametrize(
    ("geometry", "shape"), [(TANK, (64, 32)), (TANK, (5, 7)), (CYLINDER, (12, 16, 8))]
)
def test_average_of_coordinates_is_the_coordinate_of_the_middle(geometry, shape):
    mesh = polar_mesh(geometry)
    weights = cell_average(mesh.points, mesh.cells, geometry.extent, shape)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)
    middle = mesh.points[mesh.cells].mean(axis=1)
    lower, upper = np.array(geometry.extent)
    pixel = (upper - lower) / shape[::-1]
    axes = [lower[d] + (np.arange(shape[::-1][d]) + 0.5) * pixel[d] for d in range(mesh.dim)]
    axes[1] = axes[1][::-1]  # row 0 on top
    for d, image in enumerate(np.meshgrid(*axes[::-1], indexing="ij")[::-1]):
        error = np.abs(weights @ image.ravel() - middle[:, d])
        assert error.max() < 0.55 * pixel[d] and error.mean() < 0.25 * pixel[d]


@pytest.mark.parametrize("dim", [2, 3])
def test_weights_are_the_shares_of_the_volume(dim):
    """A simplex cut in the middle of one axis: a half to the power of D lies beyond it."""
    points = np.vstack([np.zeros(dim), np.eye(dim)])
    for axis in range(dim):
        shape = [1] * dim
        shape[dim - 1 - axis] = 2
        box = [0.0] * dim, [1.0] * dim
        weights = cell_average(points, np.arange(dim + 1)[None], box, shape).toarray()[0]
        far = 0 if axis == 1 else 1
        assert weights[far] == pytest.approx(0.5**dim, abs=1e-12)


def test_cells_within_a_pixel_take_it_alone():
    points = np.array([[0.1, 0.1], [0.4, 0.1], [0.1, 0.4]])
    weights = cell_average(points, np.array([[0, 1, 2]]), ((0, 0), (1, 1)), (2, 2))
    np.testing.assert_array_equal(weights.toarray(), [[0, 0, 1, 0]])


def test_cells_out_of_the_box_take_the_nearest_pixel():
    points = np.array([[3.0, 3.0], [4.0, 3.0], [3.0, 4.0]])
    weights = cell_average(points, np.array([[0, 1, 2]]), ((0, 0), (1, 1)), (2, 2))
    np.testing.assert_array_equal(weights.toarray(), [[0, 1, 0, 0]])


def test_dimensions_have_to_fit():
    mesh = polar_mesh(TANK, 2)
    for extent, shape in ((TANK.extent, (4, 4, 4)), (CYLINDER.extent, (4, 4))):
        with pytest.raises(ValueError, match="does not fit points of 2 coordinates"):
            cell_average(mesh.points, mesh.cells, extent, shape)


def test_nothing_grows_like_cells_times_pixels():
    mesh = polar_mesh(TANK, 4, halvings=2)
    weights = cell_average(mesh.points, mesh.cells, TANK.extent, (32, 32))
    assert weights.nnz < 3 * len(mesh.cells)
