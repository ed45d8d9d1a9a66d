"""Options on the command line."""

from collections.abc import Iterable
from enum import StrEnum


def one_of(names: Iterable[str]) -> type[StrEnum]:
    """The type of an option that is one of these names; typer refuses others and lists them.

    Example:
        >>> Part = one_of(["bars", "balls"])
        >>> Part("balls") == "balls", list(Part)
        (True, [<Name.bars: 'bars'>, <Name.balls: 'balls'>])
    """
    return StrEnum("Name", {name: name for name in names})
