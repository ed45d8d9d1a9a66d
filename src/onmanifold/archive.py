"""Solutions on disk: ``tensors.safetensors`` and ``solution.json`` in one folder, and never a pickle.

The two hold the fields of the dataclasses: tensors by dotted name, and the rest as JSON. The problem
is not among them: an operator is code.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as write_tensors
from torch import Tensor

from onmanifold.descent.problem import Problem
from onmanifold.errors import InputError
from onmanifold.in_kind import in_kind
from onmanifold.solution import FinalPoints, Solution, consistency
from onmanifold.status import History, Status
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
_PARTS = {"history": History, "final_points": FinalPoints}


@in_kind
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
        "results": [  # for readers
            {"status": status.name, "consistent": consistency(float(p))[1]}
            for status, p in zip(solution.status, solution.p_value, strict=True)
        ],
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
        solution: Solution = _unpack(Solution, record["solution"], "", tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFile(
            f"{folder}: {RECORD} and {TENSORS} do not make a solution: {error}"
        ) from error
    if problem is None:
        return solution
    if not torch.equal(problem.measurement, solution.measurement):
        raise InputError("problem has other measurements than the solution: build it with the same")
    return replace(solution, problem=problem)


def _pack(value: Any, prefix: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """What JSON holds of a dataclass; its tensors go to ``tensors``, by dotted name."""
    tree: dict[str, Any] = {}
    for field in fields(value):
        part, name = getattr(value, field.name), prefix + field.name
        if isinstance(part, Tensor):
            tensors[name] = part.detach().cpu().contiguous().clone()
            part = f"{part.dtype}".removeprefix("torch.") + f" {tuple(part.shape)}"  # for readers
        elif field.name in _PARTS:
            part = _pack(part, f"{name}.", tensors)
        elif field.name == "status":
            part = [status.name for status in part]
        elif not (part is None or isinstance(part, bool | int | float | str)):
            raise TypeError(f"{name} is a {type(part).__name__}, which is not stored")
        tree[field.name] = part
    return tree


def _unpack(kind: Any, tree: dict[str, Any], prefix: str, tensors: dict[str, Tensor]) -> Any:
    """A dataclass from what :func:`_pack` made of it; fields that are not there keep their default."""
    values = dict(tree)
    for name, value in values.items():
        if prefix + name in tensors:
            values[name] = tensors[prefix + name]
        elif name in _PARTS:
            values[name] = _unpack(_PARTS[name], value, f"{prefix}{name}.", tensors)
        elif name == "status":
            values[name] = tuple(Status[member] for member in value)
    return kind(**values)
