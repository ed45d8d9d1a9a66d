"""Tables and the picture of benchmarks/charts.py."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from benchmarks.charts_parts.designs import DESIGNS, PAPER
from benchmarks.charts_parts.training import TASKS, Result, Trainer, one_chart_atlas, step_cost

HEAD = (
    "| | design | parameters | ms a step | steps | ms D(z), J | PSNR | of range | relative error "
    "| E(D(z)) - z |\n| --- | --- " + "| ---: " * 8 + "|"
)


def row(label: str, result: Result) -> str:
    """One design as a line of a markdown table."""
    return (
        f"| {label} | {DESIGNS[label].about} | {result.parameters / 1e6:.2f} M "
        f"| {result.step_ms:.0f} | {result.steps} | {result.jacobian_ms:.0f} | {result.psnr:.1f} "
        f"| {result.psnr_range:.1f} | {result.relative_error:.4f} | {result.inverse:.0e} |"
    )


def print_costs() -> None:
    """Processor time of a step with and without what promises to make it cheaper; of the paper's network."""
    task = TASKS["two-balls"]
    print("\nProcessor ms a training step, one chart, one thread, two-balls\n")
    print("| design | batch | float32 | bfloat16 |\n| --- | ---: | ---: | ---: |")
    for label in ("A", "A-plain", "A-small", "C", "D"):
        single, half = (
            step_cost(DESIGNS[label], task, batch=32, half=half, repeats=5)
            for half in (False, True)
        )
        print(f"| {label} | 32 | {single:.0f} | {half:.0f} |", flush=True)
    for batch in (32, 128):
        single, half = (
            step_cost(PAPER, task, batch=batch, half=half, repeats=1) for half in (False, True)
        )
        print(f"| {PAPER.about} | {batch} | {single:.0f} | {half:.0f} |", flush=True)
    print_variations()


def print_variations() -> None:
    """The recipe's chart: memory format and compilation."""
    task, rate = TASKS["two-balls"], DESIGNS["A"].rate
    print("\n| A, batch 32, bfloat16 | ms a step |\n| --- | ---: |")
    atlas = one_chart_atlas(DESIGNS["A"], task, 0)
    cost = Trainer(atlas, task.data, rate, 32, True, 0).cost()
    print(f"| channels last (as shipped) | {cost:.0f} |")
    atlas.to(memory_format=torch.contiguous_format)
    cost = Trainer(atlas, task.data, rate, 32, True, 0).cost()
    print(f"| channels first | {cost:.0f} |", flush=True)
    if shutil.which("c++") is None:
        print("| torch.compile | needs a C++ compiler |")
        return
    atlas = one_chart_atlas(DESIGNS["A"], task, 0)
    chart, _ = atlas.pair(0)
    for network in (*chart.to_image, *chart.to_code):
        network.compile()
    trainer = Trainer(atlas, task.data, rate, 32, True, 0)
    began = time.process_time()
    trainer.step(0.5)
    first = time.process_time() - began
    print(f"| torch.compile (first step {first:.0f} s) | {trainer.cost():.0f} |", flush=True)


def draw(results: dict[str, Result], file: Path) -> None:
    """PSNR against processor seconds of each design, a panel for each data set.

    Args:
        results: keys are "data design".
        file: the PNG.
    """
    names = [name for name in TASKS if any(key.startswith(f"{name} ") for key in results)]
    figure, panels = plt.subplots(
        1, len(names), figsize=(1.5 + 5 * len(names), 4.6), squeeze=False, layout="constrained"
    )
    colours = dict(zip(DESIGNS, plt.get_cmap("tab20").colors, strict=False))  # type: ignore[attr-defined]
    for panel, name in zip(panels[0], names, strict=True):
        for label, design in DESIGNS.items():
            if (result := results.get(f"{name} {label}")) is None:
                continue
            course = [*result.course, (result.seconds, result.psnr)]
            seconds, psnr = zip(*course, strict=True)
            ours = label.startswith("A")
            panel.plot(
                seconds,
                psnr,
                color=colours[label],
                linestyle="-" if ours else "--",
                marker="o" if ours else "s",
                markersize=4,
                label=f"{label}: {design.about}",
            )
        panel.set(title=f"{name}, d = {TASKS[name].dim}", xlabel="processor seconds of training")
        panel.grid(alpha=0.3)
    panels[0, 0].set_ylabel("median PSNR of D(E(x)), peak 1, in dB")
    lines = {line.get_label(): line for panel in panels[0] for line in panel.get_lines()}
    figure.legend(
        lines.values(), lines.keys(), loc="outside lower center", ncols=2, fontsize="small"
    )
    figure.savefig(file, dpi=110)
    plt.close(figure)
