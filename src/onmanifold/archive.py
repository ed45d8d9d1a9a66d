"""Solutions on disk: ``tensors.safetensors`` and ``solution.json`` in one folder, and never a pickle.

The two hold the fields of the dataclasses, whichever they are: tensors by dotted name, and the rest as
JSON. The problem is not among them: an operator is code.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, fields, is_dataclass, replace
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
from safetensors.torch import save as write_tensors
from torch import Tensor

from onmanifold.descent.problem import Problem
from onmanifold.errors import InputError
from onmanifold.solution import Solution
from onmanifold.storage import (
    DamagedFile,
    check_folder,
    read_record,
    read_safetensors,
    write_folder,
)

SCHEMA = 1
RECORD, TENSORS = "solution.json", "tensors.safetensors"
OWN_FIELDS = ("format", "schema", "sha256", "solution")
FORMAT = "onmanifold.Solution"


def save_solution(solution: Solution, directory: str | Path) -> None:
    """Write ``solution`` to ``directory``, complete or not at all.

    Args:
        solution: what to write; its ``problem`` is left out.
        directory: folder to make; a solution that is there already is replaced.

    Raises:
        FileExistsError: the folder holds something else, or is a file.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from onmanifold import Solution, load_prior, solve
        >>> solution = solve(lambda x: x, torch.ones(1, 2), load_prior("ring"))
        >>> with TemporaryDirectory() as folder:
        ...     solution.save(folder)
        ...     again = Solution.load(folder)
        >>> again.x.equal(solution.x), again.problem is None
        (True, True)
    """
    target = check_folder(directory)
    if target.is_dir() and any(target.iterdir()) and not (target / RECORD).is_file():
        raise FileExistsError(f"{target} holds something else: name a new folder, or an empty one")
    tensors: dict[str, Tensor] = {}
    tree = _pack(replace(solution, problem=None), "", tensors)
    data = write_tensors(tensors)
    record = {
        "format": FORMAT,
        "schema": SCHEMA,
        "sha256": hashlib.sha256(data).hexdigest(),
        "versions": {name: version(name) for name in ("onmanifold", "torch")},
        "solution": tree,
    }
    text = json.dumps(record, indent=2) + "\n"
    write_folder(target, {TENSORS: data, RECORD: text.encode()})


def load_solution(directory: str | Path, problem: Problem | None = None) -> Solution:
    """Read what :func:`save_solution` wrote, every number as it was.

    Args:
        directory: the folder.
        problem: what was solved, from :func:`onmanifold.descent.problem.build_problem` with the arguments of
            :func:`onmanifold.solve`; ``plot_path`` needs it. The tensors go to its device, else to the
            CPU.

    Raises:
        FileNotFoundError: the folder or one of its files is missing.
        DamagedFile: a file was truncated or altered, or is of another format.
        ValueError: it was written by a later version, or ``problem`` has other measurements.

    Example:
        >>> load_solution("nowhere")
        Traceback (most recent call last):
        FileNotFoundError: there is no folder nowhere
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    record = read_record(folder, RECORD, "solution", OWN_FIELDS, SCHEMA)
    if record["format"] != FORMAT:
        raise DamagedFile(f"{folder}: {RECORD} says format {record['format']!r}, not {FORMAT!r}")
    tensors = read_safetensors(folder, TENSORS, RECORD, record["sha256"])
    device = torch.device("cpu") if problem is None else problem.measurement.device
    tensors = {name: value.to(device) for name, value in tensors.items()}
    try:
        solution: Solution = _unpack_fields(Solution, record["solution"], "", tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFile(
            f"{folder}: {RECORD} and {TENSORS} do not make a solution: {error}"
        ) from error
    if problem is None:
        return solution
    if not torch.equal(problem.measurement, solution.measurement):
        raise InputError("problem has other measurements than the solution: build it with the same")
    return replace(solution, problem=problem)


def _pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """What JSON holds of a value; its tensors go to ``tensors``, by dotted name."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous().clone()
        return f"{value.dtype}".removeprefix("torch.") + f" {tuple(value.shape)}"  # for readers
    if is_dataclass(value):
        parts = {f.name: getattr(value, f.name) for f in fields(value)}
        return {part: _pack(v, f"{name}.{part}".lstrip("."), tensors) for part, v in parts.items()}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, tuple):
        return [_pack(v, f"{name}.{i}", tensors) for i, v in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{name} is a {type(value).__name__}, which is not stored")


def _unpack(hint: Any, tree: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """The value of a type, from what :func:`_pack` made of it."""
    if name in tensors:
        return tensors[name]
    if tree is None:
        return None
    options = [hint, *get_args(hint)]  # of ``History | None`` the class is an argument
    kind = next((o for o in options if isinstance(o, type)), None)
    if isinstance(tree, dict) and is_dataclass(kind):
        return _unpack_fields(kind, tree, name, tensors)
    if isinstance(tree, list):
        return tuple(_unpack(kind, v, f"{name}.{i}", tensors) for i, v in enumerate(tree))
    return kind[tree] if isinstance(kind, type) and issubclass(kind, Enum) else tree


def _unpack_fields(kind: Any, tree: dict[str, Any], name: str, tensors: dict[str, Tensor]) -> Any:
    """A dataclass; fields that an earlier version did not have keep their default."""
    hints = get_type_hints(kind, localns={"Problem": Any})
    values = {}
    for field in fields(kind):
        if field.name in tree:
            part = f"{name}.{field.name}".lstrip(".")
            values[field.name] = _unpack(hints[field.name], tree[field.name], part, tensors)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise KeyError(f"{kind.__name__}.{field.name} is missing")
    return kind(**values)
