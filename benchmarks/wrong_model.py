"""Which images are found inconsistent with the noise: those off the manifold, or genuine ones, too?

Run ``python benchmarks/wrong_model.py [bars] [balls] [digits]``. ``bars``: blurred (40 x 40 pixels, standard
deviation 15), at several noise levels. ``balls``: pairs of balls from electrode voltages, noise 0.1 %.
``digits``: half of the pixels missing; clothes are off the manifold. Held-out images of the manifold and
others are measured and solved. *Excess* is the misfit beyond its mean, in its standard deviations, the
median. *Inconsistent* counts what ``solution.consistent`` rejects, and *score test* its p-values below 0.01.
*Covered* is the share of pixels within two of Laplace's standard deviations, nan without a mode. A decoder
does not draw genuine images exactly either: ``solve`` counts its error, as the prior knows it, as noise; with
``decoder_error=False`` it does not (*noise alone*).
"""

import warnings
from collections.abc import Callable
from functools import partial
from math import pi
from typing import Annotated

import torch
import typer
from torch import Tensor

from balls import NOISE, Balls
from bars import bar_blur
from onmanifold import (
    Gaussian,
    InconsistentWarning,
    InitialPoints,
    InputError,
    load_dataset,
    load_prior,
    score_test,
    simulate,
    solve,
)
from onmanifold.fidelity import Fidelity
from onmanifold.operator import ForwardOperator
from onmanifold.operators.mask import from_options as random_mask
from onmanifold.posterior import laplace
from onmanifold.prior import ManifoldPrior
from onmanifold.priors.datasets import Bar, stream
from onmanifold.priors.datasets.base import pixel_grid, uniform
from onmanifold.solution import UNLIKELY
from shared.options import one_of
from shared.tables import Table

PARTS = ("bars", "balls", "digits")
NOISES = (0.1, 0.02, 0.002)  # of the bars, whose contrast is 0.25
COLUMNS = {
    "images": "26",
    "misfit / noise": ".3f",
    "excess": ".1f",
    "inconsistent": "d",
    "score test": "d",
    "covered": ".1%",
    "of": "d",
}


# Images on and off the manifolds, 128 x 128 pixels: functions of their number and a generator --------


def bars(n: int, source: torch.Generator, bar: Bar = Bar()) -> Tensor:  # noqa: B008
    """Bars through the centre at any angle."""
    return bar.sample(n, source)[0]


def bars_off_centre(n: int, source: torch.Generator) -> Tensor:
    """Bars whose middle is 15 pixels off the image's."""
    towards = uniform((n,), 0.0, 2 * pi, source)
    moves = (15 * torch.stack([towards.cos(), towards.sin()], dim=1)).round().int().tolist()
    images = zip(bars(n, source), moves, strict=True)
    return torch.stack([image.roll(move, dims=(1, 2)) for image, move in images])


def crossing_bars(n: int, source: torch.Generator) -> Tensor:
    """Two bars with 45 degrees between them or more."""
    angle = uniform((n, 1), 0.0, 2 * pi, source)
    other = angle + uniform((n, 1), pi / 4, 3 * pi / 4, source)
    return torch.maximum(Bar().render(angle), Bar().render(other))


def disks(n: int, source: torch.Generator) -> Tensor:
    """Disks in the middle, of the area of a bar to twice that."""
    return 0.5 + 0.25 * _trace(torch.zeros(n, 1, 2), uniform((n,), 12.6, 17.8, source))


def strokes(n: int, source: torch.Generator) -> Tensor:
    """Strokes of a pen along a bent curve, as in a digit: 8 pixels wide."""
    corners = uniform((n, 3, 2), -35.0, 35.0, source)
    corners = corners - corners.mean(dim=1, keepdim=True)
    t = torch.linspace(0, 1, 65)
    bezier = torch.stack([(1 - t) ** 2, 2 * t * (1 - t), t**2], dim=1)
    return 0.5 + 0.25 * _trace(bezier @ corners, torch.full((n,), 4.0))


