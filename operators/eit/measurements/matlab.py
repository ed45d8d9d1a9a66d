"""Protocols in Matlab files, as EIDORS and the Kuopio challenge write them."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from onmanifold.errors import InputError
from onmanifold.operators.eit.arguments import doubles
from onmanifold.operators.eit.measurements.measurement import Measurement, named
from onmanifold.operators.eit.models.protocol import Protocol

Array = NDArray[np.float64]
_STRUCTURES = ("stimulation", "stim")
_MATRICES = (("stim_pattern", "meas_pattern"), ("injections", "patterns"))
_CHALLENGE = (("Injref", "Mpat", "Uelref"), ("Inj", "Mpat", "Uel"))


def mat_protocol(
    content: Mapping[str, Any], path: str | Path
) -> tuple[Protocol, NDArray[np.intp] | None]:
    """The protocol of a file: EIDORS' struct array, or two matrices.

    Args:
        content: variables: ``stimulation`` or ``stim`` with the fields ``stim_pattern`` (L) and
            ``meas_pattern`` (M_i x L) for each injection; or matrices ``stim_pattern`` (L x I) and
            ``meas_pattern`` (M x L), or ``injections`` (L x I) and ``patterns`` (L x M).
        path: for messages.

    Returns:
        The protocol; and where in the file's vector of voltages, injection after injection, each of the
        protocol's measured voltages is (``None``: in the same order).

    Raises:
        ValueError: no protocol, or matrices that do not fit; file, variable and injection are named.
    """
    structures = [n for n, value in content.items() if _is_stimulation(n, value)]
    if structures:
        return _agreeing(content, structures, path)
    names = next((n for n in _MATRICES if all(k in content for k in n)), None)
    if names is None:
        raise InputError(
            f"{path} holds {listed(content)}; a protocol is a struct array "
            "stimulation with stim_pattern and meas_pattern, or matrices "
            + " or ".join(" and ".join(n) for n in _MATRICES)
        )
    injections, patterns = (dense(content[k], f"{path}: {k}") for k in names)
    if names == _MATRICES[0]:
        patterns = patterns.T
    with named(path):
        return Protocol(injections, patterns), None


def leaves(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Variables and fields of structs by their names in Matlab, such as ``vh.meas`` or ``vh(2).meas``.

    Struct arrays that are a protocol stay whole, so do cell arrays.
    """
    found: dict[str, Any] = {}
    for name, value in content.items():
        path = f"{prefix}{name}"
        if not _is_struct(value) or _is_stimulation(path, value):
            found[path] = value
            continue
        items = value.ravel()
        for k, item in enumerate(items):
            place = path if len(items) == 1 else f"{path}({k + 1})"
            found |= leaves({field: item[field] for field in value.dtype.names}, f"{place}.")
    return found


def listed(content: Mapping[str, Any]) -> str:
    """The names of variables, for messages."""
    names = sorted(content)
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return (", ".join(names[:20]) or "nothing") + more


def _is_struct(value: Any) -> bool:
    return isinstance(value, np.ndarray) and bool(value.dtype.names) and value.dtype.kind == "V"


def _is_stimulation(name: str, value: Any) -> bool:
    return _is_struct(value) and (
        name.rpartition(".")[2] in _STRUCTURES
        or {"stim_pattern", "meas_pattern"} <= set(value.dtype.names)
    )


def _agreeing(
    content: Mapping[str, Any], names: list[str], path: str | Path
) -> tuple[Protocol, NDArray[np.intp] | None]:
    """The protocol of these struct arrays, if they all hold the same; one at top counts alone."""
    top = [name for name in names if "." not in name]
    found = {name: _from_structures(content[name], f"{path}: {name}") for name in top or names}
    (first, chosen), *others = found.items()
    for name, (protocol, order) in others:
        if protocol != chosen[0] or not _equal(order, chosen[1]):
            raise InputError(
                f"{path} holds different protocols, {first} and {name}: save only one of them, or pass "
                "protocol="
            )
    return chosen


def _equal(a: NDArray[np.intp] | None, b: NDArray[np.intp] | None) -> bool:
    return a is b or (a is not None and b is not None and np.array_equal(a, b))


