"""Neighbourhood reconstruction on toys: ``python benchmarks/nrae_toys.py [--seeds 20] [--only sine]``.

After the figures of Lee, Kwon and Park, NeurIPS 2021. On each toy AE, NRAE-L and NRAE-Q get the same data,
the same initial networks, and the same number of steps; a seed fixes all three.

* sine: 50 noisy points. Distance of the learned curve to the true one, mean over the learned curve's length
  between the outermost codes of the examples; and of the true curve to the learned one.
* spiral: points of neighbouring arms. Rank correlation (Spearman, absolute) of code and arc parameter at 1000
  points along the noise-free curve; the order is correct where it is at least 0.99.
* rotated and shifted digit: rank correlation of code and angle, or shift, at the 100 pictures; largest jump
  between pictures at 1000 equal steps from the smallest code to the largest, in units of the picture's norm.

* cost: processor time of a step (loss and gradient) against one of AE; digits, batches of 64, 32 codes.

The networks are tiny, so a step of one run is all overhead. Hence no training loop of lightning: all seeds
take their steps at once, by ``torch.func`` with weights stacked over seeds. Batches, losses and Adam are
those of the methods; gradients are not clipped. Settings were chosen on the seeds from 0 on; ``--first 20``
takes others.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from onmanifold.priors.autoencoder import Autoencoder, AutoencoderConfig
from onmanifold.priors.autoencoder.loss import (
    AutoencoderSchedule,
    AutoencoderTraining,
    NoOptions,
)
from onmanifold.priors.baselines.ae import AE
from onmanifold.priors.datasets import Sine, Spiral
from onmanifold.priors.datasets.rotated_digit import RotatedDigit
from onmanifold.priors.nrae import NRAEL, NRAEQ, NRAEOptions
from onmanifold.priors.training.method import cosine_rate

ORDERED = 0.99  # rank correlation from which on an order is correct


@dataclass(frozen=True)
class Toy:
    """A data set, and what every method gets to learn it.

    Attributes:
        data: from a seed.
        linear: neighbourhoods of NRAE-L.
        quadratic: neighbourhoods of NRAE-Q.
        hidden: width of the dense networks.
        depth: number of their hidden layers.
        steps: of Adam, with 32 examples each.
        rate: largest learning rate.
    """

    data: Callable[[int], Any]
    linear: NRAEOptions
    quadratic: NRAEOptions
    hidden: int
    depth: int
    steps: int
    rate: float

    @property
    def methods(self) -> dict[str, tuple[type[AutoencoderTraining], Any]]:
        """Name, class and options of the methods that are compared."""
        return {
            "ae": (AE, NoOptions()),
            "nrae-l": (NRAEL, self.linear),
            "nrae-q": (NRAEQ, self.quadratic),
        }


def around(neighbours: int, kernel: float) -> NRAEOptions:
    """So many neighbours, of which a step draws two."""
    return NRAEOptions(neighbours, kernel, drawn=2)


SINE = Toy(
    lambda seed: Sine(seed=seed),
    linear=around(8, 0.5),
    quadratic=around(15, 0.5),
    hidden=64,
    depth=2,
    steps=3000,
    rate=1e-2,
)
SPIRAL = Toy(
    lambda seed: Spiral(seed=seed),
    linear=around(15, 2.0),
    quadratic=around(10, 5.0),
    hidden=64,
    depth=3,
    steps=3000,
    rate=2e-2,
)
ROTATED = Toy(
    lambda seed: RotatedDigit(number=seed),
    linear=around(6, 2.0),
    quadratic=around(6, 2.0),
    hidden=64,
    depth=3,
    steps=1500,
    rate=1e-2,
)
SHIFTED = replace(ROTATED, data=lambda seed: RotatedDigit(turn=0.0, shift=8.0, number=seed))


class Loss(nn.Module):
    """A method's loss as a module, which is what torch.func can call with other weights."""

    def __init__(self, method: AutoencoderTraining) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.method.loss(batch)


