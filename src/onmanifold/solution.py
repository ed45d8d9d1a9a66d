"""What comes out of a solve, and how it went."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from onmanifold.descent.problem import Problem
from onmanifold.in_kind import Result
from onmanifold.printing import MOST, Brief, Table
from onmanifold.prior import Point
from onmanifold.status import History, Status

if TYPE_CHECKING:
    from matplotlib.figure import Figure


UNLIKELY = 0.01  # p-value below which a measurement counts as inconsistent with the noise


class InconsistentWarning(UserWarning):
    """A measurement is inconsistent with the noise at every point of the manifold that was found."""


def consistency(p: float) -> tuple[str, str]:
    """A p-value as text, and what it says of the measurement.

    Example:
        >>> consistency(0.5), consistency(1e-9), consistency(float("nan"))
        (('0.5', 'yes'), ('<1e-4', 'no'), ('', 'unknown'))
    """
    if math.isnan(p):
        return "", "unknown"
    return "<1e-4" if p < 1e-4 else f"{p:.2g}", "no" if p < UNLIKELY else "yes"


@dataclass(frozen=True, repr=False)
class FinalPoints(Result, Brief):
    """The final points of all S descents of each measurement, the best first.

    Attributes:
        x: ``(B, S, *x_shape)``.
        chart: ``(B, S)``, integer.
        z: ``(B, S, d)``.
        objective: ``(B, S)``, ascending.
        status: a :class:`Status` code each, ``(B, S)``, integer.
    """

    x: Tensor
    chart: Tensor
    z: Tensor
    objective: Tensor
    status: Tensor


@dataclass(frozen=True, repr=False)
class Solution(Result):
    """Reconstructions of B measurements.

    It prints as a table of at most ten measurements, in a notebook, too; ``summary()`` lists all.

    Attributes:
        measurement: what was measured, ``(B, *y_shape)``.
        x: the reconstructions, ``(B, *x_shape)``.
        chart: the chart of each, ``(B,)``, integer.
        z: the latent coordinates, ``(B, d)``.
        objective: misfit plus weighted penalty, ``(B,)``.
        misfit: the fidelity's value alone, ``(B,)``.
        expected_misfit: what the misfit is on average at the truth, ``(B,)``.
        p_value: probability that noise alone makes a misfit at least as large, ``(B,)``; NaN where the
            fidelity does not say.
        status: why each descent ended, B of them.
        steps: steps attempted by the best descent, ``(B,)``, integer.
        operator_calls: evaluations of the operator, pool and all descents together, ``(B,)``,
            integer. What its examination before the first step takes, and how it shows the
            decoder's error, is not among them.
        linearizations: of these, how many came with a derivative, ``(B,)``, integer.
        seconds: wall time of the whole call.
        history: the best descent, step by step; the last one, where weight or noise were chosen in rounds.
        final_points: where every descent ended.
        trajectory: the best descent's ``x`` after each step, ``(T + 1, B, *x_shape)``, if asked
            for.
        least_squares: whether neither a fidelity nor a weight of the prior was given.
        noise_std: the noise's standard deviation where it was estimated, ``(B,)``.
        noise_gain: the gain of counts where it was estimated (:class:`EstimatedPoisson`), ``(B,)``.
        problem: what was minimized, with operator, prior and fidelity.
    """

    measurement: Tensor
    x: Tensor
    chart: Tensor
    z: Tensor
    objective: Tensor
    misfit: Tensor
    expected_misfit: Tensor
    p_value: Tensor
    status: tuple[Status, ...]
    steps: Tensor
    operator_calls: Tensor
    linearizations: Tensor
    seconds: float
    history: History
    final_points: FinalPoints
    trajectory: Tensor | None = None
    least_squares: bool = False
    noise_std: Tensor | None = None
    noise_gain: Tensor | None = None
    problem: Problem | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def point(self) -> Point:
        """Chart and latent coordinates of each reconstruction."""
        return Point(self.chart, self.z)

    @property
    def converged(self) -> Tensor:
        """Whether each descent ended where it was asked to, ``(B,)``, boolean."""
        return torch.tensor([s.converged for s in self.status], device=self.x.device)

    @property
    def reason(self) -> tuple[str, ...]:
        """Why each descent ended, in words."""
        return tuple(s.message for s in self.status)

    @property
    def consistent(self) -> Tensor:
        """Whether the misfit is consistent with the noise: ``p_value`` of at least 0.01, ``(B,)``, boolean.

        If not, the truth lies off the manifold, the noise is larger than stated, the operator is wrong, or
        no descent reached the right point. True where ``p_value`` is unknown.
        """
        return ~(self.p_value < UNLIKELY)

    @property
    def dropped(self) -> Tensor:
        """How many descents of each measurement ended with an objective that is not finite, ``(B,)``."""
        return (self.final_points.status == Status.NOT_FINITE).sum(dim=1)

    def spread(self, temperature: float = 1.0) -> Tensor:
        """Standard deviation of the final points, ``(B, *x_shape)``.

        A final point has the weight ``exp(-(objective - best) / temperature)``. At temperature 1 this is its
        posterior weight, if the fidelity states the true noise level. A higher temperature shows more
        points.
        """
        above = self.final_points.objective - self.final_points.objective[:, :1]
        weight = torch.exp(-torch.nan_to_num(above, nan=torch.inf) / temperature)
        weight = weight / weight.sum(1, keepdim=True)
        weight = weight.view(*weight.shape, *[1] * (self.x.ndim - 1))
        # a point without weight may be NaN
        x = torch.where(weight > 0, self.final_points.x, 0.0)
        mean = (weight * x).sum(1, keepdim=True)
        return (weight * (x - mean).square()).sum(1).sqrt()

    def select(self, rows: Tensor) -> Solution:
        """The reconstructions ``rows`` (an index), with their part of everything else."""
        history, final = self.history, self.final_points
        each = {name: getattr(self, name) for name in _EACH}
        each = {name: None if part is None else part[rows] for name, part in each.items()}
        return replace(
            self,
            **each,
            status=tuple(self.status[b] for b in rows.tolist()),
            history=_mapped(history, lambda steps: steps[:, rows]),
            final_points=_mapped(final, lambda points: points[rows]),
            trajectory=None if self.trajectory is None else self.trajectory[:, rows],
            problem=None if self.problem is None else self.problem.select(rows),
        )

    def __repr__(self) -> str:
        hint = ["summary() lists all"] if len(self) > MOST else []
        return "\n".join([self._title(), self._table().text(MOST), *hint])

    def _repr_html_(self) -> str:
        return self._table().html(self._title(), MOST)

    def summary(self) -> str:
        """A line for each measurement, and what its status means."""
        lines = [f"{status.name}: {status.message}" for status in dict.fromkeys(self.status)]
        lines += [
            f"measurement {b}: inconsistent with the noise, p = {self.p_value[b]:.2g}"
            for b in (~self.consistent).nonzero().flatten().tolist()
        ]
        lines += [
            f"measurement {b}: {count} of {self.final_points.status.shape[1]} starts were not finite"
            for b, count in enumerate(self.dropped.tolist())
            if count
        ]
        if self.noise_std is not None:
            lines.append("noise level estimated: no p-value, consistency unknown")
        if self.noise_gain is not None:
            gains = [f"{gain:.3g}" for gain in self.noise_gain.tolist()]
            lines.append(f"gain of counts estimated: {', '.join(gains)}")
        if self.least_squares:
            lines.append("no noise level given: least squares, the prior does not count")
        count = f"{int(self.converged.sum())} of {len(self)} converged in {self.seconds:.2f} s"
        return "\n".join([self._table().text(), *lines, count])

    def _title(self) -> str:
        doubtful = int((~self.consistent).sum())
        words = [f"x {tuple(self.x.shape[1:])}", f"{int(self.converged.sum())} converged"]
        words += [f"{doubtful} inconsistent with the noise"] * (doubtful > 0)
        number = f"{len(self)} measurement{'s' * (len(self) != 1)}"
        return f"Solution of {number}: {', '.join(words)}, {self.seconds:.2f} s"

    def _table(self) -> Table:
        names = ["", "objective", "misfit", "expected", "p-value", "consistent"]
        if self.noise_std is not None:
            names[4] = "noise std"
        numbers = zip(self.objective, self.misfit, self.expected_misfit, strict=True)
        rows = [
            [
                str(b),
                *(f"{float(value):.4g}" for value in values),
                *self._consistency(b),
                str(int(self.steps[b])),
                str(int(self.operator_calls[b])),
                self.status[b].name,
            ]
            for b, values in enumerate(numbers)
        ]
        return Table([*names, "steps", "calls", "status"], rows)

    def _consistency(self, b: int) -> tuple[str, str]:
        """The p-value, or the estimated noise level, which leaves none; and what it says."""
        p, said = consistency(float(self.p_value[b]))
        return (p if self.noise_std is None else f"{float(self.noise_std[b]):.3g}"), said

    def plot(self, truth: Tensor | None = None, std: Tensor | None = None, rows: int = 4) -> Figure:
        """Draw the reconstructions; see :func:`onmanifold.plot.plot_solution`."""
        from onmanifold.plot import plot_solution

        return plot_solution(self, truth, std, rows)

    def plot_convergence(self, measurements: Sequence[int] | None = None) -> Figure:
        """Draw the course of the descents; see :func:`onmanifold.plot.plot_convergence`."""
        from onmanifold.plot import plot_convergence

        return plot_convergence(self, measurements)

    def plot_path(
        self, measurement: int = 0, axes: tuple[int, int] = (0, 1), resolution: int = 41
    ) -> Figure:
        """Draw a descent in its charts; see :func:`onmanifold.plot.plot_path`."""
        from onmanifold.plot import plot_path

        return plot_path(self, measurement, axes, resolution)

    def animate(self, file: str | Path, measurement: int = 0, fps: int = 4) -> None:
        """Write a descent as a GIF; see :func:`onmanifold.plot.animate`."""
        from onmanifold.plot import animate

        animate(self, file, measurement, fps)

    def save(self, directory: str | Path) -> None:
        """Write everything but the problem; see :func:`onmanifold.archive.save_solution`."""
        from onmanifold.archive import save_solution

        save_solution(self, directory)

    @classmethod
    def load(cls, directory: str | Path, problem: Problem | None = None) -> Solution:
        """Read what :meth:`save` wrote; see :func:`onmanifold.archive.load_solution`."""
        from onmanifold.archive import load_solution

        return load_solution(directory, problem)


# fields with a row for each measurement
_EACH = (
    "measurement",
    "x",
    "chart",
    "z",
    "objective",
    "misfit",
    "expected_misfit",
    "p_value",
    "steps",
    "operator_calls",
    "linearizations",
    "noise_std",
    "noise_gain",
)


def _mapped[T](value: T, function: Callable[[Tensor], Tensor]) -> T:
    """A dataclass of tensors with the function applied to each."""
    parts = {f.name: getattr(value, f.name) for f in fields(value)}  # type: ignore[arg-type]
    made: dict[str, Any] = {
        name: None if part is None else function(part) for name, part in parts.items()
    }
    return type(value)(**made)
