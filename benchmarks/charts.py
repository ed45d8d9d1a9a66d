"""Quality against cost of injective chart architectures: ``python benchmarks/charts.py``.

All are trained alike, as an atlas of one chart on 128 x 128 images, for the same processor seconds on one
thread; then they reconstruct 1000 held-out images. The paper's networks at full width are timed only.
"""

import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
import typer

from charts_parts.tiled import TiledChart
from charts_parts.training import TASKS, ChartTrainer, Design, measure, one_chart_atlas
from onmanifold.priors.atlas.chart import Chart
from onmanifold.priors.training.recipe import Recipe
from shared.options import one_of
from shared.records import Records
from shared.tables import Table
from shared.timing import seconds_of

X_SHAPE = (1, 128, 128)
BACKGROUND = 0.5  # of both data sets
COLUMNS = {
    "parameters": "",
    "ms a step": ".0f",
    "ms D(z), J": ".0f",
    "PSNR": ".1f",
    "relative error": ".4f",
    "E(D(z)) - z": ".0e",
}


def _recipe(name: str) -> Design:
    """The chart of a shipped recipe, with the recipe's learning rate."""
    recipe = Recipe.read(name)
    build = partial(Chart, x_shape=X_SHAPE, **recipe.model["chart"])
    return Design(f"two networks, recipe {name}", build, recipe.schedule["learning_rate"])


def _ours(dim: int, channels: list[int], groups: int = 8) -> Chart:
    options = {"channels": channels, "patch": 8, "hidden": 256, "groups": groups}
    return Chart(dim, X_SHAPE, options=options, scale=5.0, background=BACKGROUND)


def _papers(**options: Any) -> partial[TiledChart]:
    return partial(TiledChart, x_shape=X_SHAPE, background=BACKGROUND, **options)


REDUCED = {"base": 8, "couplings": 1, "dense": 128, "channels": 32}
FULL = {"base": 32, "couplings": 3, "dense": 64, "channels": 64}
LARGE, SMALL = [96, 64, 48], [48, 32, 24]
DESIGNS: dict[str, Design] = {
    "A": _recipe("two-balls"),
    "A-plain": Design("A without group norms", partial(_ours, channels=LARGE, groups=0), 2e-3),
    "A-small": Design("A, half the channels", partial(_ours, channels=SMALL), 4e-3),
    "A-small-plain": Design(
        "A-small without group norms", partial(_ours, channels=SMALL, groups=0), 2e-3
    ),
    "A-bar": _recipe("bar"),
    "C": Design("paper, reduced, Haar wavelets", _papers(**REDUCED, upsampling="haar"), 1e-3),
    "D": Design("paper, reduced, learned rotations", _papers(**REDUCED, upsampling=0), 1e-3),
}
PAPER = Design("paper, full width", _papers(**FULL, upsampling=4), 5e-4)


def print_costs() -> None:
    """Print the processor time of steps of the paper's network, and of A stored and compiled otherwise."""
    task, design = TASKS["two-balls"], DESIGNS["A"]

    def trainer(design: Design, half: bool = True) -> ChartTrainer:
        return ChartTrainer(one_chart_atlas(design, task, 0), task.data, design.rate, 32, half, 0)

    print("\nprocessor ms a training step, one chart, one thread, two-balls, batch 32")
    table = Table({"design": "<44", "ms": ".0f"})
    for precision, half in (("float32", False), ("bfloat16", True)):
        table.row(f"{PAPER.about}, {precision}", trainer(PAPER, half).cost(1))
    table.row("A, bfloat16, channels last (as shipped)", trainer(design).cost())
    first = trainer(design)
    first.atlas.to(memory_format=torch.contiguous_format)
    table.row("A, bfloat16, channels first", first.cost())
    if shutil.which("c++") is None:
        print("A, bfloat16, torch.compile: needs a C++ compiler")
        return
    compiled = trainer(design)
    chart, _ = compiled.atlas.pair(0)
    for network in (*chart.to_image, *chart.to_code):
        network.compile()
    warm_up = seconds_of(compiled.step, time.process_time)
    table.row(f"A, bfloat16, torch.compile ({warm_up:.0f} s first)", compiled.cost())


def draw(courses: dict[str, dict[str, list[tuple[float, float]]]], file: Path) -> None:
    """PSNR against processor seconds of each design, a panel for each data set."""
    import matplotlib.pyplot as plt

    size = (1.5 + 5 * len(courses), 4.6)
    figure, panels = plt.subplots(
        1, len(courses), figsize=size, squeeze=False, layout="constrained"
    )
    colours = dict(zip(DESIGNS, plt.get_cmap("tab20").colors, strict=False))
    for panel, (name, designs) in zip(panels[0], courses.items(), strict=True):
        for label, course in designs.items():
            style = {"linestyle": "-", "marker": "o"} if label[0] == "A" else {}
            style = {"linestyle": "--", "marker": "s", "markersize": 4} | style
            title = f"{label}: {DESIGNS[label].about}"
            panel.plot(*zip(*course, strict=True), color=colours[label], label=title, **style)
        panel.set(title=f"{name}, d = {TASKS[name].dim}", xlabel="processor seconds of training")
        panel.grid(alpha=0.3)
    panels[0, 0].set_ylabel("median PSNR of D(E(x)), peak 1, in dB")
    lines = {line.get_label(): line for panel in panels[0] for line in panel.get_lines()}
    where = {"loc": "outside lower center", "ncols": 2, "fontsize": "small"}
    figure.legend(lines.values(), lines.keys(), **where)
    figure.savefig(file, dpi=110)


DataName = one_of(TASKS)
DesignName = one_of(DESIGNS)


def main(
    seconds: float = 100.0,
    data: list[DataName] = tuple(DataName),
    designs: list[DesignName] = tuple(DesignName),
    seed: int = 0,
    costs: bool = True,
    figure: Path | None = None,
    results: Path | None = None,
) -> None:
    """Print a table for each data set, and one of costs; draw quality against seconds.

    Each design is trained for so much processor time, for the bar 40 % of it. Rows found in the file of
    results are not measured again.
    """
    torch.set_num_threads(1)
    records, courses = Records(results), dict[str, dict[str, Any]]()
    for name in data:
        budget = TASKS[name].share * seconds
        print(f"\n{name}, d = {TASKS[name].dim}, {budget:g} s a design")
        table, courses[name] = Table({"": "<13", "design": "<33"} | COLUMNS), {}
        for label in designs:
            key = f"{name}, {label}, {budget:g} s, seed {seed}"
            if key not in records:
                records.keep(key, measure(DESIGNS[label], TASKS[name], budget, seed))
            found = records[key] | {"parameters": f"{records[key]['parameters'] / 1e6:.2f} M"}
            table.row(label, DESIGNS[label].about, *(found[column] for column in COLUMNS))
            courses[name][label] = found["course"]
    if costs:
        print_costs()
    if figure:
        draw(courses, figure)


if __name__ == "__main__":
    typer.run(main)
