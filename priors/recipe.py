"""Recipes: everything that a training run depends on, in one file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onmanifold._checks import check_count
from onmanifold.priors.atlas.atlas import Atlas, AtlasConfig
from onmanifold.priors.atlas.training import AtlasTraining, Schedule
from onmanifold.priors.manifolds import DataManifold
from onmanifold.registry import load_manifold

PRECISIONS = ("32-true", "bf16-mixed")
RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Recipe:
    """Everything that a training run depends on, read from a TOML file.

    Attributes:
        name: name of the prior.
        card: free text for its card (description, value range, unit, licence).
        data: name of the data manifold, and its options.
        atlas: arguments of :class:`AtlasConfig`, ``x_shape`` aside.
        schedule: arguments of :class:`Schedule`.
        seed: seed of weights, data and noise.
        precision: lightning's precision, ``"32-true"`` or ``"bf16-mixed"``.
        threads: of torch on the CPU, by default as many as there are cores. Sums depend on their number in
            the last digits, which training enlarges: only a fixed number repeats a run to the bit.
    """

    name: str
    card: dict[str, str]
    data: dict[str, Any]
    atlas: dict[str, Any]
    schedule: dict[str, Any]
    seed: int = 0
    precision: str = "32-true"
    threads: int | None = None

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """Read a recipe file, or a shipped recipe by its name.

        Raises:
            ValueError: no such recipe, or a key that is missing or unknown.

        Example:
            >>> Recipe.read("sphere").atlas["charts"]
            2
        """
        shipped = {file.stem: file for file in sorted(RECIPES.glob("*.toml"))}
        file = shipped.get(str(path), Path(path))
        if not file.is_file():
            raise ValueError(
                f"no recipe {str(path)!r}; shipped: {', '.join(shipped)}, or give a file"
            )
        try:
            told = tomllib.loads(file.read_text())
            if "file" in told.get("data", {}):  # is named relative to the recipe
                told["data"]["file"] = str(file.parent / told["data"]["file"])
            recipe = cls(**told)
            if recipe.precision not in PRECISIONS:
                raise ValueError(f"precision {recipe.precision!r}; known: {', '.join(PRECISIONS)}")
            if recipe.threads is not None:
                check_count(recipe.threads, "threads")
        except (TypeError, ValueError) as error:
            raise ValueError(f"{file.name}: {error}") from error
        return recipe

    def with_charts(self, number: int) -> Recipe:
        """The same with another number of charts, for comparison; its name says so.

        Example:
            >>> Recipe.read("sphere").with_charts(1).name
            'sphere-1'
        """
        check_count(number, "charts")
        return replace(self, name=f"{self.name}-{number}", atlas=self.atlas | {"charts": number})

    def load_data(self) -> DataManifold:
        """The data manifold.

        Raises:
            ValueError: an unknown name, options that it does not take, or a file that cannot be read.
        """
        if "name" not in self.data:
            raise ValueError(f"recipe {self.name}: [data] names no data manifold")
        try:
            data: DataManifold = load_manifold(**self.data)
        except (LookupError, TypeError, ValueError, OSError) as error:
            raise ValueError(f"recipe {self.name}: {error}") from error
        return data

    def prepare(self) -> AtlasTraining:
        """The training of this recipe before its first step; all that could be wrong is found here.

        Raises:
            ValueError: an unknown argument, sizes that do not fit each other, or data that cannot be learned
                (NaN, constant, fewer examples than charts).
        """
        data = self.load_data()
        try:
            atlas = Atlas(AtlasConfig(x_shape=data.x_shape, **self.atlas))
            schedule = Schedule(**self.schedule)
        except (TypeError, ValueError) as error:
            raise ValueError(f"recipe {self.name}: {error}") from error
        return AtlasTraining(atlas, data, schedule, self.seed)
