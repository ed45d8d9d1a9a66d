"""Neighbourhood reconstruction on toys: ``python benchmarks/nrae_toys.py [--seeds 20] [--only sine]``.

After the figures of Lee, Kwon and Park, NeurIPS 2021. On each toy AE, NRAE-L and NRAE-Q get the same data,
the same initial networks, and the same number of steps; a seed fixes all three.

* sine: 50 noisy points. Distance of the learned curve to the true one, mean over the learned curve's length
  between the outermost codes of the examples, and of the true curve to the learned one; seeds whose learned
  curve is nearer to the true one than AE's.
* spiral: points of neighbouring arms. Rank correlation (Spearman, absolute) of code and arc parameter at 1000
  points along the noise-free curve; the order is correct where it is at least 0.99.
* rotated digit: rank correlation of code and angle at the 100 images.

The networks are tiny, so a step of one run is all overhead. Hence no training loop of lightning: all seeds
take their steps at once, by ``torch.func`` with weights stacked over seeds. Batches, losses and Adam are
those of the methods; gradients are not clipped. Settings were chosen on the seeds from 0 on; ``--first 20``
takes others.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import typer
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from onmanifold.priors.autoencoder import Autoencoder, AutoencoderConfig
from onmanifold.priors.autoencoder.loss import (
    AutoencoderSchedule,
    AutoencoderTraining,
    LossOptions,
)
from onmanifold.priors.baselines.losses import AE
from onmanifold.priors.datasets import Sine, Spiral
from onmanifold.priors.datasets.rotated_digit import RotatedDigit
from onmanifold.priors.nrae import NRAEL, NRAEQ, NRAEOptions
from onmanifold.priors.training.method import cosine_rate
from shared.options import one_of
from shared.tables import Table

ORDERED = 0.99  # rank correlation from which on an order is correct


class Toy(NamedTuple):
    """A data set, and what every method gets to learn it."""

    data: Callable[[int], Any]  # from a seed
    figures: Callable[[AutoencoderTraining], tuple[float, ...]]  # of a trained method
    titles: tuple[str, ...]  # of these figures
    linear: tuple[int, float]  # neighbours and kernel of NRAE-L, of which a step draws two
    quadratic: tuple[int, float]  # the same of NRAE-Q
    hidden: int  # width of the dense networks
    depth: int  # number of their hidden layers
    steps: int  # of Adam, with 32 examples each
    rate: float  # largest learning rate

    @property
    def methods(self) -> dict[str, tuple[type[AutoencoderTraining], Any]]:
        """Name, class and options of the methods that are compared."""
        return {
            "ae": (AE, LossOptions()),
            "nrae-l": (NRAEL, NRAEOptions(*self.linear, drawn=2)),
            "nrae-q": (NRAEQ, NRAEOptions(*self.quadratic, drawn=2)),
        }


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
    weights, buffers = stack_module_state(losses)
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
    network = {"hidden": toy.hidden, "depth": toy.depth}
    methods = []
    for seed in seeds:
        data = toy.data(seed)
        torch.manual_seed(seed)
        model = Autoencoder(AutoencoderConfig(data.x_shape, 1, options=network))
        schedule = AutoencoderSchedule(batch_size=32, length=toy.steps)
        methods.append(kind(model, data, schedule, options, seed))
    train_together(methods, toy.steps, toy.rate)
    return methods


def curve_errors(method: AutoencoderTraining) -> tuple[float, float]:
    """Mean distance of the learned curve to the true one, and of the true one to the learned."""
    data: Any = method.data
    with torch.no_grad():  # from the smallest code of the examples to the largest
        z = method.model.encoder(method.examples)
        codes = torch.linspace(float(z.min()), float(z.max()), 2001)
        curve = method.model.decoder(codes[:, None])
    length = curve.diff(dim=0).norm(dim=1)
    off = data.distance((curve[1:] + curve[:-1]) / 2)
    true = data.points(torch.linspace(*data.ends, 500)[:, None])
    missed = torch.cdist(true, curve).amin(dim=1).mean()
    return float((off * length).sum() / length.sum()), float(missed)


@torch.no_grad()
def order(method: AutoencoderTraining, x: Tensor, coordinate: Tensor) -> tuple[float]:
    """Absolute rank correlation of the codes of ``x`` with their coordinate."""
    codes = method.model.encoder(x)
    return (abs(float(spearmanr(codes.squeeze(1), coordinate).statistic)),)


def spiral_order(method: AutoencoderTraining) -> tuple[float]:
    """:func:`order` along the noise-free curve."""
    data: Any = method.data
    coordinate = torch.linspace(*data.ends, 1000)
    return order(method, data.points(coordinate[:, None]), coordinate)


def digit_order(method: AutoencoderTraining) -> tuple[float]:
    """:func:`order` of the images."""
    part = method.data.part("train")
    return order(method, part.x, part.numbers)


ORDER = "rank correlation"
TOYS = {
    "sine": Toy(
        lambda seed: Sine(seed=seed),
        curve_errors,
        ("learned to true curve", "true to learned"),
        linear=(8, 0.5),
        quadratic=(15, 0.5),
        hidden=64,
        depth=2,
        steps=3000,
        rate=1e-2,
    ),
    "spiral": Toy(
        lambda seed: Spiral(seed=seed),
        spiral_order,
        (ORDER,),
        linear=(15, 2.0),
        quadratic=(10, 5.0),
        hidden=64,
        depth=3,
        steps=3000,
        rate=2e-2,
    ),
    "rotated": Toy(
        lambda seed: RotatedDigit(number=seed),
        digit_order,
        (ORDER,),
        linear=(6, 2.0),
        quadratic=(6, 2.0),
        hidden=64,
        depth=3,
        steps=1500,
        rate=1e-2,
    ),
}


def compare(name: str, toy: Toy, seeds: range) -> None:
    """Train every method and print medians, extremes, and on how many seeds it does as wanted."""
    print(f"\n{name}: {toy.depth} x {toy.hidden} hidden units, {toy.steps} steps, rate {toy.rate}")
    wanted = "in order" if ORDER in toy.titles else "nearer than AE"
    table = Table({"method": "<7"} | dict.fromkeys(toy.titles, "26") | {wanted: "", "s": ".0f"})
    of_ae: Tensor | None = None
    for method in toy.methods:
        began = time.perf_counter()
        found = torch.tensor([toy.figures(run) for run in trained(toy, method, seeds)])
        of_ae = found if of_ae is None else of_ae
        cells = [
            f"{column.median():.4f} ({column.min():.4f} to {column.max():.4f})"
            for column in found.unbind(dim=1)
        ]
        first = found[:, 0]
        hits = (first >= ORDERED) if ORDER in toy.titles else (first < of_ae[:, 0])
        table.row(method, *cells, f"{hits.sum()} of {len(seeds)}", time.perf_counter() - began)


ToyName = one_of(TOYS)


def main(seeds: int = 20, digits: int = 5, first: int = 0, only: ToyName | None = None) -> None:
    """Print the figures of every toy, or of one.

    With so many seeds of sine and spiral, and so many digits that move, from the first on.
    """
    for name in [only] if only else TOYS:
        n = seeds if name in ("sine", "spiral") else digits
        compare(name, TOYS[name], range(first, first + n))


if __name__ == "__main__":
    typer.run(main)
