"""The state of a training on disk: written at once, read without executing anything."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from onmanifold.storage import DamagedFile

FILE = "last.ckpt"
FIELDS = {
    "step": int,
    "seconds": float,
    "device": str,
    "identity": dict,
    "module": dict,
    "optimizer": dict,
    "watch": dict,
}


def write_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write the state of a run, complete or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "next.ckpt", "wb") as stream:
        torch.save(state, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(folder / "next.ckpt", folder / FILE)


def read_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The state in a folder, on the CPU whatever device wrote it; None if there is none.

    Read as tensors and numbers: no code is executed.

    Raises:
        DamagedFile: it is not what was written.
    """
    file = folder / FILE
    if not file.exists():
        return None
    hint = "delete it, or train without --resume"
    try:
        with zipfile.ZipFile(file) as archive:  # torch reads wrong bits without a word
            if broken := archive.testzip():
                raise ValueError(f"its part {broken} was altered")
        state: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        LookupError,
        OSError,
    ) as error:
        message = (str(error).splitlines() or [type(error).__name__])[0]
        raise DamagedFile(
            f"{file} is damaged, or no checkpoint ({message[:200]}): {hint}"
        ) from error
    found = state if isinstance(state, dict) else {}
    wrong = [name for name, kind in FIELDS.items() if not isinstance(found.get(name), kind)]
    if wrong or found["step"] < 0 or found["step"] is True:
        raise DamagedFile(
            f"{file} is no checkpoint of this version: no {', '.join(wrong) or 'step'} in it; {hint}"
        )
    return found
