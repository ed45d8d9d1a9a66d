"""What is trained where nobody chose: dimension, method, and the recipe made of both.

Nothing here looks at the examples of the split ``held-out``, which the trained prior is judged by.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from onmanifold.checks import check_count
from onmanifold.entry_points import METHODS, load
from onmanifold.errors import InputError
from onmanifold.priors.datasets import Dataset, draw_examples, stream
from onmanifold.priors.networks import default_network, mlp
from onmanifold.priors.training.method import check_examples, cosine_rate
from onmanifold.priors.training.processes import default_device
from onmanifold.priors.training.recipe import Recipe, method_names
from onmanifold.priors.training.values import some_examples, with_values

DIMS = (1, 2, 4, 8, 16, 32, 64)  # that are tried
SHARE, LEAST = 0.05, 0.01  # by which an error has to fall: of itself, and of the spread
POINTS = 50  # entries from which on an example is no longer a point
MANY = 3000  # images from which on the plain autoencoder has the lower error
SIDE = 32  # pixels of the images that short trainings see
STEPS, BATCH, RATE, HIDDEN = 600, 64, 2e-3, 256  # of a short training
CHECKED = 400  # examples that it is judged by
EXAMPLES = 5000  # that it learns from


def chosen_method(x: Tensor) -> str:
    """The method for examples ``(n, *x_shape)``, by the rule that docs/priors.md states.

    Points of a few coordinates: an atlas, which has several charts and an exact inverse. Images of which
    there are many: ``ae``. Few images, fields and curves: ``nrae-l``, which smooths between examples.
    """
    if x[0].numel() < POINTS:
        return "atlas"
    many = len(x) >= MANY and default_network(tuple(x.shape[1:]))["network"] == "conv"
    return "ae" if many else "nrae-l"


def error_by_dimension(x: Tensor, check: Tensor, seed: int = 0) -> dict[int, float]:
    """How well few numbers describe examples that were not learned: for several dimensions.

    That of a small dense autoencoder after a short training. Dimensions are doubled as long as that lowers
    the error by a twentieth, and by 0.01 of the spread. Images are coarsened to at most 32 x 32 pixels first.

    Args:
        x: examples to learn from, ``(n, *x_shape)``.
        check: others.
        seed: of the trainings.

    Returns:
        Root mean squared distance as a share of that to the mean, by dimension.
    """
    x, check = _coarse(x[:EXAMPLES]), _coarse(check[:CHECKED])
    centre = x.mean(dim=0)
    scale = (x - centre).square().mean().sqrt()
    x, check = (x - centre) / scale, (check - centre) / scale
    spread = check.square().mean().sqrt()
    found: dict[int, float] = {}
    for dim in DIMS:
        if dim > 1 and dim > min(x.shape[1], len(x) // 4):
            break
        found[dim] = float(_short_training(x, check, dim, seed) / spread)
        if dim > 1 and not _clearly_lower(found[dim], found[dim // 2]):
            break
    return found


def chosen_dimension(errors: dict[int, float]) -> int:
    """The smallest dimension whose error is not clearly above the least.

    Example:
        >>> chosen_dimension({2: 0.5, 4: 0.31, 8: 0.30})
        4
    """
    least = min(errors.values())
    return min(dim for dim, error in errors.items() if not _clearly_lower(least, error))


def _clearly_lower(error: float, other: float) -> bool:
    return other - error > max(SHARE * other, LEAST)


def _coarse(x: Tensor) -> Tensor:
    if x.ndim == 4:
        x = functional.adaptive_avg_pool2d(x, (min(SIDE, x.shape[2]), min(SIDE, x.shape[3])))
    return x.flatten(1)


def _short_training(x: Tensor, check: Tensor, dim: int, seed: int) -> Tensor:
    """Root mean squared error of an autoencoder on ``check``, after a short training on ``x``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = nn.Sequential(mlp(x.shape[1], HIDDEN, dim), mlp(dim, HIDDEN, x.shape[1]))
    optimizer = torch.optim.Adam(networks.parameters(), lr=RATE, fused=True)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * cosine_rate(step, STEPS)
        rows = torch.randint(len(x), (BATCH,), generator=stream(seed, "seeding", step))
        optimizer.zero_grad()
        (networks(x[rows]) - x[rows]).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        off: Tensor = (networks(check) - check).square().mean().sqrt()
    return off