def _trace(curve: Tensor, radius: Tensor) -> Tensor:
    """1 where a point of ``curve`` ``(n, T, 2)`` is nearer than ``radius`` ``(n,)``, else 0; shaded edges."""
    x, y = pixel_grid(128, 64.0)
    away = torch.full((len(curve), 128, 128), torch.inf)
    for cx, cy in curve.permute(1, 2, 0):
        away = torch.minimum(away, torch.hypot(x - cx[:, None, None], y - cy[:, None, None]))
    return (0.5 + radius[:, None, None] - away).clamp(0, 1)[:, None]


BARS: dict[str, Callable[[int, torch.Generator], Tensor]] = {
    "genuine: bars": bars,
    "bar off centre": bars_off_centre,
    "two bars crossing": crossing_bars,
    "bar of twice the width": partial(bars, bar=Bar(width=20.0)),
    "disk": disks,
    "stroke, as in a digit": strokes,
}


# Solving ---------------------------------------------------------------------------------------------


def report(
    table: Table,
    kind: str,
    operator: ForwardOperator,
    truth: Tensor,
    y: Tensor,
    prior: ManifoldPrior,
    fidelity: Fidelity,
    starts: InitialPoints,
    known: bool = True,
) -> None:
    """Solve, print a row."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentWarning)
        solution = solve(operator, y, prior, fidelity=fidelity, starts=starts, decoder_error=known)
        try:
            covered = ((solution.x - truth).abs() <= 2 * laplace(solution).std()).double().mean()
        except InputError:  # of images off the manifold some start may come to rest nowhere
            covered = torch.nan
    deviation = solution.problem.fidelity.deviation(y)
    excess = ((solution.misfit - solution.expected_misfit) / deviation).median()
    ratio = (solution.misfit / solution.expected_misfit).median()
    rejected = (~solution.consistent).sum(), (score_test(solution) < UNLIKELY).sum()
    table.row(kind, ratio, excess, *rejected, covered, len(y))


def bars_part(images: int, seed: int) -> None:
    """Blurred bars, and what is none."""
    prior, operator = load_prior("bar"), bar_blur()
    for noise in NOISES:
        print(f"\nbars, noise {noise}")
        table = Table(COLUMNS)
        for kind, draw in BARS.items():
            truth = draw(images, stream(seed, "held-out"))
            y = simulate(operator, truth, noise, seed)
            report(table, kind, operator, truth, y, prior, Gaussian(noise), InitialPoints())


def balls_part(images: int, seed: int) -> None:
    """Pairs of balls from voltages."""
    prior, starts = load_prior("two-balls"), InitialPoints(128, 8)
    made = Balls.make(images, seed)
    print(f"\nballs, noise {NOISE:.1%}")
    table = Table(COLUMNS)
    for title, known in (("genuine, noise alone", False), ("genuine", True)):
        each = made.operator, made.truth, made.measurement, prior, Gaussian(made.noise), starts
        report(table, title, *each, known)


def digits_part(images: int, seed: int) -> None:
    """Digits of which half of the pixels are missing, and clothes."""
    try:
        sets = {kind: load_dataset(kind).part("held-out") for kind in ("mnist", "fashion-mnist")}
    except FileNotFoundError as error:
        print(f"digits: {error}: skipped")
        return
    digits, clothes = (data.sample(images, stream(seed, "held-out"))[0] for data in sets.values())
    prior = load_prior("mnist")
    mask = random_mask(prior.x_shape, keep=0.5)
    for noise in (0.02, 0.05, 0.1):
        print(f"\ndigits, half of the pixels missing, noise {noise}")
        table = Table(COLUMNS)
        rows = (("genuine, noise alone", digits, False), ("genuine", digits, True))
        for kind, truth, known in (*rows, ("clothes", clothes, True)):
            y = simulate(mask, truth, noise, seed)
            each = mask, truth, y, prior, Gaussian(noise), InitialPoints()
            report(table, kind, *each, known)


Part = one_of(PARTS)


def main(
    parts: Annotated[list[Part], typer.Argument()] = tuple(Part),
    images: int | None = None,
    seed: int = 0,
) -> None:
    """Print the tables of parts, by default all.

    With so many images of each kind, by default 100 bars and digits and 20 balls; the seed is that of images
    and noise.
    """
    for part, made, usual in (
        ("bars", bars_part, 100),
        ("balls", balls_part, 20),
        ("digits", digits_part, 100),
    ):
        if part in parts:
            made(images or usual, seed)


if __name__ == "__main__":
    typer.run(main)
