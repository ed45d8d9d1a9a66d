"""One training loop for all designs, over a budget of processor seconds, and what is measured after it."""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from onmanifold import Point, load_dataset
from onmanifold.geometry import decode_with_jacobian
from onmanifold.priors.atlas.atlas import Atlas, AtlasConfig
from onmanifold.priors.datasets import Dataset, stream
from shared.timing import milliseconds, seconds_of


class Task(NamedTuple):
    """A data set, with the latent dimension and the latent density of its recipe."""

    data: Dataset
    dim: int
    steepness: float
    layers: int  # of the latent flow
    share: float = 1.0  # of the budget; a circle of images is learned sooner


TASKS = {
    "two-balls": Task(load_dataset("two-balls"), 6, 100.0, 2),
    "bar": Task(load_dataset("bar"), 1, 10000.0, 1, share=0.4),
}


class Design(NamedTuple):
    """One architecture."""

    about: str
    build: Callable[[int], nn.Module]  # the chart, with random weights, of a latent dimension
    rate: float  # largest learning rate


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


class ChartTrainer:
    """Adam on the evidence bound of one chart, as the recipes train it.

    Args:
        atlas: an atlas of one chart.
        data: the manifold that it learns.
        rate: largest learning rate.
        batch: images a step.
        half: compute in bfloat16 where that is safe, as the recipes do.
        seed: seed of data and noise.
    """

    def __init__(
        self, atlas: Atlas, data: Dataset, rate: float, batch: int, half: bool, seed: int
    ) -> None:
        self.atlas, self.data, self.rate, self.batch = atlas, data, rate, batch
        self.half, self.seed, self.steps = half, seed, 0
        self.optimizer = torch.optim.Adam(atlas.parameters(), lr=rate)

    def step(self, progress: float = 0.5) -> None:
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

    def run(self, seconds: float, watch: Callable[[float], None], every: float) -> None:
        """Train for ``seconds`` of processor time; ``watch`` is called about ``every`` seconds, unbilled."""
        spent, watched = 0.0, 0.0
        while spent < seconds:
            spent += seconds_of(partial(self.step, spent / seconds), time.process_time)
            if spent - watched >= every:
                watched = spent
                watch(spent)

    def cost(self, repeats: int = 5) -> float:
        """Median processor time of a step, in ms."""
        return milliseconds(self.step, repeats, time.process_time)


def measure(design: Design, task: Task, seconds: float, seed: int) -> dict[str, Any]:
    """Train one design for a budget of processor seconds, and measure it.

    Returns:
        ``ms a step`` (data included), ``ms D(z), J`` at one z; ``PSNR`` of D(E(x)), peak 1, in dB, and
        ``relative error`` of 1000 held-out images, medians; the largest ``E(D(z)) - z`` of 200 samples;
        ``course``: processor seconds and PSNR of 100 other images during training.
    """
    atlas = one_chart_atlas(design, task, seed)
    trainer = ChartTrainer(atlas, task.data, design.rate, 32, True, seed)
    few, _ = task.data.sample(100, stream(seed, "validation"))
    course: list[tuple[float, float]] = []
    trainer.run(seconds, lambda spent: course.append((spent, _psnr(atlas, few))), seconds / 12)
    x, _ = task.data.sample(1000, stream(seed, "held-out"))
    relative = _errors(atlas, x) / x.flatten(1).norm(dim=1)
    psnr, z = _psnr(atlas, x), atlas.sample(200, 0).z
    with torch.no_grad():
        inverse = (atlas.encode_chart(atlas.decode_chart(z, 0), 0) - z).abs().max()
        at = Point(torch.zeros(1, dtype=torch.long), z[:1])
        jacobian = milliseconds(lambda: decode_with_jacobian(atlas, at), 5, time.process_time)
    return {
        "seconds": seconds,
        "parameters": sum(p.numel() for p in atlas.charts[0].parameters()),
        "ms a step": 1000 * seconds / trainer.steps,
        "ms D(z), J": jacobian,
        "PSNR": psnr,
        "relative error": float(relative.median()),
        "E(D(z)) - z": float(inverse),
        "course": [*course, (seconds, psnr)],
    }


@torch.no_grad()
def _errors(atlas: Atlas, x: Tensor) -> Tensor:
    """``|D(E(x)) - x|`` with E(x) clamped to the latent box, ``(B,)``."""
    errors = []
    for part in x.split(100):
        z = atlas.encode_chart(part, 0).clamp(-atlas.box, atlas.box)
        errors.append((atlas.decode_chart(z, 0) - part).flatten(1).norm(dim=1))
    return torch.cat(errors)


def _psnr(atlas: Atlas, x: Tensor) -> float:
    """Median PSNR over images, peak 1, in dB."""
    return 20 * math.log10(math.sqrt(x[0].numel()) / float(_errors(atlas, x).median()))
