"""One training loop for all designs, over a budget of processor seconds, and what is measured after it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.charts_parts.designs import Design
from onmanifold.geometry import decode_with_jacobian
from onmanifold.plugins import load_dataset
from onmanifold.prior import Point
from onmanifold.priors.atlas.atlas import Atlas, AtlasConfig
from onmanifold.priors.datasets import Dataset, stream


@dataclass(frozen=True)
class Task:
    """A data set, with the latent dimension and the latent density of its recipe.

    Attributes:
        data: the pictures.
        dim: latent dimension d.
        steepness: of the latent density.
        layers: of the latent flow.
        share: of the budget; a circle of pictures is learned sooner.
    """

    data: Dataset
    dim: int
    steepness: float
    layers: int
    share: float = 1.0


TASKS = {
    "two-balls": Task(load_dataset("two-balls"), 6, 100.0, 2),
    "bar": Task(load_dataset("bar"), 1, 10000.0, 1, share=0.4),
}


@dataclass(frozen=True)
class Result:
    """What became of one design.

    Attributes:
        seconds: processor time that it was trained.
        parameters: number of parameters of the chart.
        step_ms: processor time of one training step, data included, in ms.
        jacobian_ms: processor time of D(z) and its Jacobian at one z, in ms.
        steps: steps that the budget allowed.
        psnr: median over held-out pictures of the PSNR of D(E(x)), peak 1, in dB.
        psnr_range: the same with the range of the data as peak.
        relative_error: median of ``|D(E(x)) - x| / |x|``.
        inverse: largest ``|E(D(z)) - z|``, 200 samples, float32.
        course: processor seconds and ``psnr`` on the way.
    """

    seconds: float
    parameters: int
    step_ms: float
    jacobian_ms: float
    steps: int
    psnr: float
    psnr_range: float
    relative_error: float
    inverse: float
    course: list[tuple[float, float]]


def one_chart_atlas(design: Design, task: Task, seed: int) -> Atlas:
    """The atlas of one chart of a design, with random weights."""
    torch.manual_seed(seed)
    small = {"options": {"channels": [8], "patch": 8, "hidden": 8}}  # the design takes its place
    config = AtlasConfig(
        x_shape=task.data.x_shape,
        dim=task.dim,
        charts=1,
        sigma_x=0.1,
        sigma_z=0.01,
        steepness=task.steepness,
        flow={"layers": task.layers},
        chart=small,
    )
    atlas = Atlas(config)
    atlas.charts[0] = design.build(task.dim)
    return atlas


class Trainer:
    """Adam on the evidence bound of one chart, as the recipes train it.

    Args:
        atlas: an atlas of one chart.
        data: the manifold that it learns.
        rate: largest learning rate.
        batch: pictures a step.
        half: compute in bfloat16 where that is safe, as the recipes do.
        seed: seed of data and noise.
    """

    def __init__(
        self, atlas: Atlas, data: Dataset, rate: float, batch: int, half: bool, seed: int
    ) -> None:
        self.atlas, self.data, self.rate, self.batch = atlas, data, rate, batch
        self.half, self.seed, self.steps = half, seed, 0
        self.optimizer = torch.optim.Adam(atlas.parameters(), lr=rate)

    def step(self, progress: float) -> None:
        """One step; ``progress`` is the spent share of the budget: warm-up, then a cosine."""
        generator = stream(self.seed, "train", self.steps)
        x, _ = self.data.sample(self.batch, generator)
        noise = torch.randn((self.batch, self.atlas.dim), generator=generator)
        for group in self.optimizer.param_groups:
            cosine = 0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2
            group["lr"] = self.rate * min(1.0, progress / 0.02 + 1e-3) * cosine
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            loss = self.atlas.energy(x, 0, noise).mean()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.atlas.parameters(), 1.0)
        self.optimizer.step()
        self.steps += 1

    def cost(self, repeats: int = 5) -> float:
        """Median processor time of a step after one to warm up, in ms."""
        times = []
        for _ in range(repeats + 1):
            began = time.process_time()
            self.step(0.5)
            times.append(time.process_time() - began)
        return 1000 * sorted(times[1:])[repeats // 2]

    def run(self, seconds: float, watch: Callable[[float], None], every: float) -> None:
        """Train for ``seconds`` of processor time; ``watch`` is called about ``every`` seconds, unbilled."""
        spent, told = 0.0, 0.0
        while spent < seconds:
            began = time.process_time()
            self.step(spent / seconds)
            spent += time.process_time() - began
            if spent - told >= every:
                told = spent
                watch(spent)


def compare(
    design: Design, task: Task, *, seconds: float, batch: int, half: bool, seed: int
) -> Result:
    """Train one design for a budget of processor seconds, and measure it."""
    atlas = one_chart_atlas(design, task, seed)
    trainer = Trainer(atlas, task.data, design.rate, batch, half, seed)
    few, _ = task.data.sample(100, stream(seed, "validation"))
    course: list[tuple[float, float]] = []

    def watch(spent: float) -> None:
        course.append((spent, _psnr(atlas, few, 1.0)))

    trainer.run(seconds, watch, seconds / 12)
    x, _ = task.data.sample(1000, stream(seed, "held-out"))
    span = float(x.max() - x.min())
    errors = reconstruction_errors(atlas, x)
    psnr = _psnr(atlas, x, 1.0)
    return Result(
        seconds=seconds,
        parameters=sum(p.numel() for p in atlas.charts[0].parameters()),
        step_ms=1000 * seconds / trainer.steps,
        jacobian_ms=jacobian_cost(atlas),
        steps=trainer.steps,
        psnr=psnr,
        psnr_range=psnr + 20 * math.log10(span),
        relative_error=float((errors / x.flatten(1).norm(dim=1)).median()),
        inverse=inverse_error(atlas),
        course=course,
    )


@torch.no_grad()
def reconstruction_errors(atlas: Atlas, x: Tensor) -> Tensor:
    """``|D(E(x)) - x|`` with E(x) clamped to the latent box, ``(B,)``."""
    errors = []
    for part in x.split(100):
        z = atlas.encode_chart(part, 0).clamp(-atlas.box, atlas.box)
        errors.append((atlas.decode_chart(z, 0) - part).flatten(1).norm(dim=1))
    return torch.cat(errors)


def _psnr(atlas: Atlas, x: Tensor, peak: float) -> float:
    """Median PSNR over pictures, in dB."""
    error = float(reconstruction_errors(atlas, x).median())
    return 20 * math.log10(peak * math.sqrt(x[0].numel()) / error)


@torch.no_grad()
def inverse_error(atlas: Atlas) -> float:
    """Largest ``|E(D(z)) - z|`` over 200 samples of the atlas."""
    z = atlas.sample(200, 0).z
    return float((atlas.encode_chart(atlas.decode_chart(z, 0), 0) - z).abs().max())


def jacobian_cost(atlas: Atlas, repeats: int = 5) -> float:
    """Smallest processor time of D(z) with its Jacobian at one z, in ms: what a solver pays a step."""
    point = Point(torch.zeros(1, dtype=torch.long), atlas.sample(1, 0).z)

    def once() -> float:
        began = time.process_time()
        with torch.no_grad():
            decode_with_jacobian(atlas, point)
        return time.process_time() - began

    once()  # the first call of a process compiles
    return 1000 * min(once() for _ in range(repeats))


def step_cost(
    design: Design, task: Task, *, batch: int, half: bool, repeats: int, seed: int = 0
) -> float:
    """Median processor time of one training step, in ms."""
    atlas = one_chart_atlas(design, task, seed)
    return Trainer(atlas, task.data, design.rate, batch, half, seed).cost(repeats)
