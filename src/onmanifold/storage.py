"""Folders of safetensors and JSON: written complete or not at all, read by sha256, never a pickle."""

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

from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from torch import Tensor

from onmanifold.errors import InputError


class DamagedFile(InputError):
    """A stored prior's file is not what was written: truncated, altered, or of another format."""


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
        raise InputError(
            f"{folder}: {name} has schema {record['schema']!r}, this version reads {schema}; "
            "a newer onmanifold may read it"
        )
    return dict(record)


def read_safetensors(folder: Traversable, name: str, record: str, sha256: str) -> dict[str, Tensor]:
    """The tensors of the file ``name``, checked by the sha256 that the file ``record`` holds.

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
