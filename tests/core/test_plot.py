"""Pictures of solutions."""

import pytest
import torch
from analytic_priors import Circle, Sphere

from onmanifold import solve


class Pictures(Sphere):
    """Decodes to images of 4 x 4."""

    x_shape = (4, 4)

    def decode_chart(self, z, chart):
        axis = torch.linspace(-1, 1, 4, dtype=z.dtype)
        a, b = z[:, 0, None, None], z[:, 1, None, None]
        return torch.exp(-((axis - a) ** 2) - (axis[:, None] - b) ** 2)

    def encode_chart(self, x, chart):
        raise NotImplementedError


def test_a_row_for_each_measurement(tmp_path):
    y = torch.rand(3, 16, dtype=torch.float64)
    solution = solve(lambda x: x.flatten(1), y, Pictures())
    figure = solution.plot(rows=2)
    assert len(figure.axes) == 2 * 3
    figure = solution.plot(truth=y.view(3, 4, 4))
    assert len(figure.axes) == 3 * 4
    assert figure.axes[0].get_title() == "truth"
    figure.savefig(tmp_path / "solution.png")


def test_vectors_are_drawn_as_lines():
    solution = solve(lambda x: x, torch.ones(1, 2, dtype=torch.float64), Circle())
    figure = solution.plot()
    assert len(figure.axes[0].lines) == 1


def test_a_truth_of_another_shape_is_refused():
    solution = solve(lambda x: x, torch.ones(1, 2, dtype=torch.float64), Circle())
    with pytest.raises(ValueError, match="truth has shape"):
        solution.plot(truth=torch.ones(1, 3))
