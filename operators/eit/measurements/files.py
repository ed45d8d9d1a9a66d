"""Measurements from files and into files: .mat, .csv and .npz."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onmanifold.arrays import reason_of
from onmanifold.errors import InputError
from onmanifold.operators.eit.measurements.frames import frame_axis, pick_frame
from onmanifold.operators.eit.measurements.matlab import (
    challenge_measurement,
    challenge_names,
    dense,
    leaves,
    listed,
    mat_protocol,
)
from onmanifold.operators.eit.measurements.measurement import Measurement, named
from onmanifold.operators.eit.measurements.tables import read_table, write_table
from onmanifold.operators.eit.models.presets import NamedProtocol, convention, named_protocol
from onmanifold.operators.eit.models.protocol import Protocol
from onmanifold.operators.matlab import load_mat

Array = NDArray[np.float64]
_TEXT = (".csv", ".txt", ".tsv")
ENDINGS = (".mat", ".npz", ".npy", *_TEXT)
"""Of files that :func:`read_measurement` reads."""
Given = Protocol | NamedProtocol | str
"""A protocol, or its name."""


def read_measurement(
    path: str | Path,
    *,
    protocol: Protocol | NamedProtocol | str | None = None,
    injections: str | Path | None = None,
    patterns: str | Path | None = None,
    variable: str | None = None,
    frame: int | None = None,
    decimal: str | None = None,
) -> Measurement:
    """Read voltages and their protocol; the file's ending says how.

    - ``.mat``: a file of the Kuopio challenge (``Inj``, ``Mpat``, ``Uel``), or the voltages with an EIDORS
      struct array ``stimulation`` (fields ``stim_pattern``, ``meas_pattern``), at top or within structs such
      as ``img.fwd_model``, with matrices ``stim_pattern`` (L x I) and ``meas_pattern`` (M x L), or with
      ``injections`` (L x I) and ``patterns`` (L x M). Files of version 7.3 need h5py.
    - ``.csv``, ``.txt``, ``.tsv``: voltages, a row for each injection, or all in a row or column. Commas,
      semicolons, tabs or spaces separate; decimal commas are read where nothing is ambiguous; comments begin
      with ``#`` or ``%``; lines of words on top are skipped, any other line that is not understood is an
      error; an empty field or ``nan`` is missing. The protocol is given, or is in tables
      ``injections`` (L x I) and ``patterns`` (L x M), by default ``NAME.injections.csv`` and
      ``NAME.patterns.csv`` beside ``NAME.csv`` (and ``NAME.measured.csv``, I x M of 0 and 1, if there).
    - ``.npz``: ``voltages``, ``injections``, ``patterns``, and perhaps ``mask`` and ``measured``; ``.npy``:
      the voltages alone.

    Args:
        path: the file.
        protocol: instead of the file's own; or the name of one, as pyEIT and EIDORS have it
            (:func:`onmanifold.operators.eit.models.presets.convention`).
        injections: table of the injections, for text files.
        patterns: table of the patterns, for text files.
        variable: which variable of a ``.mat`` or ``.npz`` file holds the voltages; within structs as in
            ``"vh.meas"``; where there is just one that fits, it need not be said.
        frame: which measurement, from 0, where there are several, one in each row ``(F, K)`` or column
            ``(K, F)``, or as matrices ``(F, I, M)`` or ``(I, M, F)``.
        decimal: ``"."`` or ``","``, for text files whose commas might be decimal ones or separate.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file that cannot be read, a missing variable, a number of voltages that does not fit;
            the file is named, with line or variable.
    """
    content = _content(Path(path), protocol, injections, patterns, variable, decimal)
    return content.measurement(frame)


def read_frames(
    path: str | Path,
    *,
    protocol: Protocol | NamedProtocol | str | None = None,
    injections: str | Path | None = None,
    patterns: str | Path | None = None,
    variable: str | None = None,
    decimal: str | None = None,
) -> list[Measurement]:
    """All measurements of a file, such as a time series: :func:`read_measurement` reads one of them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as :func:`read_measurement`; frames without any voltage are named.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(Path(folder) / "series.npy", np.ones((3, 208)))
        ...     frames = read_frames(Path(folder) / "series.npy", protocol="pyeit16")
        >>> len(frames), frames[0].voltages.shape
        (3, torch.Size([208]))
    """
    return _content(Path(path), protocol, injections, patterns, variable, decimal).frames()


def frames_of(
    values: Any, protocol: Protocol | NamedProtocol | str, where: str = "the voltages"
) -> list[Measurement]:
    """The measurements in an array, one or several, as :func:`read_frames` has those of a file.

    Args:
        values: V, as files hold them.
        protocol: or its name (:func:`convention`).
        where: they come from, for messages.
    """
    array = dense(values, where)
    return _Content.of(protocol, array, where).frames()


def save_measurement(path: str | Path, measurement: Measurement) -> None:
    """Write a measurement so that :func:`read_measurement` gives it back.

    Args:
        path: ``NAME.npz``; or ``NAME.csv``, beside which ``NAME.injections.csv``, ``NAME.patterns.csv`` and,
            where the protocol leaves voltages out, ``NAME.measured.csv`` are written.
        measurement: what to write.

    Raises:
        ValueError: another ending.

    Example:
        >>> import tempfile
        >>> voltages = Measurement.from_values(Protocol.opposite(4), [[0, 1, 2, 3], [4, 5, 6, 7]])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_measurement(Path(folder) / "tank.csv", voltages)
        ...     again = read_measurement(Path(folder) / "tank.csv")
        >>> again.protocol == voltages.protocol, bool((again.voltages == voltages.voltages).all())
        (True, True)
    """
    file, protocol = Path(path), measurement.protocol
    values = np.where(measurement.mask.numpy(), measurement.voltages.numpy(), np.nan)
    if file.suffix.lower() == ".npz":
        arrays: dict[str, Any] = {
            "voltages": values,
            "injections": protocol.injections,
            "patterns": protocol.patterns,
        }
        if protocol.measured is not None:
            arrays["measured"] = protocol.measured
        np.savez_compressed(file, **arrays)
        return
    if file.suffix.lower() != ".csv":
        raise InputError(f"{path}: measurements are written as .npz or .csv")
    full = np.full(protocol.full_shape, np.nan)
    full[protocol.mask] = values.ravel()
    write_table(file, full, "voltages, V: a row for each injection, a column for each pattern")
    write_table(
        _beside(file, "injections"), protocol.injections, "current into each electrode (row), A"
    )
    write_table(_beside(file, "patterns"), protocol.patterns, "weight of each electrode (row)")
    if protocol.measured is None:
        _beside(file, "measured").unlink(missing_ok=True)  # of an earlier measurement
    else:
        write_table(_beside(file, "measured"), protocol.measured, "1 where measured, (I, M)")


@dataclass(frozen=True, eq=False)
class _Content:
    """What a file holds: one measurement or several, in the protocol's order or another."""

    protocol: Protocol
    values: Array
    where: str
    order: NDArray[np.intp] | None = None
    mask: Any = None

    @classmethod
    def of(cls, protocol: Given, values: Array, where: str, mask: Any = None) -> _Content:
        """Voltages of a protocol that is given, perhaps by name."""
        if isinstance(protocol, str):
            protocol = named_protocol(protocol, values.shape, where=where)
        if isinstance(protocol, NamedProtocol):
            return cls(protocol.protocol, values, where, protocol.order, mask)
        return cls(protocol, values, where, None, mask)

    def frames(self) -> list[Measurement]:
        with named(self.where):
            axis = frame_axis(self.values.shape, self.protocol)
        return [self.measurement(k) for k in range(1 if axis is None else self.values.shape[axis])]

    def measurement(self, frame: int | None) -> Measurement:
        """One frame of the values, in the protocol's order."""
        with named(self.where):
            several = frame_axis(self.values.shape, self.protocol) is not None
        mask = self.mask
        if mask is not None and several and np.shape(mask) == self.values.shape:
            mask = pick_frame(np.asarray(mask), self.protocol, frame, self.where)
        values = pick_frame(self.values, self.protocol, frame, self.where)
        if self.order is not None and values.size == len(self.order):
            values = values.ravel()[self.order]
        with named(self.where):
            return Measurement.from_values(self.protocol, values, mask)


