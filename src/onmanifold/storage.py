"""Folders of safetensors and JSON: written complete or not at all, read by sha256, never a pickle."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources.abc import Traversable
from math import prod
from pathlib import Path
from typing import IO, Any

from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from torch import Tensor

from onmanifold.errors import InputError

LARGEST_RECORD = 2**24  # bytes of a JSON file
LARGEST_HEADER = 2**24  # bytes of a safetensors file's header; one of the priors here has 50 000
_ITEM = {
    **{"BOOL": 1, "U8": 1, "I8": 1, "F16": 2, "BF16": 2, "I16": 2, "U16": 2},
    **{"F32": 4, "I32": 4, "U32": 4, "F64": 8, "I64": 8, "U64": 8},
}  # bytes of a number, by the names that safetensors has for dtypes


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
        DamagedFile: it is not JSON, too large, no ordinary file, or lacks one of ``fields``.
        ValueError: its ``schema`` is another one, as a later version's is.
    """
    missing_file = f"{folder} holds no {name}: it is not a stored {what}"
    with _opened(folder, name, missing_file) as (stream, size):
        if size > LARGEST_RECORD:
            raise DamagedFile(
                f"{folder}: {name} has {size} bytes, a stored {what} has at most {LARGEST_RECORD}; it was "
                "not read"
            )
        text = stream.read(size)
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
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

    Its header is looked at first: nothing is read into memory that it does not announce.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFile: it was truncated or altered, or is of another format.
    """
    with _opened(folder, name, f"{folder} holds a {record} but no {name}") as (stream, size):
        _check_header(stream, size, f"{folder}: {name}")
        stream.seek(0)
        data = stream.read(size)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise DamagedFile(
            f"{folder}: {name} ({len(data)} bytes) is truncated or altered: its sha256 is "
            f"{found}, the {record} says {sha256}. It was not used; get the file again"
        )
    try:
        return read_tensors(data)
    except SafetensorError as error:
        raise DamagedFile(f"{folder}: {name} is not a safetensors file ({error})") from None


@contextmanager
def _opened(folder: Traversable, name: str, missing: str) -> Iterator[tuple[IO[bytes], int]]:
    """An ordinary file in a folder, opened to read, and its size in bytes.

    Raises:
        FileNotFoundError: there is none; with the message ``missing``.
        DamagedFile: it is a folder, a device, a pipe.
    """
    file = folder.joinpath(name)
    if not file.is_file():
        if isinstance(file, Path) and file.exists():
            raise DamagedFile(f"{folder}: {name} is no ordinary file; it was not read")
        raise FileNotFoundError(missing)
    with file.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        yield stream, size


def _check_header(stream: IO[bytes], size: int, name: str) -> None:
    """Raise unless the header of a safetensors file announces what follows it, to the byte."""
    wrong = f"{name} is not a safetensors file"
    length = int.from_bytes(stream.read(8), "little")
    if size < 8 or not 2 <= length <= min(size - 8, LARGEST_HEADER):
        raise DamagedFile(f"{wrong}: it does not begin with a header; a pickle is never read")
    try:
        header = json.loads(stream.read(length))
        end = _announced(header)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamagedFile(f"{wrong}: its header is damaged ({error})") from None
    if 8 + length + end != size:
        raise DamagedFile(
            f"{name} is truncated or altered: it has {size} bytes, its header announces "
            f"{8 + length + end}. It was not read; get the file again"
        )


def _announced(header: dict[str, Any]) -> int:
    """How many bytes the tensors of a header take; they have to follow each other."""
    end = 0
    tensors = [value for key, value in header.items() if key != "__metadata__"]
    for tensor in sorted(tensors, key=lambda tensor: tuple(tensor["data_offsets"])):
        first, last = tensor["data_offsets"]
        if not all(type(n) is int and n >= 0 for n in (*tensor["shape"], first, last)):
            raise ValueError("sizes have to be numbers from 0 on")
        if first != end or last - first != prod(tensor["shape"]) * _ITEM[tensor["dtype"]]:
            raise ValueError("its tensors do not follow each other")
        end = last
    return end