def train_together(methods: Sequence[AutoencoderTraining], steps: int, rate: float) -> None:
    """Train runs of one method, alike but for their seeds, in place."""
    losses = [Loss(method) for method in methods]
    weights, buffers = stack_module_state(losses)  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(weights.values(), lr=rate, fused=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine_rate(step, steps))

    def of_one(weights: Any, buffers: Any, batch: Any) -> Any:
        return functional_call(losses[0], (weights, buffers), (batch,))

    for step in range(steps):
        drawn = [method.draw(step) for method in methods]
        batch = {name: torch.stack([each[name] for each in drawn]) for name in drawn[0]}
        optimizer.zero_grad()
        vmap(of_one)(weights, buffers, batch).sum().backward()
        optimizer.step()
        scheduler.step()
    with torch.no_grad():
        for i, loss in enumerate(losses):
            for name, parameter in loss.named_parameters():
                parameter.copy_(weights[name][i])


def trained(toy: Toy, name: str, seeds: range) -> list[AutoencoderTraining]:
    """The runs of a method on a toy, one for each seed."""
    kind, options = toy.methods[name]
    methods = []
    for seed in seeds:
        data = toy.data(seed)
        torch.manual_seed(seed)
        config = AutoencoderConfig(
            data.x_shape, 1, options={"hidden": toy.hidden, "depth": toy.depth}
        )
        schedule = AutoencoderSchedule(batch_size=32, length=toy.steps)
        methods.append(kind(Autoencoder(config), data, schedule, options, seed))
    train_together(methods, toy.steps, toy.rate)
    return methods


@torch.no_grad()
def walk(method: AutoencoderTraining, n: int) -> Tensor:
    """Decoded codes at ``n`` equal steps from the smallest of the examples to the largest."""
    z = method.model.encoder(method.examples)
    codes = torch.linspace(float(z.min()), float(z.max()), n + 1)
    walked: Tensor = method.model.decoder(codes[:, None])
    return walked


def curve_errors(method: AutoencoderTraining) -> tuple[float, float]:
    """Mean distance of the learned curve to the true one, and of the true one to the learned."""
    data: Any = method.data
    curve = walk(method, 2000)
    length = curve.diff(dim=0).norm(dim=1)
    off = data.distance((curve[1:] + curve[:-1]) / 2)
    true = data.points(torch.linspace(*data.ends, 500)[:, None])
    missed = torch.cdist(true, curve).amin(dim=1).mean()
    return float((off * length).sum() / length.sum()), float(missed)


@torch.no_grad()
def order(method: AutoencoderTraining, x: Tensor, coordinate: Tensor) -> float:
    """Absolute rank correlation of the codes of ``x`` with their coordinate."""
    codes = method.model.encoder(x)
    return abs(float(spearmanr(codes.squeeze(1), coordinate).statistic))


def spiral_order(method: AutoencoderTraining) -> tuple[float]:
    """:func:`order` along the noise-free curve."""
    data: Any = method.data
    coordinate = torch.linspace(*data.ends, 1000)
    return (order(method, data.points(coordinate[:, None]), coordinate),)


def digit_figures(method: AutoencoderTraining) -> tuple[float, float]:
    """:func:`order` of the pictures, and the largest jump along the walk."""
    data: Any = method.data
    part = data.part("train")
    jumps = walk(method, 1000).diff(dim=0).flatten(1).norm(dim=1)
    return order(method, part.x, part.numbers), float(jumps.max() / data.digit.norm())


def less_than_ae(found: Tensor, of_ae: Tensor) -> Tensor:
    """Seeds ``(S,)`` on which the learned curve is nearer to the true one than AE's."""
    return found[:, 0] < of_ae[:, 0]


