"""Tables of numbers in text files, as instruments, spreadsheets and people write them."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onmanifold.errors import InputError

Array = NDArray[np.float64]

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf(inity)?)", re.IGNORECASE)
_COMMA = re.compile(r"[+-]?(\d+,\d*|,\d+)(e[+-]?\d+)?", re.IGNORECASE)
_WHOLE_PAIR = re.compile(r"[+-]?\d+,\d+(e[+-]?\d+)?", re.IGNORECASE)
_LONG = 12  # digits: a whole number with more is a fraction without its whole part


def read_table(path: str | Path, decimal: str | None = None) -> Array:
    """A table of numbers from a text file; empty fields are NaN.

    Semicolons, tabs, commas or spaces separate, the same in the whole file. Decimal commas are read where
    nothing is ambiguous. Comments begin with ``#`` or ``%``. On top there may be lines of words; any other
    line that is not understood is an error.

    Args:
        path: the file.
        decimal: ``"."`` or ``","``, where the file does not tell.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a field that is no number, rows of different lengths (the line is named), commas that
            could be decimal ones or separate, no numbers, or not a text file.
    """
    if decimal not in (None, ".", ","):
        raise InputError(f"decimal has to be '.' or ',', got {decimal!r}")
    lines = _lines(Path(path))
    if not lines:
        raise InputError(f"{path} holds no numbers")
    separator = _separator([text for _, text in lines], decimal)
    split = [(number, text, _fields(text, separator)) for number, text in lines]
    first = next((k for k, (_, _, fields) in enumerate(split) if _are_numbers(fields)), len(split))
    width = len(split[first][2]) if first < len(split) else 0
    for number, text, fields in split[:first]:
        if not _is_heading(text, fields, width):
            raise InputError(
                f"{path}, line {number} is not understood: {_short(text)!r} is neither numbers nor words"
            )
    rows = [_row(path, number, fields, width) for number, _, fields in split[first:]]
    if not rows:
        raise InputError(f"{path} holds no numbers")
    if decimal is None and separator == ",":
        _refuse_ambiguous(path, [text for _, text, _ in split[first:]])
    _refuse_mixed(path, [field for _, _, fields in split[first:] for field in fields], decimal)
    return np.array(rows)


def write_table(path: Path, values: NDArray[Any], title: str) -> None:
    """Write a table of numbers, with as many digits as they have; NaN stays an empty field."""
    rows = [",".join("" if v != v else repr(float(v)) for v in row) for row in values]
    path.write_text("\n".join([f"# {title}", *rows]) + "\n", encoding="utf-8")


def _lines(path: Path) -> list[tuple[int, str]]:
    """Number and text of each line that holds more than a comment."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a readable text file: {error}") from error
    bare = (re.split("[#%]", line)[0].strip(" \r\n") for line in lines)
    return [(k, text) for k, text in enumerate(bare, start=1) if text.strip()]


def _separator(lines: list[str], decimal: str | None) -> str | None:
    """What separates the fields of a file; ``None`` for spaces."""
    data = [re.sub(r'"[^"]*"', '""', text) for text in lines if not _begins_with_word(text)]
    for separator in (";", "\t"):
        if any(separator in text for text in data) and not _ends_fields(data, separator):
            return separator
    if decimal == "," or not any("," in text for text in data):
        return None
    words = [word for text in data for word in text.split()]
    several = any(len(text.split()) > 1 for text in data)
    decimals = all(_COMMA.fullmatch(word) or _NUMBER.fullmatch(word) for word in words)
    ended = any(word.endswith(",") for word in words)
    return None if several and decimals and not ended else ","


def _begins_with_word(text: str) -> bool:
    first = re.search(r"[^\W_]+", text)
    return first is None or (first[0][0].isalpha() and not _NUMBER.fullmatch(first[0]))


def _ends_fields(lines: list[str], separator: str) -> bool:
    """Whether commas separate, and the other separator only pads: ``1.0,<tab>2.0``."""
    return all(re.search(rf"[^,\s]\s*{separator}", text) is None for text in lines)


def _fields(text: str, separator: str | None) -> list[str]:
    if separator is None:
        return [field.strip('"') for field in text.split()]
    row = text.split(separator)
    if '"' in text:
        row = next(csv.reader([text], delimiter=separator, skipinitialspace=True), [text])
    return [field.strip() for field in row]


def _are_numbers(fields: list[str]) -> bool:
    return all(_number(field) is not None for field in fields)


def _number(field: str) -> float | None:
    """The number in a field, NaN where it is empty, ``None`` where it is no number."""
    if not field:
        return float("nan")
    if _COMMA.fullmatch(field):
        return float(field.replace(",", "."))
    return float(field) if _NUMBER.fullmatch(field) else None


def _is_heading(text: str, fields: list[str], width: int) -> bool:
    """Whether a line on top is clearly words: it begins with one, and is no row with a field spoilt."""
    numbers = any(field and _number(field) is not None for field in fields)
    return _begins_with_word(text) and not (numbers and len(fields) == width)


def _row(path: str | Path, number: int, fields: list[str], width: int) -> list[float]:
    values = [_number(field) for field in fields]
    if None in values:
        column = values.index(None)
        raise InputError(
            f"{path}, line {number}, column {column + 1}: {_short(fields[column])!r} is not a number"
        )
    if len(values) != width:
        raise InputError(
            f"{path}, line {number} has {len(values)} numbers, the lines above have {width}"
        )
    return [value for value in values if value is not None]


def _refuse_ambiguous(path: str | Path, lines: list[str]) -> None:
    """Refuse commas that may separate or be decimal ones.

    ``0,25`` alone in each line is either. So are more fields where all numbers are whole and every second one
    looks like a fraction: it begins with a zero, or has a great many digits.
    """
    fields = [text.replace(" ", "").split(",") for text in lines]
    pairs = all(_WHOLE_PAIR.fullmatch(text.strip()) for text in lines)
    even = len(fields[0]) % 2 == 0
    whole = all(re.fullmatch(r"[+-]?\d+", a) for row in fields for a in row[::2])
    second = [b for row in fields for b in row[1::2]]
    unsigned = all(re.fullmatch(r"\d+(e[+-]?\d+)?", b) for b in second)
    fractions = any(re.match(rf"0\d|\d{{{_LONG}}}", b) for b in second)
    switches = all(a in ("0", "1") for row in fields for a in row)  # which voltages are measured
    if (pairs and not switches) or (even and whole and unsigned and fractions):
        raise InputError(
            f"{path}: its commas may be decimal commas or separate numbers ({_short(lines[0])!r}); say which "
            "by decimal=',' or decimal='.', or separate the numbers by semicolons, tabs or spaces"
        )


def _refuse_mixed(path: str | Path, fields: list[str], decimal: str | None) -> None:
    """Refuse decimal points beside decimal commas: one of them separates thousands."""
    comma = next((f for f in fields if "," in f), None)
    point = next((f for f in fields if "." in f), None)
    if (comma and (point or decimal == ".")) or (point and decimal == ","):
        found = " and ".join(repr(f) for f in (comma, point) if f)
        said = "" if decimal is None else f" though decimal={decimal!r} was passed"
        raise InputError(
            f"{path} holds {found}{said}: all numbers have to have one decimal sign, a comma or a point, "
            "without separators of thousands"
        )


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