def _content(
    file: Path,
    protocol: Given | None,
    injections: str | Path | None,
    patterns: str | Path | None,
    variable: str | None,
    decimal: str | None,
) -> _Content:
    """What a file holds; its ending says how."""
    suffix = file.suffix.lower()
    if suffix in _TEXT:
        values = read_table(file, decimal)
        if protocol is None:
            protocol = _text_protocol(file, injections, patterns, decimal)
        return _Content.of(protocol, values, str(file))
    if injections is not None or patterns is not None:
        raise InputError(f"{file}: injections= and patterns= are for text files, not for {suffix}")
    if decimal is not None:
        raise InputError(f"{file}: decimal= is for text files, not for {suffix}")
    if suffix == ".npy":
        return _read_npy(file, protocol)
    if suffix == ".npz":
        return _read_npz(file, protocol, variable)
    if suffix == ".mat":
        return _read_mat(file, protocol, variable)
    raise InputError(f"{file}: measurements are files of type {', '.join(ENDINGS)}")


# Text --------------------------------------------------------------------------------------------


def _switches(path: Path, decimal: str | None) -> NDArray[np.bool_]:
    table = read_table(path, decimal)
    if not np.isin(table, (0, 1)).all():
        raise InputError(f"{path} has to hold 0 and 1, whether a voltage is measured")
    return np.asarray(table == 1)


