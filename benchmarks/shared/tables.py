"""Aligned tables on the terminal."""

import re
from collections.abc import Iterable, Mapping


class Table:
    """A table that prints its head at once and each row as soon as it is known.

    Args:
        columns: title and format of each column. The format is that of :func:`format`, as ``"8.3f"``; a text
            is printed as it is. Columns are aligned to the right, or to the left by ``"<20"``.

    Example:
        >>> table = Table({"bar": "<4", "error": "6.2f"})
        bar    error
        >>> table.row("left", 0.123)
        left    0.12
    """

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._formats = list(columns.values())
        self._widths = [max(len(title), _width(how)) for title, how in columns.items()]
        self._print(columns)

    def row(self, *cells: object) -> None:
        """Print one entry for each column; one-element tensors are numbers."""
        self._print(_text(cell, how) for cell, how in zip(cells, self._formats, strict=True))

    def _print(self, texts: Iterable[str]) -> None:
        columns = zip(texts, self._widths, self._formats, strict=True)
        aligned = (t.ljust(w) if f.startswith("<") else t.rjust(w) for t, w, f in columns)
        print("  ".join(aligned).rstrip(), flush=True)


def _width(how: str) -> int:
    """The format's own width; room for most numbers where a float's format has none."""
    return int(re.sub(r"^[<>]?(\d*).*", r"\1", how) or (7 if how[-1:] in {"f", "e", "%"} else 0))


def _text(cell: object, how: str) -> str:
    if isinstance(cell, str):
        return cell
    return format(getattr(cell, "item", lambda: cell)(), how).strip()


def rounded(values: Iterable[float], digits: int = 3) -> list[float]:
    """Plain numbers, to print."""
    return [round(float(value), digits) for value in values]
