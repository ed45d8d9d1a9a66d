"""Priors on disk: ``weights.safetensors`` and ``card.json`` in one folder, and never a pickle.

The card says what the weights belong to (kind, configuration, shapes, dtype, sha256) and, in free
fields, what a user wants to know: name, description, value range and unit, training data, recipe,
metrics, licence.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from importlib.resources.abc import Traversable
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as write_tensors
from torch import Tensor, nn

from onmanifold.decoder_error import DecoderError
from onmanifold.entry_points import PRETRAINED, UnknownName, plugins
from onmanifold.errors import InputError, InputTypeError
from onmanifold.plugins import configured, kind_of, prior_class
from onmanifold.prior import ManifoldPrior
from onmanifold.storage import DamagedFile, read_record, read_safetensors, write_folder

SCHEMA = 1
CARD, WEIGHTS = "card.json", "weights.safetensors"
SEARCH_PATH = "ONMANIFOLD_PRIORS"  # environment variable: folders of stored priors
OWN_FIELDS = ("schema", "kind", "config", "x_shape", "dim", "num_charts", "dtype", "sha256")
LARGEST = 2**26  # entries of an unknown, number of charts
LARGEST_SIDE = 2**13  # of an image
SPARE_ENTRIES, SPARE_PARTS = 2**24, 10_000  # what building may take beyond what weights hold
REGISTER: tuple[Any, ...] = (
    nn.modules.module.register_module_buffer_registration_hook,
    nn.modules.module.register_module_module_registration_hook,
    nn.modules.module.register_module_parameter_registration_hook,
)
BUILDING = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def save_prior(
    prior: ManifoldPrior,
    directory: str | Path,
    card: dict[str, Any] | None = None,
    *,
    half: bool = False,
    beside: Mapping[str, bytes] | None = None,
) -> None:
    """Write ``prior`` to ``directory``, complete or not at all.

    Args:
        prior: a prior whose class an entry point of the group ``onmanifold.priors`` names.
        directory: folder to make; if it is there, its card and weights are replaced.
        card: JSON-able fields for the reader of the card: ``name``, ``description``,
            ``value_range``, ``unit``, ``training_data``, ``recipe``, ``metrics``, ``licence``, and
            any other.
        half: write the weights in 16 bits, for half the size. Nothing is lost: they have to be numbers
            that 16 bits hold, as after ``prior.half().float()``.
        beside: further files of the folder, by name.

    Raises:
        ValueError: the class has no entry point, ``card`` sets a field that is written here, or
            ``half`` would change the weights.
        TypeError: the configuration or the card is not JSON-able, or the dtype is not a float of 32
            or 64 bits.
    """
    taken = sorted(set(card or {}) & {*OWN_FIELDS, "chart_dims", "decoder_error"})
    if taken:
        raise InputError(f"the card's fields {taken} are written from the prior: leave them out")
    if prior.dtype not in DTYPES.values():
        raise InputTypeError(
            f"a prior is stored in float32 or float64, this one is in {prior.dtype}"
        )
    tensors = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in prior.state_dict().items()
    }
    if half:
        short = {name: value.half() for name, value in tensors.items()}
        lossy = [
            name
            for name, value in short.items()
            if not value.to(tensors[name]).equal(tensors[name])
        ]
        if lossy:
            raise InputError(
                f"{lossy[0]} and {len(lossy) - 1} more change in 16 bits: round them with "
                "prior.half().float() and measure the result before you store it so"
            )
        tensors = short
    weights, dims, error = write_tensors(tensors), list(prior.chart_dims), prior.decoder_error
    full = dict(card or {}) | {
        "schema": SCHEMA,
        "kind": kind_of(type(prior)),
        "config": prior.config(),
        "x_shape": list(prior.x_shape),
        "dim": prior.dim,
        "num_charts": prior.num_charts,
        **({"chart_dims": dims} if len(set(dims)) > 1 else {}),
        **({} if error is None else {"decoder_error": {"rank": len(error.factor)}}),
        "dtype": str(prior.dtype).removeprefix("torch."),
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    text = json.dumps(full, indent=2, allow_nan=False) + "\n"
    write_folder(directory, {WEIGHTS: weights, CARD: text.encode(), **(beside or {})})


def build(
    cls: type[ManifoldPrior], config: dict[str, Any], state: dict[str, Tensor], dtype: torch.dtype
) -> ManifoldPrior:
    """A prior of a class from its configuration and weights, in evaluation mode and frozen."""
    prior = configured(cls, config)
    factor = state.get("decoder_error.factor")
    if factor is not None:
        prior.decoder_error = DecoderError(len(factor), prior.x_shape)
    prior = prior.to(dtype=dtype)
    prior.load_state_dict(state, strict=True)  # copied: keeps the memory layout
    return prior.requires_grad_(False).eval()


def _folders() -> dict[str, Traversable]:
    """Folders of the priors that have a name: of installed packages, and on the search path."""
    found: dict[str, Traversable] = {}
    packages = [files(importlib.import_module(e.module)) for e in plugins(PRETRAINED).values()]
    for place in [*packages, *_search_path()]:
        for folder in place.iterdir():
            if not (folder.is_dir() and folder.joinpath(CARD).is_file()):
                continue
            if folder.name in found:
                raise InputError(
                    f"there are two priors {folder.name!r}: {found[folder.name]} and {folder}; rename "
                    f"one, or take it out of {SEARCH_PATH}"
                )
            found[folder.name] = folder
    return dict(sorted(found.items()))


def _search_path() -> list[Path]:
    """The folders that the environment variable ``ONMANIFOLD_PRIORS`` names."""
    places = [Path(p).expanduser() for p in os.environ.get(SEARCH_PATH, "").split(os.pathsep) if p]
    for place in places:
        if not place.is_dir():
            raise InputError(
                f"{SEARCH_PATH} names {place}, which is no folder: correct it, or make the folder"
            )
        if place.joinpath(CARD).is_file():
            raise InputError(
                f"{SEARCH_PATH} names {place}, which is a stored prior itself: name the folder that "
                f"holds it, {place.parent}"
            )
    return list(dict.fromkeys(place.resolve() for place in places))


def prior_names() -> list[str]:
    """Names of the priors that :func:`load_prior` knows.

    Those are the ones that packages ship, and those in the folders that the environment variable
    ``ONMANIFOLD_PRIORS`` names, separated as in ``PATH``.
    """
    return list(_folders())


def _folder(name: str | Path | Traversable) -> Traversable:
    if not isinstance(name, str):
        return name
    path = Path(name)
    if len(path.parts) != 1 or name.startswith("."):
        return path
    known = _folders()
    if name in known:
        return known[name]
    if path.joinpath(CARD).is_file():
        return path
    hint = f", or the folder of a stored prior; {SEARCH_PATH} names folders of more"
    raise UnknownName("prior", name, known, hint)


def prior_card(name: str | Path | Traversable) -> dict[str, Any]:
    """The card of a prior: kind, shapes, value range, training data, metrics, licence.

    Args:
        name: one of :func:`prior_names`, or the folder of a stored prior.

    Raises:
        FileNotFoundError: there is none.
        DamagedFile: it is not JSON, or lacks a field.
        ValueError: it was written by a later version.
    """
    folder = _folder(name)
    card = read_record(folder, CARD, "prior", OWN_FIELDS, SCHEMA)
    _check_fields(card, f"{folder}: {CARD}")
    return card


def _check_fields(card: dict[str, Any], name: str) -> None:
    """Raise ``DamagedFile`` where a field of a card is not of the kind that :func:`save_prior` writes."""

    def counts(value: Any, least: int) -> bool:
        return isinstance(value, list) and all(count(n, least) for n in value)

    def count(value: Any, least: int) -> bool:
        return type(value) is int and least <= value <= LARGEST

    shape = card["x_shape"]
    right = {
        "kind": isinstance(card["kind"], str),
        "config": isinstance(card["config"], dict),
        "x_shape": counts(shape, 1)
        and len(shape) > 0
        and prod(shape) <= LARGEST
        and (len(shape) == 1 or max(shape) <= LARGEST_SIDE),
        "dim": count(card["dim"], 0),
        "num_charts": count(card["num_charts"], 1),
        "chart_dims": counts(card.get("chart_dims", []), 0),
        "dtype": isinstance(card["dtype"], str) and card["dtype"] in DTYPES,
        "sha256": isinstance(card["sha256"], str) and len(card["sha256"]) == 64,
    }
    config = card["config"]
    if right["config"] and config.get("x_shape", shape) != shape:  # before it is built
        raise DamagedFile(f"{name} says x_shape {shape}, its configuration {config['x_shape']}")
    for field, fits in right.items():
        if not fits:
            found = repr(card[field])
            found = found if len(found) <= 80 else f"{found[:80]}..."
            known = f", not one of {[*DTYPES]}" if field == "dtype" else ""
            raise DamagedFile(f"{name} says {field} {found}{known}: no stored prior has that")


def _check_weights(state: dict[str, Tensor], name: str) -> None:
    """Raise ``DamagedFile`` where weights are no numbers."""
    broken = [
        key
        for key, value in state.items()
        if value.is_complex() or (value.is_floating_point() and bool(value.isnan().any()))
    ]
    if broken:
        raise DamagedFile(
            f"{name}: {broken[0]} and {len(broken) - 1} more hold NaN or complex numbers"
        )


@contextmanager
def _allowance(state: dict[str, Tensor]) -> Iterator[None]:
    """Stop the building of a prior that takes far more than its weights hold.

    Its configuration comes from a file, and one number in it could ask for all memory there is. Parameters
    are looked at when they become part of a module: their memory is reserved by then, but not yet in use.
    """
    entries = SPARE_ENTRIES + 16 * sum(value.numel() for value in state.values())
    parts, own = SPARE_PARTS + 20 * len(state), threading.get_ident()

    def look(module: nn.Module, name: str, part: object) -> None:
        nonlocal entries, parts
        if threading.get_ident() == own:
            parts -= 1
            entries -= part.numel() if isinstance(part, Tensor) else 0
            if parts < 0 or entries < 0:
                raise InputError("the configuration asks for far more than the weights hold")

    hooks = [register(look) for register in REGISTER]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def load_prior(
    name: str | Path | Traversable,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> ManifoldPrior:
    """Load a pretrained prior by its name, or one that :func:`save_prior` wrote by its folder.

    It is in evaluation mode, its weights frozen.

    Args:
        name: one of :func:`prior_names`, or a path to a folder.
        device: where to put it; default: the CPU.
        dtype: in which dtype; default: as stored.

    Raises:
        LookupError: unknown name, or no entry point names the card's kind.
        FileNotFoundError: the folder or one of its files is missing.
        onmanifold.storage.DamagedFile: a file was truncated or altered, or is of another format.
    """
    folder = _folder(name)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    card = prior_card(folder)
    cls = prior_class(card["kind"])
    state = read_safetensors(folder, WEIGHTS, CARD, card["sha256"])
    _check_weights(state, f"{folder}: {WEIGHTS}")
    try:
        # Fresh weights are drawn, and at once replaced: the caller's random numbers go on as if nothing were.
        with _allowance(state), torch.random.fork_rng(devices=[]), torch.inference_mode(False):
            prior = build(cls, card["config"], state, DTYPES[card["dtype"]])
    except BUILDING as error:
        message = " ".join(str(error).split())[:300] or type(error).__name__
        raise DamagedFile(
            f"{folder}: {CARD} and {WEIGHTS} do not fit {cls.__name__}: {message}"
        ) from error
    equal = [card["dim"]] * prior.num_charts
    for field in ("x_shape", "dim", "num_charts", "chart_dims"):
        stated, built = card.get(field, equal), getattr(prior, field)
        if (tuple(stated) if isinstance(stated, list) else stated) != built:
            raise DamagedFile(
                f"{folder}: {CARD} says {field} {stated}, its configuration gives {built}"
            )
    prior.card = card
    with torch.inference_mode(False):
        return prior.to(device=device, dtype=dtype)
