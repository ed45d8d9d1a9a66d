"""Priors on disk: ``weights.safetensors`` and ``card.json`` in one folder, and never a pickle.

The card says what the weights belong to (kind, configuration, shapes, dtype, sha256) and, in free
fields, what a user wants to know: name, description, value range and unit, training data, recipe,
metrics, licence.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors
from torch import Tensor

from onmanifold.prior import ManifoldPrior
from onmanifold.registry import configured, kind_of, prior_class

SCHEMA = 1
CARD, WEIGHTS = "card.json", "weights.safetensors"
OWN_FIELDS = ("schema", "kind", "config", "x_shape", "dim", "num_charts", "dtype", "sha256")
DTYPES = {"float32": torch.float32, "float64": torch.float64}


class DamagedFile(ValueError):
    """A stored prior's file is not what was written: truncated, altered, or of another format."""


def save_prior(
    prior: ManifoldPrior,
    directory: str | Path,
    card: dict[str, Any] | None = None,
    *,
    half: bool = False,
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

    Raises:
        ValueError: the class has no entry point, ``card`` sets a field that is written here, or
            ``half`` would change the weights.
        TypeError: the configuration or the card is not JSON-able, or the dtype is not a float of 32
            or 64 bits.
    """
    taken = sorted(set(card or {}) & {*OWN_FIELDS, "chart_dims"})
    if taken:
        raise ValueError(f"the card's fields {taken} are written from the prior: leave them out")
    if prior.dtype not in DTYPES.values():
        raise TypeError(f"a prior is stored in float32 or float64, this one is in {prior.dtype}")
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
            raise ValueError(
                f"{lossy[0]} and {len(lossy) - 1} more change in 16 bits: round them with "
                "prior.half().float() and measure the result before you store it so"
            )
        tensors = short
    weights = write_tensors(tensors)
    full = dict(card or {}) | {
        "schema": SCHEMA,
        "kind": kind_of(type(prior)),
        "config": prior.config(),
        "x_shape": list(prior.x_shape),
        "dim": prior.dim,
        "num_charts": prior.num_charts,
        **_unequal(prior),
        "dtype": str(prior.dtype).removeprefix("torch."),
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    text = json.dumps(full, indent=2, allow_nan=False) + "\n"
    write_folder(directory, {WEIGHTS: weights, CARD: text.encode()})


def _unequal(prior: ManifoldPrior) -> dict[str, list[int]]:
    """The card's field ``chart_dims``, where charts differ in dimension."""
    dims = list(prior.chart_dims)
    return {} if len(set(dims)) == 1 else {"chart_dims": dims}


def check_folder(directory: str | Path) -> Path:
    """A folder that files can be written to, whether it is there or not.

    Raises:
        FileExistsError: it, or something above it, is a file.
    """
    target = Path(directory)
    blocking = next((p for p in (target, *target.parents) if p.exists()), target)
    if blocking.exists() and not blocking.is_dir():
        raise FileExistsError(f"{blocking} is a file, expected a folder")
    return target


def write_folder(directory: str | Path, files: dict[str, bytes]) -> None:
    """Write ``files`` into ``directory`` through a temporary folder beside it.

    A new folder appears complete. In an existing one each file is replaced at once, in the given
    order; its other files stay.
    """
    target = check_folder(directory)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        temporary.chmod(0o755)  # mkdtemp's folders are private
        for name, content in files.items():
            with open(temporary / name, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        if not target.exists():
            temporary.rename(target)
            return
        for name in files:
            os.replace(temporary / name, target / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_card(folder: Traversable) -> dict[str, Any]:
    """The card of a stored prior.

    Raises:
        FileNotFoundError: there is none.
        DamagedFile: it is not JSON, or lacks a field.
        ValueError: it was written by a later version.
    """
    card = read_record(folder, CARD, "prior", OWN_FIELDS, SCHEMA)
    if card["dtype"] not in DTYPES:
        raise DamagedFile(f"{folder}: {CARD} says dtype {card['dtype']!r}, not one of {[*DTYPES]}")
    return card


def read_record(
    folder: Traversable, name: str, what: str, fields: Sequence[str], schema: int
) -> dict[str, Any]:
    """The JSON file ``name`` that says what a folder holds (a stored ``what``).

    Raises:
        FileNotFoundError: there is none.
        DamagedFile: it is not JSON, or lacks one of ``fields``.
        ValueError: its ``schema`` is another one, as a later version's is.
    """
    try:
        text = folder.joinpath(name).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{folder} holds no {name}: it is not a stored {what}") from None
    try:
        record = json.loads(text)
    except ValueError as error:
        raise DamagedFile(f"{folder}: {name} is not JSON ({error})") from None
    missing = [f for f in fields if f not in record] if isinstance(record, dict) else fields
    if missing:
        raise DamagedFile(f"{folder}: {name} lacks {', '.join(missing)}")
    if record["schema"] != schema:
        raise ValueError(
            f"{folder}: {name} has schema {record['schema']!r}, this version reads {schema}; "
            "a newer onmanifold may read it"
        )
    return dict(record)


def read_safetensors(folder: Traversable, name: str, record: str, sha256: str) -> dict[str, Tensor]:
    """The tensors of the file ``name``, whose checksum the file ``record`` told.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFile: it was truncated or altered, or is of another format.
    """
    try:
        data = folder.joinpath(name).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{folder} holds a {record} but no {name}") from None
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise DamagedFile(
            f"{folder}: {name} ({len(data)} bytes) is truncated or altered: its sha256 is "
            f"{found}, the {record} says {sha256}. It was not read; get the file again"
        )
    try:
        return read_tensors(data)
    except SafetensorError as error:
        raise DamagedFile(
            f"{folder}: {name} is not a safetensors file ({error}); a pickle is never read"
        ) from None


def load_prior_folder(
    directory: str | Path | Traversable,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> ManifoldPrior:
    """Read a prior that :func:`save_prior` wrote; in evaluation mode, its weights frozen.

    Args:
        directory: the folder with ``card.json`` and ``weights.safetensors``.
        device: where to put it; default: the CPU.
        dtype: in which dtype; default: as stored.

    Raises:
        FileNotFoundError: the folder or one of its files is missing.
        DamagedFile: a file was truncated or altered, or is of another format.
        LookupError: no entry point names the card's kind.
    """
    folder = Path(directory) if isinstance(directory, str) else directory
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    card = read_card(folder)
    cls = prior_class(card["kind"])
    state = read_safetensors(folder, WEIGHTS, CARD, card["sha256"])
    try:
        prior = build(cls, card["config"], state, DTYPES[card["dtype"]])
    except (RuntimeError, TypeError, KeyError, ValueError) as error:
        raise DamagedFile(
            f"{folder}: {CARD} and {WEIGHTS} do not fit {cls.__name__}: {error}"
        ) from error
    equal = [card["dim"]] * card["num_charts"]
    for field in ("x_shape", "dim", "num_charts", "chart_dims"):
        told, built = card.get(field, equal), getattr(prior, field)
        if (tuple(told) if isinstance(told, list) else told) != built:
            raise DamagedFile(
                f"{folder}: {CARD} says {field} {told}, its configuration gives {built}"
            )
    return prior.to(device=device, dtype=dtype)


def build(
    cls: type[ManifoldPrior], config: dict[str, Any], state: dict[str, Tensor], dtype: torch.dtype
) -> ManifoldPrior:
    """A prior of a class from its configuration and weights, in evaluation mode and frozen."""
    prior = configured(cls, config).to(dtype=dtype)
    prior.load_state_dict(state, strict=True)  # copied: keeps the memory layout
    return prior.requires_grad_(False).eval()
