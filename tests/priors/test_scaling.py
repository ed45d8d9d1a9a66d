"""Classical scaling, where flat encoders start: codes of exact distances and of a graph's."""

import math

import pytest
import torch

from onmanifold.priors.datasets import RotatingObject, Sphere, Sundial, TorusDisk, stream
from onmanifold.priors.flat import GeodesicPairs, GraphPairs, Pairs, Scaling
from onmanifold.priors.flat.embedding import quotients


def codes_of(source, dim, n=400):
    scaling = Scaling(source.landmarks, dim)
    x, distance = source.draw_far(n, stream(0, "held-out"))
    return x, distance, scaling.place(distance)


@pytest.mark.parametrize(
    ("data", "dim", "radius"),
    [(TorusDisk(size=8), 4, math.sqrt(2)), (RotatingObject(size=8), 9, math.sqrt(1.5))],
)
def test_torus_and_rotations_have_their_known_embeddings(data, dim, radius):
    """Two unit circles; and matrices over sqrt 2, whose rows have length sqrt(1/2)."""
    _, distance, z = codes_of(GeodesicPairs(data, 0.5), dim)
    spread = torch.linalg.svdvals(z - z.mean(dim=0)) / len(z) ** 0.5
    assert spread[0] / spread[-1] < 1.35  # all directions alike, up to the landmarks' chance
    torch.testing.assert_close(z.norm(dim=1).mean(), torch.tensor(radius), rtol=0.1, atol=0)
    lengths = torch.cdist(z, z)
    assert lengths[~torch.eye(len(z), dtype=torch.bool)].min() > 0.02  # no two points in one
    assert distance.shape == (400, 500)


def test_sundial_keeps_distances():
    data = Sundial(size=8)
    source = GeodesicPairs(data, 0.5)
    scaling = Scaling(source.landmarks, 3)

    class Codes(torch.nn.Module):
        def forward(self, lights):
            return scaling.place(source._to_landmarks(lights))

    a, b = data.pairs(500, 0.5, stream(0, "held-out"))
    distance = data.distance_between(a, b)
    pairs = Pairs(a, b, data.average(a, b), distance, torch.full_like(distance, 0.5))
    p, _ = quotients(Codes(), pairs)
    assert ((p - 1).abs() < 0.2).double().mean() > 0.9


def test_paths_of_a_graph_are_nearly_geodesics():
    x, _ = Sphere(noise=0.0).sample(3000, stream(0, "train"))
    graph = GraphPairs(x, k=20)
    there, distance = graph.draw_far(300, stream(0, "held-out"))
    marks = x[torch.linspace(0, 2999, 500).long()]
    exact = (there @ marks.T).clamp(-1, 1).acos() / graph.unit
    far = exact > 0.5
    assert (distance[far] / exact[far] - 1).median().abs() < 0.05
    assert distance.min() >= 0
    assert (graph.landmarks.diagonal() == 0).all()
    torch.testing.assert_close(graph.landmarks, graph.landmarks.T)


def test_parts_without_a_path_are_far_apart():
    x, _ = Sphere(noise=0.0).sample(400, stream(0, "train"))
    graph = GraphPairs(torch.cat([x, x + 10]), k=12)
    assert torch.isfinite(graph.landmarks).all()
    across = graph.landmarks[:250, 250:]
    assert (across == graph.landmarks.max()).all()
    z = Scaling(graph.landmarks, 3).place(graph.landmarks)
    assert torch.isfinite(z).all()


def test_more_dimensions_than_the_distances_tell_stay_empty():
    x = torch.randn((30, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = Scaling(torch.cdist(x, x), dim=5).place(torch.cdist(x, x))
    assert z.shape == (30, 5) and (z[:, 2:].abs() < 1e-9).all()
    z = Scaling(torch.cdist(x, x), dim=40).place(torch.cdist(x, x))
    assert z.shape == (30, 40)
    torch.testing.assert_close(torch.cdist(z, z), torch.cdist(x, x))
