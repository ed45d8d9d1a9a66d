"""Short prints: results as a table, in text and in a notebook, and tensors by their shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from html import escape
from typing import Any

from torch import Tensor, nn

_FEW = 4  # numbers that are written out
MOST = 10  # rows that are printed where nobody asked for all


@dataclass(frozen=True)
class Table:
    """Rows of text below their names.

    Attributes:
        names: of the columns; those before the last stand to the right, under each other.
        rows: as many cells each.
    """

    names: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self, most: int | None = None) -> str:
        """Lines of text, at most ``most`` rows.

        Example:
            >>> print(Table(("", "misfit", "status"), [("0", "1.5", "STALLED")]).text())
              misfit status
            0    1.5 STALLED
        """
        shown = self.rows[:most]
        widths = [max(map(len, column)) for column in zip(self.names, *shown, strict=True)]
        lines = [
            " ".join([*(c.rjust(w) for c, w in zip(row[:-1], widths, strict=False)), row[-1]])
            for row in (self.names, *shown)
        ]
        return "\n".join([*lines, *self._rest(most)])

    def html(self, title: str, most: int | None = None) -> str:
        """A table for a notebook, below its title."""

        def line(tag: str, cells: Sequence[str]) -> str:
            inside = "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)
            return f"<tr>{inside}</tr>"

        head = f"<thead>{line('th', self.names)}</thead>"
        body = "".join(line("td", row) for row in self.rows[:most])
        rest = "".join(f"<p>{escape(line)}</p>" for line in self._rest(most))
        return f"<p>{escape(title)}</p><table>{head}<tbody>{body}</tbody></table>{rest}"

    def _rest(self, most: int | None) -> list[str]:
        left = 0 if most is None else len(self.rows) - most
        return [f"and {left} more"] if left > 0 else []


class Brief:
    """A dataclass that prints its tensors by shape and dtype; a subclass says ``repr=False``.

    Example:
        >>> import torch
        >>> @dataclass(frozen=True, repr=False)
        ... class Pair(Brief):
        ...     name: str
        ...     values: Tensor
        >>> Pair("noise", torch.zeros(2, 28, 28))
        Pair(name='noise', values=tensor (2, 28, 28) float32)
    """

    def __repr__(self) -> str:
        shown = [f for f in fields(self) if f.repr]  # type: ignore[arg-type]
        parts = [f"{f.name}={brief(getattr(self, f.name))}" for f in shown]
        return f"{type(self).__name__}({', '.join(parts)})"


def brief(value: Any) -> str:
    """One value in a few words: a few numbers are written out, more of them are described.

    Example:
        >>> import torch
        >>> brief(torch.tensor([0.5, 0.25])), brief(torch.zeros(28, 28))
        ('tensor([0.5000, 0.2500])', 'tensor (28, 28) float32')
    """
    if isinstance(value, Tensor) and (value.numel() > _FEW or value.ndim > 1):
        return f"tensor {tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    plain: tuple[Any, ...] = (object.__repr__, nn.Module.__repr__)  # an address, or all layers
    if type(value).__repr__ in plain:
        return type(value).__name__
    return repr(value)
