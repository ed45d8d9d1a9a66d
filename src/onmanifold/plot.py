"""Pictures of a solution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from onmanifold.solution import Solution


def plot_solution(solution: Solution, truth: Tensor | None = None, rows: int = 4) -> Figure:
    """Draw reconstruction, spread of the starts and course of the objective, a row a measurement.

    Args:
        solution: what to draw; images ``(H, W)`` or ``(C, H, W)`` and vectors can be drawn.
        truth: the true unknowns, ``(B, *x_shape)``, drawn first where given.
        rows: how many measurements to draw at most.

    Returns:
        The figure, not shown and not saved.
    """
    from matplotlib.figure import Figure

    if truth is not None and truth.shape != solution.x.shape:
        raise ValueError(
            f"truth has shape {tuple(truth.shape)}, the solution {tuple(solution.x.shape)}"
        )
    panels = {"truth": truth, "reconstruction": solution.x, "spread": solution.spread()}
    drawn = {title: values for title, values in panels.items() if values is not None}
    count = min(rows, len(solution))
    size = (3.0 * (len(drawn) + 1), 2.6 * count)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(count, len(drawn) + 1, squeeze=False)
    for b in range(count):
        for ax, (title, values) in zip(axes[b], drawn.items(), strict=False):
            limits = {} if title == "spread" else _limits((truth, solution.x), b)
            draw(ax, values[b], **limits)
            ax.set_title(title)
        course = axes[b, -1]
        course.plot(solution.history.objective[:, b].cpu())
        course.set(title=solution.status[b].name, xlabel="step", ylabel="objective")
    return figure


def draw(ax: Axes, x: Tensor, **limits: float) -> None:
    """Draw one unknown: an image ``(H, W)`` or ``(C, H, W)``, or a vector ``(n,)``."""
    values = x.detach().cpu()
    if values.ndim == 3 and values.shape[0] in (1, 3, 4):
        values = values[0] if values.shape[0] == 1 else values.movedim(0, -1)
    elif values.ndim not in (1, 2):
        raise ValueError(f"cannot draw an unknown of shape {tuple(values.shape)}")
    if values.ndim == 1:
        ax.plot(values.numpy(), marker="." if len(values) < 50 else "")
        return
    ax.imshow(values.numpy(), **({"cmap": "gray"} | _imshow_limits(limits)))
    ax.set_axis_off()


def _imshow_limits(limits: dict[str, float]) -> dict[str, Any]:
    return {f"v{name}": value for name, value in limits.items()}


def _limits(values: tuple[Tensor | None, ...], b: int) -> dict[str, float]:
    """One scale of grey for all panels of a row."""
    present = [v[b] for v in values if v is not None]
    return {
        "min": min(float(v.min()) for v in present),
        "max": max(float(v.max()) for v in present),
    }
