"""Options on the command line."""

from collections.abc import Iterable
from enum import StrEnum


class _Name(StrEnum):
    """A text outside of typer: so it looks, and so it is pickled."""

    def __repr__(self) -> str:
        return repr(str(self))

    def __reduce_ex__(self, protocol: object) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


def one_of(names: Iterable[str]) -> type[StrEnum]:
    """The type of an option that is one of these names; typer refuses others and lists them.

    Example:
        >>> Part = one_of(["bars", "balls"])
        >>> Part("balls") == "balls", list(Part)
        (True, ['bars', 'balls'])
    """
    return _Name("Name", {name: name for name in names})
