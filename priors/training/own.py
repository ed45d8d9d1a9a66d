"""Training in one call: examples in, a prior with its report out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onmanifold.entry_points import DATASETS, plugins
from onmanifold.errors import InputError
from onmanifold.plugins import load_dataset
from onmanifold.pretrained import load_prior, prior_card
from onmanifold.prior import ManifoldPrior
from onmanifold.priors.datasets import Dataset
from onmanifold.priors.datasets.own import OwnExamples
from onmanifold.priors.training.checkpoints import read_checkpoint
from onmanifold.priors.training.choice import planned
from onmanifold.priors.training.evaluation import store
from onmanifold.priors.training.processes import is_first_process
from onmanifold.priors.training.recipe import IN_MEMORY, Recipe
from onmanifold.priors.training.report import summary
from onmanifold.priors.training.run import train
from onmanifold.storage import check_folder

HELD_OUT, VALIDATION = 0.1, 0.05  # shares of the examples


def train_prior(
    data: Any,
    method: str = "auto",
    dim: int | None = None,
    *,
    output: str | Path | None = None,
    steps: int | None = None,
    key: str | None = None,
    resize: Sequence[int] | None = None,
    gray: bool = False,
    held_out: float = HELD_OUT,
    seed: int = 0,
    resume: bool = False,
    progress: bool = True,
) -> ManifoldPrior:
    """Learn a prior from examples, store it, and say how good it is.

    What is not chosen is chosen by the rules in docs/priors.md. The folder ``output`` then holds the prior,
    its card, the recipe that was trained, and ``report.png`` with reconstructions and samples.

    Args:
        data: examples: an array or tensor ``(n, m)``, ``(n, H, W)`` or ``(n, C, H, W)``; a data set of torch;
            the path of a folder with PNG, JPEG or TIFF images, of a ``.npy`` or ``.npz`` file, or of a zarr
            store; or the name of an installed data set.
        method: a training method, such as ``"nrae-l"``, ``"ae"`` or ``"atlas"``.
        dim: latent dimension; None: chosen by held-out reconstruction.
        output: folder for the prior; default: the name of the data and ``-prior``, in the working directory.
        steps: of the training, at most; None: the method's own number. It stops earlier where the error on
            validation examples no longer falls.
        key: name of the array in a file that holds several.
        resize: height and width that images are cut and brought to; None: they have to have one size.
        gray: make coloured images gray.
        held_out: share of the examples that training never sees, by which the prior is judged.
        seed: of weights, examples and noise.
        resume: go on with the training that was interrupted in ``output``.
        progress: say how far it is, and how good the result is.

    Returns:
        The trained prior, as :func:`onmanifold.load_prior` loads it from ``output``.

    Raises:
        InputError: examples that cannot be learned from; nothing is written then.

    Example:
        >>> import tempfile, torch
        >>> from onmanifold import load_prior, train_prior
        >>> angle = 6.28 * torch.rand(300, 1, generator=torch.Generator().manual_seed(0))
        >>> circle = torch.cat([angle.cos(), angle.sin()], dim=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     prior = train_prior(circle, "ae", 2, output=folder, steps=100, progress=False)
        ...     load_prior(folder).x_shape
        (2,)
    """
    folder = check_folder(_default_output(data) if output is None else output)
    examples, table = _examples(data, key, resize, gray, held_out)
    recipe = _interrupted(folder, table) if resume else None
    if recipe is not None:
        _check_same(recipe, method, dim, folder)
    else:
        name = folder.absolute().name
        recipe = planned(examples, table, name=name, method=method, dim=dim, steps=steps, seed=seed)
    return train_and_store(recipe, folder, examples, resume=resume, progress=progress)


def train_and_store(
    recipe: Recipe,
    folder: Path,
    data: Dataset,
    *,
    resume: bool = False,
    progress: bool = True,
    devices: int = 1,
    nodes: int = 1,
) -> ManifoldPrior:
    """Train a recipe, store the prior with card, recipe and report, and print how good it is.

    Args:
        recipe: what to train.
        folder: for the prior and its checkpoints.
        data: its examples.
        resume: continue from the last checkpoint.
        progress: say how far it is, and how good the result is.
        devices: see :func:`~onmanifold.priors.training.run.train`.
        nodes: see there.

    Returns:
        The prior as it was stored.
    """
    at_hand = recipe.data.get("name") == IN_MEMORY or devices * nodes == 1
    prior = train(
        recipe,
        folder / "checkpoints",
        data=data if at_hand else None,
        resume=resume,
        progress=progress,
        devices=devices,
        nodes=nodes,
    )
    if is_first_process():
        store(recipe, prior, folder, data)
        if progress:
            print(summary(prior_card(folder.absolute()), folder))
        return load_prior(folder.absolute())
    return prior


def _examples(
    data: Any, key: str | None, resize: Sequence[int] | None, gray: bool, held_out: float
) -> tuple[Dataset, dict[str, Any]]:
    """The data set, and how a recipe names it."""
    if hasattr(data, "sample") and hasattr(data, "x_shape"):
        return data, {"name": IN_MEMORY}
    options: dict[str, Any] = {"held_out": held_out, "validation": VALIDATION}
    options |= {} if key is None else {"key": key}
    options |= {} if resize is None else {"resize": resize}
    options |= {"gray": True} if gray else {}
    if not isinstance(data, str | Path):
        return OwnExamples.of(data, **options), {"name": IN_MEMORY, **options}
    if str(data) in plugins(DATASETS) and not Path(data).exists():
        return load_dataset(str(data)), {"name": str(data)}
    path = str(Path(data).absolute())
    return OwnExamples(data, **options), {"name": "examples", "file": path, **options}


def _default_output(data: Any) -> Path:
    stem = Path(data).absolute().stem if isinstance(data, str | Path) else "own"
    return Path(f"{stem}-prior")


def _interrupted(folder: Path, table: dict[str, Any]) -> Recipe | None:
    """The recipe that a folder's checkpoint belongs to, for the same data; None: no checkpoint."""
    state = read_checkpoint(folder / "checkpoints")
    if state is None:
        return None
    fields = {name: value for name, value in state["identity"].items() if name != "examples"}
    return Recipe(name=folder.absolute().name, card={}, **fields | {"data": table})


def _check_same(recipe: Recipe, method: str, dim: int | None, folder: Path) -> None:
    """Raise where a training that is taken up again was begun with another method or dimension."""
    begun = recipe.model.get("dim")
    if method not in ("auto", recipe.method) or dim not in (None, begun):
        raise InputError(
            f"the training in {folder} is of {recipe.method} in {begun} dimensions, not of {method} in "
            f"{dim}: give another folder, or train without resume"
        )
