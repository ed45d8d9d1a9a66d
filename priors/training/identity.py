"""What a training is, by its content: which recipe, which examples.

A run that is resumed has to go on with what it began with. Where files lie, and what a recipe is called,
does not matter; what is in them does.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

from torch import Tensor

from onmanifold.errors import InputError
from onmanifold.priors.datasets import Dataset, draw_examples, part_of, stream
from onmanifold.priors.datasets.base import SPLITS
from onmanifold.priors.training.recipe import Recipe

WORDS = ("name", "card")  # of a recipe: they train nothing
PLACES = ("file", "folder", "key")  # of its data: where they are, not what
DRAWN = 8  # examples of a generator that are compared
CLOSE = 1e-3  # of the largest value: other processors round in other ways


def identity(recipe: Recipe, data: Dataset) -> dict[str, Any]:
    """What decides the weights that a training ends with, as plain values and tensors."""
    tables = {name: value for name, value in asdict(recipe).items() if name not in WORDS}
    tables["data"] = {name: value for name, value in recipe.data.items() if name not in PLACES}
    return tables | {"examples": fingerprint(data)}


def fingerprint(data: Dataset) -> str | Tensor:
    """What tells data from others: of finite data a hash of all examples, of a generator some examples.

    Example:
        >>> from onmanifold.priors.datasets import Sphere
        >>> fingerprint(Sphere()).shape
        torch.Size([8, 3])
    """
    finite = [getattr(part_of(data, split), "x", None) for split in SPLITS]
    if all(x is None for x in finite):
        return draw_examples(data, "seeding", DRAWN, stream(0, "seeding"))
    content = hashlib.sha256()
    seen: list[Tensor] = []
    for x in finite:
        if x is not None and not any(x is other for other in seen):
            seen.append(x)
            content.update(repr((tuple(x.shape), str(x.dtype))).encode())
            content.update(x.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return content.hexdigest()


def check_same(stored: dict[str, Any], now: dict[str, Any], where: str) -> None:
    """Raise unless two identities are the same.

    Raises:
        ValueError: naming what differs.
    """
    fields = [key for key in now if key != "examples" and stored.get(key) != now[key]]
    different = [f"{key}: {stored.get(key)} there, {now[key]} here" for key in fields]
    if not _same_examples(stored.get("examples"), now["examples"]):
        different.append("the examples of the data are others than there")
    if different:
        raise InputError(
            f"{where} belongs to another recipe ({'; '.join(different)}): give another folder, or train "
            "without --resume"
        )


def _same_examples(stored: Any, now: str | Tensor) -> bool:
    if isinstance(now, str) or not isinstance(stored, Tensor):
        return isinstance(stored, str) and stored == now
    if stored.shape != now.shape:
        return False
    return bool(((stored - now).abs() <= CLOSE * now.abs().max()).all())