def _beside(file: Path, part: str) -> Path:
    return file.with_name(f"{file.stem}.{part}.csv")


def _text_protocol(
    file: Path,
    injections: str | Path | None,
    patterns: str | Path | None,
    decimal: str | None,
) -> Protocol:
    own = injections is None and patterns is None
    paths = [
        Path(injections or _beside(file, "injections")),
        Path(patterns or _beside(file, "patterns")),
    ]
    if own and not all(p.is_file() for p in paths):
        raise InputError(
            f"{file} holds voltages only: pass protocol= (a name such as 'pyeit16'; --protocol on the "
            "command line), or injections= and patterns= (tables with a row for each electrode), or put "
            f"{paths[0].name} and {paths[1].name} beside it"
        )
    tables = [read_table(p, decimal) for p in paths]
    mask = _beside(file, "measured")
    measured = _switches(mask, decimal) if own and mask.is_file() else None
    with named(f"{paths[0]} and {paths[1]}"):
        return Protocol(tables[0], tables[1], measured)


# Binary ------------------------------------------------------------------------------------------


def _read_npy(file: Path, protocol: Given | None) -> _Content:
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    if protocol is None:
        raise InputError(
            f"{file} holds voltages only: pass protocol= (a name such as 'pyeit16'; --protocol on the "
            "command line)"
        )
    try:
        values = np.load(file, allow_pickle=False)
    except Exception as error:  # a damaged file fails in many ways
        raise InputError(f"{file} is not a readable .npy file: {error}") from error
    return _Content.of(protocol, dense(values, str(file)), str(file))


def _read_npz(file: Path, protocol: Given | None, variable: str | None) -> _Content:
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            content = dict(archive)
    except Exception as error:  # a damaged archive fails in many ways
        raise InputError(f"{file} is not a readable .npz file: {reason_of(error)}") from error
    variable = variable or "voltages"
    needed = [variable] + ([] if protocol else ["injections", "patterns"])
    missing = [name for name in needed if name not in content]
    if missing:
        raise InputError(
            f"{file} lacks {', '.join(missing)}; it holds {', '.join(content) or 'nothing'}"
        )
    if protocol is None:
        with named(file):
            protocol = Protocol(content["injections"], content["patterns"], content.get("measured"))
    where = f"{file}: {variable}"
    return _Content.of(protocol, dense(content[variable], where), where, content.get("mask"))


def _read_mat(file: Path, protocol: Given | None, variable: str | None) -> _Content:
    content = load_mat(file)
    if protocol is None and variable is None and challenge_names(content):
        one = challenge_measurement(file, content)
        return _Content(one.protocol, one.voltages.numpy(), str(file), None, one.mask.numpy())
    content = leaves(content)
    order = None
    if protocol is None:
        protocol, order = mat_protocol(content, file)
    name = variable or _voltages_name(content, protocol, file)
    if name not in content:
        raise InputError(f"{file} holds {listed(content)}, not {name!r}")
    where = f"{file}: {name}"
    values = dense(content[name], where)
    if order is not None:
        assert isinstance(protocol, Protocol)
        return _Content(protocol, values, where, order)
    return _Content.of(protocol, values, where)


def _voltages_name(content: Mapping[str, Any], protocol: Given, file: Path) -> str:
    """The one variable, or field of a struct, with a voltage for each measured pattern."""
    taken = ("stimulation", "stim", "stim_pattern", "meas_pattern", "injections", "patterns")
    numeric = {
        name: value.shape
        for name, value in content.items()
        if name.rpartition(".")[2] not in taken
        and getattr(getattr(value, "dtype", None), "kind", "") in "fiuc"
    }
    fit, expected = _fitting(protocol)
    fits = [name for name, shape in numeric.items() if fit(shape)]
    if len(fits) != 1:
        held = ", ".join(f"{n} {s}" for n, s in sorted(numeric.items())) or "no numeric variable"
        raise InputError(
            f"{file}: {expected} were expected in one variable, {len(fits)} fit ({held}); "
            "say which with variable="
        )
    return fits[0]


def _fitting(protocol: Given) -> tuple[Callable[[tuple[int, ...]], bool], str]:
    """Whether an array's shape is of a protocol, and what is expected, in words."""
    if isinstance(protocol, str):
        meant = convention(protocol)
        return lambda shape: bool(meant.fitting(shape)), f"voltages of protocol {protocol}"
    plan = protocol.protocol if isinstance(protocol, NamedProtocol) else protocol
    count = int(plan.mask.sum())

    def fits(shape: tuple[int, ...]) -> bool:
        return int(np.prod(shape)) == count or count in shape or frame_axis(shape, plan) is not None

    return fits, f"{count} voltages"
