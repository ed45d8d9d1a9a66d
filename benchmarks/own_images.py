"""Priors of images by ``train_prior``, as a user trains them: ``python benchmarks/own_images.py [SET]...``

Held-out error and PSNR beside principal components of the same dimension, and the time it took. Every choice
is left to the package but for what ``--method`` and ``--dim`` say; ``--examples`` takes so many of each set.
The sets:

* ``sneakers``: 6000 of Fashion-MNIST, 28 x 28;
* ``digits``: the first 6000 of MNIST, 28 x 28;
* ``objects``: 3000 views of a drawn body of balls, 32 x 32;
* ``colours``: 2000 drawn disks in three colours on a coloured ground, 64 x 64 x 3;
* ``former``: the sneakers by the recipe of ``mnist`` (NRAE-L, 32 dimensions, 9000 steps), to compare with.

Files are read from ``$ONMANIFOLD_DATA``.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from onmanifold import load_dataset, prior_card, train_prior
from onmanifold.priors.datasets import OwnExamples, pixel_grid, stream
from onmanifold.priors.training.own import HELD_OUT, VALIDATION, train_and_store
from onmanifold.priors.training.recipe import IN_MEMORY, Recipe
from shared.tables import Table

SETS = ("sneakers", "digits", "objects", "colours")


def images(name: str) -> Tensor:
    """The images of a set, ``(n, C, H, W)``."""
    if name in ("sneakers", "former"):
        data = load_dataset("fashion-mnist", labels=[7])
        return torch.cat([data.part(split).x for split in ("train", "validation")])
    if name == "digits":
        return load_dataset("mnist").part("train").x[:6000]
    if name == "objects":
        return load_dataset("rotating-object").sample(3000, stream(0, "train"))[0]
    if name == "colours":
        return coloured_disks(2000, stream(0, "train"))
    raise typer.BadParameter(f"no set {name!r}; known: {', '.join(SETS)}, former")


def coloured_disks(n: int, generator: torch.Generator) -> Tensor:
    """A disk of any place, size and colour on a ground of any colour, ``(n, 3, 64, 64)``."""
    place = 1.2 * torch.rand((n, 2, 1, 1), generator=generator) - 0.6
    radius = 0.2 + 0.3 * torch.rand((n, 1, 1), generator=generator)
    disk, ground = torch.rand((2, n, 3, 1, 1), generator=generator)
    x, y = pixel_grid(64, 1.0)
    distance = torch.hypot(x - place[:, 0], y - place[:, 1]) - radius
    inside = torch.sigmoid(-distance / 0.03)[:, None]
    return ground + inside * (disk - ground)


def train(name: str, folder: Path, method: str, dim: int | None, examples: int | None) -> None:
    """Train a prior of a set into a folder."""
    x = images(name)[:examples]
    if name != "former":
        train_prior(x, method, dim, output=folder)
        return
    recipe = Recipe.read("mnist")
    schedule = recipe.schedule | {"examples": len(x)}
    recipe = replace(recipe, name=name, data={"name": IN_MEMORY}, schedule=schedule)
    train_and_store(recipe, folder, OwnExamples.of(x, held_out=HELD_OUT, validation=VALIDATION))


def main(
    sets: Annotated[list[str] | None, typer.Argument(help="Which sets; default: all.")] = None,
    method: str = "auto",
    dim: int | None = None,
    examples: int | None = None,
) -> None:
    """Train and measure."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in sets or SETS:
            folder, began = Path(temporary) / name, time.perf_counter()
            train(name, folder, method, dim, examples)
            minutes = (time.perf_counter() - began) / 60
            card = prior_card(folder)
            found = card["metrics"]
            rows.append(
                (
                    name, card["recipe"]["method"], card["dim"], card["training"]["steps"], minutes,
                    found["relative_error"], found["pca_relative_error"], found["psnr"],
                    found["pca_psnr"],
                )
            )  # fmt: skip
    table = Table(
        {
            "set": "<9", "method": "<7", "dim": "3d", "steps": "5d", "minutes": "7.1f", "error": "7.1%",
            "PCA": "7.1%", "PSNR": "6.1f", "of PCA": "6.1f",
        }
    )  # fmt: skip
    for row in rows:
        table.row(*row)


if __name__ == "__main__":
    typer.run(main)
