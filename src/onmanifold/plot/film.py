"""A descent as an animation."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib.animation import PillowWriter
from matplotlib.figure import Figure

from onmanifold.checks import check_count
from onmanifold.errors import InputError
from onmanifold.in_kind import in_kind
from onmanifold.plot.drawing import limits
from onmanifold.plot.style import STYLE
from onmanifold.plot.views import check_index, last_step, views
from onmanifold.solution import Solution

_REST = 2  # seconds for which the last frame stays


@in_kind
@matplotlib.rc_context(STYLE)
def animate(solution: Solution, file: str | Path, measurement: int = 0, fps: int = 4) -> None:
    """Write a GIF of the winning descent: the reconstruction after each step, on one scale.

    Args:
        solution: made with ``solve(..., trajectory=True)``.
        file: what to write, ``.gif``; a file of this name is replaced.
        measurement: of which one, from 0.
        fps: steps in a second.

    Raises:
        ValueError: the trajectory was not kept, no such measurement, or another type of file.
        FileNotFoundError: the folder of ``file`` does not exist.

    Example:
        >>> import torch
        >>> from tempfile import TemporaryDirectory
        >>> from onmanifold import MaxSteps, load_prior, solve
        >>> ring = load_prior("ring")
        >>> solution = solve(lambda x: x, torch.ones(1, 2), ring, stop=MaxSteps(1), trajectory=True)
        >>> with TemporaryDirectory() as folder:
        ...     animate(solution, f"{folder}/ring.gif")
        ...     sorted(file.name for file in Path(folder).iterdir())
        ['ring.gif']
    """
    b, path = check_index(solution, measurement), Path(file)
    if solution.trajectory is None:
        raise InputError("the trajectory was not kept: solve(..., trajectory=True)")
    if path.suffix.lower() != ".gif":
        raise InputError(f"file has to end in .gif, got {path.name!r}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to")
    check_count(fps, "fps")
    steps = last_step(solution, b)
    view, x = views(solution)[0], solution.trajectory[: steps + 1, b]
    figure = Figure(figsize=(4.0, 4.0), layout="constrained")
    ax = figure.add_subplot(projection=view.projection)
    writer = PillowWriter(fps=fps)
    with writer.saving(figure, str(path), dpi=80):
        for t in [
            *range(steps + 1),
            *[steps] * (_REST * fps),
        ]:  # equal ones become one, longer
            ax.clear()
            view.draw(ax, x[t], **limits(x))
            objective = float(solution.history.objective[t, b])
            ax.set_title(f"step {t}, objective {objective:.4g}")
            writer.grab_frame()
