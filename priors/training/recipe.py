"""Recipes: everything that a training run depends on, in one file."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import files
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from onmanifold.checks import check_count
from onmanifold.entry_points import METHODS, load, plugins
from onmanifold.errors import InputError, InputTypeError
from onmanifold.plugins import dataset_names, load_dataset
from onmanifold.priors.datasets import Dataset
from onmanifold.priors.training.method import TrainingMethod

PRECISIONS = ("32-true", "bf16-mixed")
LARGEST_SEED = 2**32 - 1
IN_MEMORY = "in memory"  # instead of a data set's name
RECIPES = Path(str(files("onmanifold.priors"))) / "recipes"


@dataclass(frozen=True)
class Recipe:
    """Everything that a training run depends on, read from a TOML file.

    Attributes:
        name: name of the prior.
        card: free text for its card (description, value range, unit, licence).
        data: name of the data set, and its options.
        model: arguments of the prior's configuration, ``x_shape`` aside.
        schedule: arguments of the method's schedule.
        loss: numbers in the method's loss, where it has any to choose.
        method: name of the training method, see :func:`method_names`.
        seed: seed of weights, data and noise.
        precision: ``"32-true"``, or ``"bf16-mixed"``: matrix products and convolutions in 16 bits.
        threads: of torch on the CPU, by default as many as there are cores. Their number changes the last
            digits of sums, and training enlarges such differences: a run repeats bit by bit only with a
            fixed number.
    """

    name: str
    card: dict[str, str]
    data: dict[str, Any]
    model: dict[str, Any]
    schedule: dict[str, Any]
    loss: dict[str, Any] = field(default_factory=dict)
    method: str = "atlas"
    seed: int = 0
    precision: str = "32-true"
    threads: int | None = None

    def __post_init__(self) -> None:
        seed = check_count(self.seed, "seed", at_least=0)
        if seed > LARGEST_SEED:
            raise InputError(f"seed has to be at most {LARGEST_SEED}, got {seed}")
        threads = None if self.threads is None else check_count(self.threads, "threads")
        if self.precision not in PRECISIONS:
            raise InputError(f"precision {self.precision!r}; known: {', '.join(PRECISIONS)}")
        for name in ("card", "data", "model", "schedule", "loss"):
            table = getattr(self, name)
            if not isinstance(table, Mapping):
                raise InputTypeError(f"[{name}] has to be a table, got {type(table).__name__}")
            object.__setattr__(self, name, _plain(table, f"[{name}]"))
        object.__setattr__(self, "seed", seed)
        object.__setattr__(self, "threads", threads)

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """Read a recipe file, or a shipped recipe by its name.

        Raises:
            ValueError: no such recipe, or a key that is missing or unknown.

        Example:
            >>> Recipe.read("sphere").model["charts"]
            2
        """
        shipped = {file.stem: file for file in sorted(RECIPES.glob("*.toml"))}
        file = shipped.get(str(path), Path(path))
        if not file.is_file():
            raise InputError(
                f"no recipe {str(path)!r}; shipped: {', '.join(shipped)}, or give a file"
            )
        try:
            tables = tomllib.loads(file.read_text("utf-8-sig"))
            if "file" in tables.get("data", {}):  # is named relative to the recipe
                tables["data"]["file"] = str(file.parent / tables["data"]["file"])
            return cls(**tables)
        except (TypeError, ValueError) as error:
            raise InputError(f"{file.name}: {error}") from error

    def with_data(self, name: str) -> Recipe:
        """The same for another data set, by its name, or for examples in a file or folder, by its path."""
        path = Path(name)
        if name in dataset_names() or not path.exists():
            return replace(self, name=f"{name}-{self.method}", data={"name": name})
        data = {"name": "examples", "file": str(path.absolute())}
        return replace(self, name=f"{path.absolute().stem}-{self.method}", data=data)

    def with_charts(self, number: int) -> Recipe:
        """The same with another number of charts, which is appended to its name.

        Example:
            >>> Recipe.read("sphere").with_charts(1).name
            'sphere-1'
        """
        check_count(number, "charts")
        if self.method != "atlas":
            raise InputError(
                f"{self.name}: method {self.method!r} has one chart, only an atlas more"
            )
        return replace(self, name=f"{self.name}-{number}", model=self.model | {"charts": number})

    def load_data(self) -> Dataset:
        """The data set.

        Raises:
            ValueError: an unknown name, options that it does not take, or a file that cannot be read.
        """
        if self.data.get("name") == IN_MEMORY:
            raise InputError(
                f"recipe {self.name}: its examples were in memory: pass them (data=...), or take a recipe "
                "that names their file"
            )
        if "name" not in self.data:
            raise InputError(f"recipe {self.name}: [data] names no data set")
        try:
            data: Dataset = load_dataset(**self.data)
        except (LookupError, TypeError, ValueError, OSError) as error:
            raise InputError(f"recipe {self.name}: {error}") from error
        return data

    def prepare(self, data: Dataset | None = None) -> TrainingMethod:
        """The training of this recipe before its first step; bad arguments and data are found here.

        Args:
            data: the examples, where the recipe names none that can be loaded.

        Raises:
            ValueError: an unknown method or argument, sizes that do not fit each other, or data that cannot
                be learned (NaN, constant, too few examples).
        """
        data = self.load_data() if data is None else data
        try:
            method: type[TrainingMethod] = load(METHODS, "method", self.method)
            return method.prepare(data, self.model, self.schedule, self.loss, self.seed)
        except (LookupError, TypeError, ValueError) as error:
            raise InputError(f"recipe {self.name}: {error}") from error

    def text(self) -> str:
        """The recipe as a TOML file, which :meth:`read` reads.

        Example:
            >>> print(Recipe("mine", {}, {"name": "bar"}, {"dim": 2}, {}).text().splitlines()[0])
            name = "mine"
        """
        tables = {name: value for name, value in asdict(self).items() if isinstance(value, dict)}
        plain = {name: value for name, value in asdict(self).items() if name not in tables}
        lines = _assignments(plain)
        for name, table in tables.items():
            lines += ["", f"[{name}]", *_assignments(table)]
        return "\n".join(lines) + "\n"


def _assignments(table: Mapping[str, Any]) -> list[str]:
    return [
        f"{json.dumps(k)} = {_toml(v)}" if not k.isidentifier() else f"{k} = {_toml(v)}"
        for k, v in table.items()
        if v is not None
    ]


def _toml(value: Any) -> str:
    """A value of TOML within a line; numbers, texts and lists are written as in JSON."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(_assignments(value)) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(each) for each in value) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # nan, inf
    return json.dumps(value)


def _plain(value: Any, name: str) -> Any:
    """``value`` of what JSON and TOML hold: a recipe goes into cards and checkpoints, which hold no objects.

    Numpy's scalars and arrays become numbers and lists, paths become text.

    Raises:
        TypeError: another object, and where it is.
    """
    if isinstance(value, Mapping):
        return {str(key): _plain(each, f"{name}: {key}") for key, each in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(each, name) for each in value]
    if isinstance(value, PurePath):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise InputTypeError(
        f"{name} has to be a number, text, list or table, got {type(value).__name__}"
    )


def method_names() -> list[str]:
    """Names of the installed training methods.

    Example:
        >>> "atlas" in method_names()
        True
    """
    return list(plugins(METHODS))
