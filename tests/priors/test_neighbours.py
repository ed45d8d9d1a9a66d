"""The graph of nearest neighbours."""

import pytest
import torch

from onmanifold.priors import neighbours
from onmanifold.priors.neighbours import check_different, nearest_neighbours


@pytest.mark.parametrize("far", [0.0, 1e4])
def test_graph_equals_brute_force(far, monkeypatch):
    monkeypatch.setattr(neighbours, "CHUNK", 30)
    x = (far + torch.randn((100, 1, 2, 3), generator=torch.Generator().manual_seed(0))).double()
    distances, found = nearest_neighbours(x, 7)
    distance = (x[:, None] - x).flatten(2).norm(dim=2)
    for i in range(100):
        order = [j for j in distance[i].argsort().tolist() if j != i]
        assert found[i].tolist() == order[:7]
        torch.testing.assert_close(distances[i], distance[i, order[:7]])


@pytest.mark.slow
def test_graph_of_many_is_nearly_exact(monkeypatch):
    x = torch.randn((1000, 8), generator=torch.Generator().manual_seed(0))
    exact = nearest_neighbours(x, 5)[1]
    monkeypatch.setattr(neighbours, "EXACT", 500)
    found = nearest_neighbours(x, 5)[1]
    assert found.shape == (1000, 5) and torch.equal(found, nearest_neighbours(x, 5)[1])
    assert not (found == torch.arange(1000)[:, None]).any()
    assert (found[:, :, None] == exact[:, None]).any(dim=2).float().mean() > 0.95


def test_bad_input_is_named():
    x = torch.randn((10, 2), generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="loss: k has to be below the number of examples, 10"):
        nearest_neighbours(x, 10, name="loss: k")
    with pytest.raises(ValueError, match="at least 1"):
        nearest_neighbours(x, 0)
    x[3] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        nearest_neighbours(x, 2)
    x[3] = x[7]
    with pytest.raises(ValueError, match=r"2 of 10 examples repeat others \(such as 3 and 7\)"):
        check_different(*nearest_neighbours(x, 2))
