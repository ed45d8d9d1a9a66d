"""Derivatives in directions that move few cells, many, or all, against the dense derivative."""

import pytest
import torch
from scipy.sparse import csr_array

from onmanifold.operators.eit import EIT, Inclusions, Protocol, Tank
from onmanifold.operators.eit.fem.discretization import load_discretization
from onmanifold.operators.eit.fem.engine import Engine
from onmanifold.operators.eit.models.continuum import Continuum
from onmanifold.operators.eit.models.electrodes import CompleteElectrodes

DOUBLE = torch.float64


def engine_of(model):
    if model == "electrodes":
        equations = CompleteElectrodes(Tank.unit().impedances, Protocol.adjacent(32))
    else:
        equations = Continuum.walsh(8, 24)
    return Engine(load_discretization("coarse", Tank.unit()), equations)


def some_directions(cells, wide):
    """Three that move a few cells each, one of which moves none, and some that move nearly all."""
    source = torch.Generator().manual_seed(1)
    ds = torch.zeros(3 + wide, cells, dtype=DOUBLE)
    for t, count in ((0, 400), (1, 3)):
        ds[t, torch.randperm(cells, generator=source)[:count]] = 1.0 + t
    ds[3:] = torch.randn(wide, cells, generator=source, dtype=DOUBLE)
    return ds


@pytest.mark.parametrize("wide", [0, 2, 9])
@pytest.mark.parametrize("model", ["electrodes", "continuum"])
def test_directions_have_the_derivatives_that_the_whole_matrix_says(model, wide):
    engine = engine_of(model)
    source = torch.Generator().manual_seed(0)
    s = torch.rand(1, engine.cells, generator=source, dtype=DOUBLE) + 0.5
    field = engine.fields(s)[0]
    ds = some_directions(engine.cells, wide)
    expected = torch.einsum("...c,tc->t...", engine.jacobian(field), ds)
    scale = float(expected.abs().max())
    for given in (ds, csr_array(ds.numpy())):
        found = engine.jvp(field, given)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11 * scale)
    assert (engine.jvp(field, ds)[2] == 0).all()
    single = engine.jvp(field, ds.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, rtol=1e-3, atol=1e-5 * scale)


def test_tangents_of_masks_with_soft_edges_are_those_of_all_cells():
    """What is below a direction's rounding is left out; the drift moves all cells."""
    eit = EIT(
        Tank.unit(), Protocol.adjacent(32), (3, 48, 48), conductivity=Inclusions(), mesh="coarse"
    )
    pixels = (torch.arange(48, dtype=torch.float32) + 0.5) / 24 - 1
    away = torch.hypot(pixels[:, None] - 0.2, pixels + 0.1)
    x = torch.zeros(1, 3, 48, 48)
    x[0, 0] = torch.sigmoid((0.3 - away) * 40)
    tangents = torch.zeros(1, 3, 3, 48, 48)
    tangents[0, 0, 0] = x[0, 0] * (1 - x[0, 0])
    tangents[0, 1, 1] = tangents[0, 0, 0] * pixels
    tangents[0, 2, 2] = 1.0
    lin = eit.linearize(x)
    found = lin.jvp(tangents)[0].double()
    whole = lin.jacobian()[0].double().flatten(-3)
    expected = torch.einsum("...x,tx->t...", whole, tangents[0].flatten(1).double())
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() < 1e-5 * other.norm()
