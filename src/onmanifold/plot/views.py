"""How the unknowns and the measurements of a solution are drawn.

An operator may say so itself, by methods ``draw_x(ax, x, **scale)`` and ``draw_y(ax, y, **scale)``
that draw one unknown or one measurement. ``scale`` holds what :func:`onmanifold.plot.draw` takes:
``min``, ``max``, ``cmap``; they return what a colour bar is made from, or ``None``. Attributes ``label_x``
and ``label_y``, such as ``"V"``, are written beside the colour bars.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from matplotlib.cm import ScalarMappable
from torch import Tensor

from onmanifold.checks import check_count
from onmanifold.errors import InputError
from onmanifold.evaluation_mode import computing
from onmanifold.operator import OutsideDomain
from onmanifold.plot.drawing import draw, limits
from onmanifold.plot.style import FAINT, INK, PALETTE
from onmanifold.solution import Solution

_CLOUD = 1000  # samples of the prior drawn around a point


class View:
    """Draws values by a function such as :func:`onmanifold.plot.draw`."""

    projection: str | None = None  # of the axes to draw on

    def __init__(
        self, function: Callable[..., ScalarMappable | None] = draw, label: str = ""
    ) -> None:
        self.draw = function
        self.label = label  # of its colour bars

    def draw_std(self, ax: Any, x: Tensor, std: Tensor) -> ScalarMappable | None:
        """Draw the standard deviation of ``x``."""
        most = limits(std).get("max") or 1.0
        return self.draw(ax, std, min=0.0, max=most, cmap="magma")


class PointView(View):
    """Draws points of the plane or of space before a cloud of others, ``(N, 2)`` or ``(N, 3)``."""

    def __init__(self, cloud: Tensor) -> None:
        super().__init__(self._draw_point)
        self.cloud = cloud.detach().cpu()
        self.projection = "3d" if cloud.shape[1] == 3 else None

    def draw_std(self, ax: Any, x: Tensor, std: Tensor) -> None:
        """The point, with a bar of one standard deviation either way along each axis."""
        self._draw_point(ax, x)
        ends = x + torch.stack([-std, std])[:, None] * torch.eye(len(x)).to(x)  # (2, n, n)
        for bar in ends.transpose(0, 1).detach().cpu():
            ax.plot(*bar.T.numpy(), color=PALETTE[1], linewidth=2, zorder=3)

    def _draw_point(self, ax: Any, x: Tensor, **scale: Any) -> None:
        ax.scatter(*self.cloud.T.numpy(), s=3, color=FAINT, linewidths=0)
        point = {"marker": "o", "color": PALETTE[1], "markeredgecolor": INK, "zorder": 3}
        ax.plot(*x.detach().cpu()[:, None].numpy(), **point)
        if self.projection is None:
            ax.set_aspect("equal", adjustable="datalim")
            return
        everything = torch.cat([self.cloud, x.detach().cpu()[None]])
        size = everything.amax(0) - everything.amin(0)
        ax.computed_zorder = False  # the point stays visible
        ax.set_box_aspect(torch.where(size > 0, size, 1.0).tolist(), zoom=1.5)
        ax.set_axis_off()


def views(solution: Solution) -> tuple[View, View]:
    """The views of unknowns and of measurements.

    An operator's own way of drawing comes first. Points of the plane or of space are drawn among samples of
    the prior, everything else as an image or a curve. The same holds for measurements; where unknowns and
    measurements are both points, the measured ones are drawn among predictions for the samples.
    """
    operator = None if solution.problem is None else solution.problem.operator
    own_x, own_y = getattr(operator, "draw_x", None), getattr(operator, "draw_y", None)
    x_view = View(own_x or draw, getattr(operator, "label_x", ""))
    y_view = View(own_y or draw, getattr(operator, "label_y", ""))
    if not _are_points(solution.x):
        return x_view, y_view
    samples = _samples(solution)
    if own_x is None:
        x_view = PointView(samples)
    if own_y is None and _are_points(solution.measurement):
        y_view = _view_of_images(solution, samples)
    return x_view, y_view


def _are_points(values: Tensor) -> bool:
    return values.ndim == 2 and values.shape[1] in (2, 3)


def _samples(solution: Solution) -> Tensor:
    """Samples of the prior; of a solution that does not know it, the reconstructions."""
    if solution.problem is None:
        return solution.x
    prior = solution.problem.prior
    with computing(prior):
        point = prior.sample(_CLOUD, 0)
        return prior.decode(point)


def _view_of_images(solution: Solution, samples: Tensor) -> View:
    """Measurements that are points, among the images of samples under the operator."""
    if solution.problem is None:
        return PointView(solution.measurement)
    try:
        with torch.no_grad():
            return PointView(solution.problem.operator.A(samples))
    except OutsideDomain:
        return View()


def present(solution: Solution) -> Tensor:
    """The measurements, NaN where nothing was measured: ``(B, *y_shape)``."""
    y = solution.measurement
    mask = None if solution.problem is None else getattr(solution.problem.fidelity, "mask", None)
    return y if mask is None else torch.where(mask, y, torch.nan)


def last_step(solution: Solution, b: int) -> int:
    """The last step of a descent, after which the history repeats itself."""
    return min(int(solution.steps[b]), len(solution.history.objective) - 1)


def check_index(solution: Solution, measurement: int) -> int:
    """Raise unless ``measurement`` is the number of one, from 0."""
    check_count(measurement, "measurement", at_least=0)
    if measurement >= len(solution):
        raise InputError(
            f"measurement has to be a number from 0 to {len(solution) - 1}, got {measurement}"
        )
    return measurement