def ordered(found: Tensor, of_ae: Tensor) -> Tensor:
    """Seeds ``(S,)`` on which the latent has the correct order."""
    return found[:, 0] >= ORDERED


def compare(
    toy: Toy,
    seeds: range,
    figures: Callable[[AutoencoderTraining], tuple[float, ...]],
    wanted: Callable[[Tensor, Tensor], Tensor],
) -> None:
    """Train every method and print medians, extremes, and how many seeds are as wanted."""
    print(f"{toy.depth} x {toy.hidden} hidden units, {toy.steps} steps, learning rate {toy.rate}")
    all_found: dict[str, Tensor] = {}
    for name, (_, options) in toy.methods.items():
        began = time.perf_counter()
        found = torch.tensor([figures(method) for method in trained(toy, name, seeds)])
        all_found[name] = found
        columns = [
            f"{column.median():.4f} ({column.min():.4f} to {column.max():.4f})"
            for column in found.unbind(dim=1)
        ]
        hits = int(wanted(found, all_found["ae"]).sum())
        spent = f"{time.perf_counter() - began:.0f} s"
        print(
            "  ",
            f"{name:7}",
            *columns,
            f"{hits} of {len(seeds)}",
            spent,
            options,
            sep="   ",
            flush=True,
        )


def step_time(method: AutoencoderTraining, repeats: int = 20) -> float:
    """Processor time of loss and gradient, in seconds: the least of several, on a machine that is shared."""
    times = []
    for step in range(repeats):
        batch = method.draw(step)
        began = time.process_time()
        method.loss(batch).backward()
        times.append(time.process_time() - began)
    return min(times)


def cost() -> None:
    """Print how long steps take, for both kinds of network."""
    conv = {"channels": [32, 16], "patch": 2, "hidden": 128, "groups": 8}
    for network, options in (("dense", {"hidden": 512, "depth": 3}), ("conv", conv)):
        seconds = {}
        for kind, drawn in ((AE, 0), (NRAEL, 1), (NRAEL, 4), (NRAEQ, 1), (NRAEQ, 4)):
            data = RotatedDigit()
            model = Autoencoder(AutoencoderConfig(data.x_shape, 32, network, options))
            numbers = NRAEOptions(5, 0.5, drawn) if drawn else NoOptions()
            method = kind(model, data, AutoencoderSchedule(batch_size=64), numbers, 0)
            seconds[f"{kind.__name__} {drawn}".removesuffix(" 0")] = step_time(method)
        ratios = [f"{name} {spent / seconds['AE']:.1f}" for name, spent in seconds.items()]
        print("  ", network, f"{1e3 * seconds['AE']:.0f} ms", *ratios, sep="   ", flush=True)


def main(seeds: range, digits: range, only: str | None) -> None:
    """Print the figures of every toy, or of one."""
    if only in (None, "sine"):
        print("\nsine: learned to true curve, true to learned, seeds below AE in the first")
        compare(SINE, seeds, curve_errors, less_than_ae)
    if only in (None, "spiral"):
        print("\nspiral: rank correlation, seeds in order")
        compare(SPIRAL, seeds, spiral_order, ordered)
    for title, toy in (("rotated", ROTATED), ("shifted", SHIFTED)):
        if only in (None, title):
            print(f"\n{title} digit: rank correlation, largest jump, digits in order")
            compare(toy, digits, digit_figures, ordered)
    if only in (None, "cost"):
        print("\ncost: time of AE, and times it that of each (with so many neighbours drawn)")
        cost()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="of sine and spiral")
    parser.add_argument("--digits", type=int, default=5, help="how many digits move")
    parser.add_argument("--first", type=int, default=0, help="the first seed, and digit")
    parser.add_argument("--only", choices=["sine", "spiral", "rotated", "shifted", "cost"])
    told = parser.parse_args()
    seeds, digits = (range(told.first, told.first + n) for n in (told.seeds, told.digits))
    main(seeds, digits, told.only)