def planned(
    data: Dataset,
    table: dict[str, Any],
    *,
    name: str,
    method: str = "auto",
    dim: int | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> Recipe:
    """The recipe of a training where only the examples are given.

    Args:
        data: what is learned.
        table: how a recipe names it, ``[data]``.
        name: of the prior.
        method: a training method; ``"auto"``: see :func:`chosen_method`.
        dim: latent dimension; None: see :func:`chosen_dimension`.
        steps: at most; None: the method's own number.
        seed: of weights, examples and noise.

    Raises:
        InputError: no such method; examples that cannot be learned; fewer of them than dimensions.

    Example:
        >>> from onmanifold.priors.datasets import SwissRoll
        >>> planned(SwissRoll(), {"name": "swiss-roll"}, name="roll", dim=2).method
        'atlas'
    """
    x = some_examples(data, seed)
    check_examples(x, tuple(data.x_shape), 2, "2 are needed")
    chosen = chosen_method(x) if method == "auto" else method
    if chosen not in method_names():
        raise InputError(f"unknown method {method!r}; known: auto, {', '.join(method_names())}")
    if dim is None:
        dim = chosen_dimension(error_by_dimension(x, _others(data, x, seed), seed))
    _check_dimension(dim, x)
    tables = load(METHODS, "method", chosen).defaults(x, dim)
    if hasattr(data, "parts") and "length" in tables["schedule"]:
        tables["schedule"]["examples"] = len(x)  # all there are
    if steps is not None:
        tables["schedule"] = shortened(tables["schedule"], check_count(steps, "steps"))
    model = tables["model"]
    return Recipe(
        name,
        {},
        table,
        model if "chart" in model else with_values(model, x),
        tables["schedule"],
        tables.get("loss", {}),
        chosen,
        seed,
        # convolutions alone take long enough to gain by it
        "bf16-mixed" if model.get("network") == "conv" and half_is_fast() else "32-true",
        torch.get_num_threads(),
    )


def half_is_fast() -> bool:
    """Whether the device multiplies matrices of 16-bit numbers (bfloat16) faster than others."""
    device = default_device()
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    tiles = getattr(torch.cpu, "_is_amx_tile_supported", None)  # torch has no public name for it
    return device.type == "cpu" and tiles is not None and bool(tiles())


def _others(data: Dataset, x: Tensor, seed: int) -> Tensor:
    """Examples to choose by: of the split ``validation``, or the last tenth of those to learn from."""
    parts = getattr(data, "parts", None)
    if parts is None or "validation" in parts:
        return draw_examples(data, "validation", CHECKED, stream(seed, "validation"))
    return x[-max(1, len(x) // 10) :]


def _check_dimension(dim: int, x: Tensor) -> None:
    check_count(dim, "dim")
    size, count = x[0].numel(), len(x)
    if dim > size:
        raise InputError(
            f"dim = {dim}, but an example has {size} numbers {tuple(x.shape[1:])}: take fewer"
        )
    if dim >= count:
        raise InputError(
            f"dim = {dim}, but there are only {count} examples to learn from: take more examples than "
            "dimensions, several times as many"
        )


def shortened(schedule: dict[str, Any], steps: int) -> dict[str, Any]:
    """A table ``[schedule]`` with as many steps in all, its phases in proportion.

    Example:
        >>> shortened({"seeding": 500, "joint": 4000, "overlap": 1000}, 55)
        {'seeding': 5, 'joint': 40, 'overlap': 10}
    """
    if "length" in schedule:
        share = steps / schedule["length"]
        parts = {name: schedule[name] for name in ("encoder", "patience") if name in schedule}
        return schedule | {name: round(share * n) for name, n in parts.items()} | {"length": steps}
    phases = ("seeding", "joint", "overlap")
    share = steps / sum(schedule[name] for name in phases)
    short = {name: round(share * schedule[name]) for name in phases}
    short["joint"] += steps - sum(short.values())
    return schedule | short
