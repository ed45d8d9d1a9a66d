"""The values of the examples: their range, by which networks are fed, and noise scales that fit to it.

Networks learn best from numbers of order one. A prior therefore has a ``background`` and an ``amplitude``:
its networks see ``(x - background) / amplitude``, and what it decodes, encodes and measures is in the unit
of the data. So the same images are learned equally well in any unit.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from onmanifold.checks import check_number
from onmanifold.errors import InputError
from onmanifold.prior import ManifoldPrior
from onmanifold.priors.atlas.diagnostics import chart_distances
from onmanifold.priors.datasets import Dataset, check_differences, draw_examples, part_of, stream
from onmanifold.priors.training.method import Table

POOL = 2000  # examples of a generator whose values are looked at
LARGEST = 1e15  # amplitudes whose squares float32 can still add up
NOISE = 0.02  # of the spread: sigma_x where a recipe names none
TOO_LITTLE = 1e-3  # of the amplitude: noise that is in another unit, most likely
TOO_MUCH = 0.5  # of the spread: noise under which nothing can be learned
CHECKED = 200  # examples by which a trained prior is looked at
LEARNED = 0.9  # of their distance to the mean: who comes no nearer has learned nothing


class ValueRangeWarning(UserWarning):
    """A number of a recipe does not fit to the range of the values that it is about."""


class NothingLearned(UserWarning):
    """A prior that came out of a training is of no use."""


def some_examples(data: Dataset, seed: int) -> Tensor:
    """Examples to look at ``(n, *x_shape)``: of a finite set all to learn from, else a pool."""
    part = part_of(data, "train")
    finite: Tensor | None = getattr(part, "x", None)
    if finite is not None:
        return finite
    return draw_examples(data, "seeding", POOL, stream(seed, "seeding"))


def with_values(table: Table, x: Tensor) -> Table:
    """The table of a recipe that chooses ``background`` and ``amplitude``, with both.

    Where it says no amplitude, that is the largest distance of a value from the background. Where it says no
    background either, that is the value nearest to 0 within the range of all.

    Args:
        table: of a recipe; its own numbers are taken at their word.
        x: examples ``(n, *x_shape)``.

    Raises:
        ValueError: values whose differences float32 cannot hold.

    Example:
        >>> with_values({}, torch.tensor([[290.0, 310.0]]))
        {'background': 290.0, 'amplitude': 20.0}
        >>> with_values({"amplitude": 1.0}, torch.tensor([[290.0, 310.0]]))
        {'amplitude': 1.0}
    """
    if "amplitude" in table:
        check_number(table["amplitude"], "amplitude")
        return table
    values = x[torch.isfinite(x)]
    if not len(values):
        return table  # the check of the examples will say so
    low, high = float(values.min()), float(values.max())
    background = table.get("background", min(max(0.0, low), high))
    amplitude = max(high - background, background - low)
    if amplitude == 0 or low == high:
        return table
    check_differences(low, high, "data")
    if not 1 / LARGEST < amplitude < LARGEST:
        raise InputError(
            f"data: values range from {low:g} to {high:g}, whose squares are beyond the range of float32: "
            "take another unit"
        )
    return table | {"background": background, "amplitude": amplitude}


def fitting_noise(sigma_x: float | None, amplitude: float, x: Tensor) -> float:
    """The standard deviation of examples around the manifold, if it can be what is meant.

    Args:
        sigma_x: what a recipe says, in the unit of the data; None: a share of the spread.
        amplitude: largest distance of a value from the background.
        x: examples ``(n, *x_shape)``.

    Returns:
        ``sigma_x``; where that is so large that all examples look the same, but as a share of the amplitude
        it is not, that share.

    Raises:
        ValueError: it is too large either way.

    Warns:
        ValueRangeWarning: it was taken for a share of the amplitude, or is so small that it may be one.
    """
    spread = float(x.flatten(1).double().var(dim=0, correction=0).sum().sqrt())
    if sigma_x is None:
        return NOISE * spread
    limit = TOO_MUCH * spread
    sigma = check_number(sigma_x, "sigma_x")
    if TOO_LITTLE * amplitude <= sigma < limit or spread == 0:
        return sigma
    low, high = float(x.min()), float(x.max())
    about = (
        f"sigma_x = {sigma:g} does not fit to the data, which range from {low:g} to {high:g} and spread by "
        f"{spread:.3g} around their mean"
    )
    advice = f"It is in the unit of the data; {NOISE * spread:.2g} would fit"
    if sigma < limit:
        _warn(f"{about}: next to noise that small the latent density counts for nothing. {advice}")
        return sigma
    if sigma * amplitude >= limit:
        raise InputError(f"{about}: noise that large would hide them. {advice}")
    _warn(
        f"{about}: noise that large would hide them. It was taken for a share of the range: sigma_x = "
        f"{sigma * amplitude:.3g}. {advice}"
    )
    return sigma * amplitude


def _warn(message: str) -> None:
    warnings.warn(f"{message}; an amplitude in the recipe silences this", ValueRangeWarning, 2)


@torch.no_grad()
def warn_if_nothing_learned(prior: ManifoldPrior, data: Dataset, seed: int) -> None:
    """Warn where examples are no nearer to a prior than to their mean, as after a training in vain.

    Args:
        prior: the trained prior.
        data: what it learned.
        seed: of the examples.
    """
    x = draw_examples(data, "train", CHECKED, stream(seed, "seeding", 1))
    x = x.to(prior.device, prior.dtype)
    nearest = chart_distances(prior, x).amin(dim=1).median()
    plain = (x - x.mean(dim=0)).flatten(1).norm(dim=1).median()
    if not nearest < LEARNED * plain:
        low, high = float(x.min()), float(x.max())
        sigma = getattr(getattr(prior, "settings", None), "sigma_x", None)
        about = "" if sigma is None else f" and sigma_x is {sigma:.3g}"
        warnings.warn(
            f"the prior comes no nearer to examples than their mean does: it has learned next to nothing. "
            f"Values range from {low:.3g} to {high:.3g}{about}; train for more steps, with another "
            "learning_rate, or a smaller sigma_x",
            NothingLearned,
            stacklevel=3,
        )
