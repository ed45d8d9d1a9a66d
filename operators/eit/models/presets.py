"""Protocols by the names that users of pyEIT and EIDORS know, with the order of their voltages in files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onmanifold.errors import InputError, InputTypeError
from onmanifold.operators.eit.arguments import electrode_count
from onmanifold.operators.eit.models.protocol import Protocol

KNOWN = (
    "adjacent16, opposite16, skip-2, pyeit, pyeit16, pyeit-opposite, pyeit-skip-2, pyeit-rotated, eidors, "
    "eidors-opposite, '[0 1],[0 1]'"
)
"""Examples of names, for messages."""

_FEWEST, _MOST = 8, 256  # electrodes that are tried where their number is not said
_NAME = re.compile(
    r"(?:(?P<by>pyeit|eidors)-?)?(?P<drive>adjacent|opposite|skip-?(?P<skip>\d+))?"
    r"(?:-?(?P<electrodes>\d+))?"
)
_PAIR = r"(\[\s*-?\d+[\s,]+-?\d+\s*\]|\{(?:ad|op)\})"
_EIDORS = re.compile(rf"{_PAIR}\s*,\s*{_PAIR}(?P<options>(?:\s*,\s*\w+)*)")
_OPTIONS = ("rotate_meas", "no_rotate_meas", "meas_current", "no_meas_current")


@dataclass(frozen=True, eq=False)
class NamedProtocol:
    """A protocol, and where files that are said to be of it have each voltage.

    Attributes:
        name: with the number of electrodes, as :func:`convention` reads it.
        protocol: injections and patterns.
        order: where in a file's row each of the measured voltages is, ``(K,)``; ``None``: in their order.
        first_angle: where its models have the first electrode, degrees.
        clockwise: in which sense its models count the electrodes.
    """

    name: str
    protocol: Protocol
    order: NDArray[np.intp] | None = None
    first_angle: float = 0.0
    clockwise: bool = False


@dataclass(frozen=True)
class Convention:
    """What a name says of a protocol, whatever the number of electrodes.

    Attributes:
        name: with ``#`` where the number of electrodes goes.
        drive: electrodes of the first injection that the current enters and leaves; the next injection
            is one electrode further, and so on around. ``None`` for the opposite one.
        measure: electrodes of the first pattern whose potentials count as positive and negative.
        electrodes: number of electrodes, if the name says it.
        rotated: whether the first voltage of each injection is that of its own pair, not of the first one.
        driven: whether voltages at driven electrodes are in the file; ``None``: their number tells.
        half: whether only the first half of the electrodes drives: the others would repeat it.
        first_angle: see :class:`NamedProtocol`.
        clockwise: see :class:`NamedProtocol`.
    """

    name: str
    drive: tuple[int | None, int | None] = (0, 1)
    measure: tuple[int | None, int | None] = (0, 1)
    electrodes: int | None = None
    rotated: bool = False
    driven: bool | None = None
    half: bool = False
    first_angle: float = 0.0
    clockwise: bool = False

    def counts(self, electrodes: int) -> Iterator[tuple[int, int, bool]]:
        """Numbers of injections and voltages without and with those at driven electrodes."""
        drive, measure = (self._pair(pair, electrodes) for pair in (self.drive, self.measure))
        if drive[0] == drive[1] or measure[0] == measure[1]:
            return
        touched = {(d - m) % electrodes for d in drive for m in measure}
        for driven in (False, True) if self.driven is None else (self.driven,):
            each = electrodes if driven else electrodes - len(touched)
            injections = electrodes // 2 if self.half else electrodes
            if each > 0 and not (self.half and electrodes % 2):
                yield injections, injections * each, driven

    def fitting(self, shape: Sequence[int]) -> list[NamedProtocol]:
        """The protocols of which an array of this shape holds one or several measurements."""
        said = self.electrodes
        fits: dict[bool, list[tuple[int, bool]]] = {True: [], False: []}
        for count in range(_FEWEST, _MOST + 1) if said is None else (said,):
            for injections, voltages, driven in self.counts(count):
                if (whole := _holds(tuple(shape), injections, voltages)) is not None:
                    fits[whole].append((count, driven))
        # a matrix of the right shape is one measurement, not rows of a smaller protocol
        return [self.made(*variant) for variant in fits[True] or fits[False]]

    def made(self, electrodes: int, driven: bool) -> NamedProtocol:
        """The protocol of so many electrodes, with or without voltages at driven ones."""
        count = electrode_count(electrodes, "electrodes")
        source, sink = self._pair(self.drive, count)
        plus, minus = self._pair(self.measure, count)
        injections = range(count // 2 if self.half else count)
        protocol = Protocol.from_pairs(
            count,
            [((n + source) % count, (n + sink) % count) for n in injections],
            measure=[((n + plus) % count, (n + minus) % count) for n in range(count)],
            drop_driven=not driven,
        )
        order = _rotated(protocol) if self.rotated else None
        return NamedProtocol(
            self.name.replace("#", str(count)), protocol, order, self.first_angle, self.clockwise
        )

    @staticmethod
    def _pair(pair: tuple[int | None, int | None], electrodes: int) -> tuple[int, int]:
        """Offsets of a pair of electrodes; ``None`` is half way around."""
        first, second = (electrodes // 2 if k is None else k % electrodes for k in pair)
        return first, second


def convention(name: str) -> Convention:
    """What the name of a protocol says.

    Names, where N is the number of electrodes and K one of electrodes between the driven ones. N may be
    left out: from 8 on, the number of voltages tells it. Voltages come injection after injection, in each
    from the first pattern on; with ``-rotated`` from the injection's own pair on.

    - ``adjacentN``, ``oppositeN``, ``skip-K-N``: as :meth:`Protocol.adjacent` has them, current from n to
      n + 1, voltages ``U_m - U_m+1``; the first electrode at 3 o'clock, counterclockwise.
    - ``pyeitN``, ``pyeit-oppositeN``, ``pyeit-skip-K-N``, ``...-rotated`` (``parser_meas="rotate_meas"``):
      current from n to n + 1, voltages ``U_m+1 - U_m``; the first electrode at 9 o'clock, clockwise.
    - ``eidorsN``, ``eidors-oppositeN``, ``eidors-skip-K-N``, ``...-rotated``, or what ``mk_stim_patterns``
      takes: ``[0 1],[0 1]``, ``{op},{ad}``, ``[0 1],[0 1],16,rotate_meas``: current from n + 1 to n,
      voltages ``U_m - U_m+1``; the first electrode on top, clockwise. These numbers are those of pyEIT.

    Raises:
        ValueError: another name.

    Example:
        >>> (found,) = convention("pyeit").fitting((208,))
        >>> found.protocol.electrodes, found.protocol.shape
        (16, (208,))
        >>> [p.name for p in convention("[0 8],[0 1]").fitting((192, 50))]
        ['[0 8],[0 1],16']
    """
    if not isinstance(name, str):
        raise InputTypeError(f"protocol has to be a name or a Protocol, got {name!r}")
    text = name.strip().lower()
    if match := _EIDORS.fullmatch(text):
        return _of_eidors(text, match)
    rotated = (
        "-rotated" if "-rotated" in text else ""
    )  # before the number of electrodes, or after it
    match = _NAME.fullmatch(text.replace("-rotated", "", 1))
    if match is None or not (match["by"] or match["drive"]):
        raise InputError(f"unknown protocol {name!r}; names are such as {KNOWN}")
    last = {"adjacent": 1, "opposite": None, None: 1}.get(
        match["drive"], int(match["skip"] or 0) + 1
    )
    short = "-".join(part for part in (match["by"], match["drive"]) if part)
    own = Convention(
        short + ("-#" if match["skip"] else "#") + rotated,
        drive=(0, last),
        electrodes=int(match["electrodes"]) if match["electrodes"] else None,
        rotated=bool(rotated),
        half=last is None and not match["by"],
    )
    # what pyEIT and EIDORS measure is the same: both signs of the one are the other's
    if match["by"] == "pyeit":
        return replace(own, measure=(1, 0), first_angle=180.0, clockwise=True)
    if match["by"] == "eidors":
        return replace(own, drive=(last, 0), first_angle=90.0, clockwise=True)
    return own


def named_protocol(name: str, shape: Sequence[int], where: str = "the voltages") -> NamedProtocol:
    """The protocol of that name of which an array holds one or several measurements.

    Args:
        name: see :func:`convention`.
        shape: of the array.
        where: what holds the voltages, for messages.

    Raises:
        ValueError: none, or several; the message names them.

    Example:
        >>> named_protocol("pyeit-opposite", (192,)).protocol.full_shape
        (16, 16)
    """
    meant = convention(name)
    found = meant.fitting(shape)
    if len(found) == 1:
        return found[0]
    held = " x ".join(map(str, shape))
    if found:
        numbers = ", ".join(str(p.protocol.electrodes) for p in found)
        raise InputError(
            f"{where}: {held} voltages are of protocol {name} with {numbers} electrodes; say how many, as in "
            "pyeit16, skip-2-16 or '[0 1],[0 1],16'"
        )
    raise InputError(
        f"{where}: {held} voltages are not of protocol {name}: {_expected(meant, shape)}"
    )


def rivals(shape: Sequence[int], electrodes: int) -> Iterator[NamedProtocol]:
    """All protocols with a name that such an array may be of, of that many electrodes."""
    drives = ["", "opposite", *(f"skip-{k}" for k in range(1, electrodes // 2 - 1))]
    for drive in drives:
        for name in (f"pyeit-{drive}".rstrip("-"), drive or "adjacent"):
            for turned in ("", "-rotated"):
                meant = replace(convention(name + turned), electrodes=electrodes)
                yield from meant.fitting(shape)


def _of_eidors(text: str, match: re.Match[str]) -> Convention:
    options = match["options"].replace(",", " ").split()
    numbers = [int(word) for word in options if word.isdigit()]
    unknown = [word for word in options if word not in _OPTIONS and not word.isdigit()]
    if unknown:
        raise InputError(f"protocol {text}: unknown {unknown[0]}; known: {', '.join(_OPTIONS)}")
    drive, measure = (_offsets(match[k]) for k in (1, 2))
    driven = True if "meas_current" in options else None
    words = [match[1], match[2], "#", *(word for word in options if not word.isdigit())]
    return Convention(
        ",".join(words),
        drive=drive[::-1],
        measure=measure,
        electrodes=numbers[0] if numbers else None,
        rotated="rotate_meas" in options,
        driven=False if "no_meas_current" in options else driven,
        first_angle=90.0,
        clockwise=True,
    )


def _offsets(text: str) -> tuple[int | None, int | None]:
    if text == "{ad}":
        return 0, 1
    if text == "{op}":
        return 0, None
    first, second = (int(k) for k in re.findall(r"-?\d+", text))
    return first, second


def _expected(meant: Convention, shape: Sequence[int]) -> str:
    """How many voltages would do, or which other name."""
    said = meant.electrodes
    others = [
        found.name
        for name in ("pyeit", "pyeit-opposite", "pyeit-skip-1", "pyeit-skip-2", "opposite")
        for found in convention(name).fitting(shape)
    ]
    numbers = (8, 16, 32) if said is None else (said,)
    parts = [
        f"{voltages} ({count} electrodes{', driven ones measured too' if driven else ''})"
        for count in numbers
        for _, voltages, driven in meant.counts(count)
    ]
    hint = f"; it has as many as {' or '.join(others)}" if others else ""
    return f"expected {', '.join(parts)}, a measurement in each row or column{hint}"


def _holds(shape: tuple[int, ...], injections: int, voltages: int) -> bool | None:
    """Whether an array holds one measurement (true), rows or columns of several (false), or neither."""
    flat = tuple(n for n in shape if n != 1)
    matrix = (injections, voltages // injections)
    if flat in (matrix, (voltages,)):
        return True
    if len(flat) == 2 and voltages in flat:
        return False
    return False if len(flat) == 3 and matrix in (flat[:2], flat[1:]) else None


def _rotated(protocol: Protocol) -> NDArray[np.intp]:
    """Where each voltage is in a file whose injections each begin with the pair of their own number."""
    rows = protocol.rows()
    turn = (rows[:, 1] - rows[:, 0]) % protocol.full_shape[1]
    in_file = np.lexsort((turn, rows[:, 0]))
    order = np.empty(len(rows), np.intp)
    order[in_file] = np.arange(len(rows))
    return order