def challenge_names(content: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Names of injections, patterns and voltages in a file of the Kuopio challenge; ``None`` in others."""
    return next((names for names in _CHALLENGE if all(k in content for k in names)), None)


def challenge_measurement(path: str | Path, content: Mapping[str, Any]) -> Measurement:
    """The measurement in the variables of a file of the Kuopio challenge; ``path`` is for messages."""
    names = challenge_names(content)
    if names is None:
        raise InputError(
            f"{path} holds {listed(content)}; expected "
            + " or ".join(", ".join(n) for n in _CHALLENGE)
        )
    injections, patterns, values = (dense(content[k], f"{path}: {k}") for k in names)
    with named(path):
        protocol = Protocol(injections, patterns)
    with named(f"{path}: {names[2]}"):
        return Measurement.from_values(protocol, values)


def dense(value: Any, where: str) -> Array:
    """A numeric array, sparse or not, as float64.

    Raises:
        ValueError: it is not numeric.
    """
    if issparse(value):
        value = cast(Any, value).toarray()
    try:
        return doubles(value, where)
    except InputError as error:
        raise InputError(f"{where} does not hold real numbers: {error}") from error


def _from_structures(structures: Any, where: str) -> tuple[Protocol, NDArray[np.intp] | None]:
    missing = {"stim_pattern", "meas_pattern"} - set(structures.dtype.names)
    if missing:
        raise InputError(f"{where} lacks the field {', '.join(sorted(missing))}")
    currents: list[Array] = []
    numbers: dict[bytes, int] = {}  # a pattern's row, as bytes -> its number
    measured: list[list[int]] = []
    for i, one in enumerate(structures.ravel()):
        here = f"{where}({i + 1})"
        currents.append(dense(one["stim_pattern"], f"{here}.stim_pattern").ravel())
        patterns = dense(one["meas_pattern"], f"{here}.meas_pattern")
        patterns = patterns + 0.0  # no -0.0 among the bytes
        if patterns.ndim != 2 or patterns.shape[1] != len(currents[0]):
            raise InputError(
                f"{here}.meas_pattern has shape {patterns.shape}; stim_pattern of the first injection is for "
                f"{len(currents[0])} electrodes, so (M, {len(currents[0])}) was expected"
            )
        if len(currents[-1]) != len(currents[0]):
            raise InputError(
                f"{here}.stim_pattern has {len(currents[-1])} entries, the first {len(currents[0])}"
            )
        measured.append([numbers.setdefault(row.tobytes(), len(numbers)) for row in patterns])
        if len(set(measured[-1])) < len(measured[-1]):
            raise InputError(f"{here}.meas_pattern holds a row twice")
    return _union(currents, numbers, measured, where)


def _union(
    currents: list[Array], numbers: dict[bytes, int], measured: list[list[int]], where: str
) -> tuple[Protocol, NDArray[np.intp] | None]:
    """One protocol with all patterns, and the order of its voltages in the file."""
    sequence = _sequence(measured, len(numbers))
    place = np.argsort(sequence)
    measured = [place[those].tolist() for those in measured]
    patterns = np.array([np.frombuffer(row) for row in numbers]).T[:, sequence]
    mask = np.zeros((len(currents), len(numbers)), bool)
    for i, those in enumerate(measured):
        mask[i, those] = True
    with named(where):
        protocol = Protocol(np.stack(currents, axis=1), patterns, mask)
    injection = np.repeat(np.arange(len(measured)), [len(those) for those in measured])
    pattern = np.concatenate([np.array(those, dtype=int) for those in measured])
    order = np.lexsort((pattern, injection))
    return protocol, None if np.array_equal(order, np.arange(len(order))) else order


def _sequence(measured: list[list[int]], count: int) -> list[int]:
    """The patterns' order: that of every injection where they agree, else as they come first."""
    graph: TopologicalSorter[int] = TopologicalSorter({k: () for k in range(count)})
    for those in measured:
        for before, after in pairwise(those):
            graph.add(after, before)
    try:
        return list(graph.static_order())
    except CycleError:
        return list(range(count))
