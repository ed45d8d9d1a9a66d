"""How operators draw their unknowns and their data."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from onmanifold.operators import Mask
from onmanifold.operators.eit import EIT, Affine, Inclusions, Labels, Protocol, Tank


@pytest.fixture
def ax():
    return Figure().add_subplot()


def image(ax):
    return np.ma.filled(ax.images[0].get_array(), np.nan)


def electrical(protocol, shape=(1, 16, 16), **options):
    return EIT(Tank.unit(), protocol, shape, mesh="coarse", **options)


def test_masked_entries_stand_in_their_places(ax):
    mask = torch.tensor([[True, False, True], [False, True, True]])
    operator = Mask(mask, (1, 2, 3))
    x = torch.arange(1.0, 7.0).view(1, 1, 2, 3)
    drawn = operator.draw_y(ax, operator.A(x)[0], min=0.0, max=9.0)
    assert np.array_equal(image(ax), x[0, 0].where(mask, torch.nan), equal_nan=True)
    assert drawn.get_clim() == (0, 9)


def test_conductivities_fill_the_tank(ax):
    operator = electrical(Protocol.adjacent(32))
    x = torch.linspace(1, 2, 256).view(1, 16, 16)
    drawn = operator.draw_x(ax, x, min=0.0, max=3.0, cmap="magma")
    shown = image(ax)
    assert np.isnan(shown[[0, 0, -1, -1], [0, -1, 0, -1]]).all()
    assert np.array_equal(shown[4:12, 4:12], x[0, 4:12, 4:12])
    assert (operator.label_x, operator.label_y) == ("S/m", "V")
    assert electrical(Protocol.adjacent(32), conductivity=Affine(0.2, 1.6)).label_x == ""
    assert drawn.get_clim() == (0, 3) and drawn.get_extent() == [-1, 1, -1, 1]
    assert np.allclose(np.hypot(*ax.lines[0].get_data()), 1) and len(ax.lines[0].get_xdata()) == 32


def test_free_parameters_stand_beneath_the_picture(ax):
    conductivity = Labels(free=("background", "resistive"))
    operator = electrical(Protocol.adjacent(32), (3, 16, 16), conductivity=conductivity)
    x = torch.stack([torch.full((16, 16), v) for v in (0.5, 0.25, -1.0)])
    operator.draw_x(ax, x)
    assert np.nanmax(image(ax)) == 0.5
    assert [text.get_text() for text in ax.texts] == ["0.25, -1"]


@pytest.mark.parametrize("scale", [1.0, 1.1])
def test_masks_of_both_kinds_make_one_image(ax, scale):
    operator = electrical(Protocol.adjacent(32), (3, 16, 16), conductivity=Inclusions())
    operator = operator.scaled(scale)
    x = torch.zeros(3, 16, 16)
    x[0, 5:7, 5:7], x[1, 9:11, 9:11], x[2] = 0.5, 1.0, 0.05
    drawn = operator.draw_x(ax, x, min=0.0, max=0.7)
    assert (image(ax)[5, 5], image(ax)[9, 9], image(ax)[7, 7]) == (-0.5, 1.0, 0.0)
    assert drawn.get_clim() == (-1, 1) and drawn.get_cmap().name == "coolwarm"
    assert [text.get_text() for text in ax.texts] == ["0.05"]


def test_standard_deviations_of_masks_are_the_larger_of_both(ax):
    operator = electrical(Protocol.adjacent(32), (3, 16, 16), conductivity=Inclusions())
    x = torch.zeros(3, 16, 16)
    x[0, 5, 5], x[1, 5, 5], x[1, 9, 9] = 0.5, 0.2, 0.3
    drawn = operator.draw_x(ax, x, min=0.0, max=0.6, cmap="magma")
    assert np.allclose((image(ax)[5, 5], image(ax)[9, 9]), (0.5, 0.3))
    assert drawn.get_clim() == (0, 0.6) and drawn.get_cmap().name == "magma"


def test_voltages_are_a_matrix_above_the_reference(ax):
    protocol = Protocol.adjacent(32, drop_driven=True)
    reference = electrical(protocol).A(torch.ones(1, 1, 16, 16))[0]
    operator = electrical(protocol, reference=reference, background=1.0)
    y = reference + torch.linspace(-1, 1, len(reference))
    operator.draw_y(ax, y)
    shown = image(ax)
    assert shown.shape == (32, 32)
    assert np.array_equal(np.isnan(shown), ~protocol.mask)
    assert np.allclose(shown[protocol.mask], np.linspace(-1, 1, len(y)), atol=1e-6)
    assert ax.get_ylabel() == "injection"
