"""The protocol: which currents are driven and which voltages are measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

# Currents of the Kuopio Tomography Challenge 2023, by source electrode 1, 3, ..., 31 (read from its files).
_KTC_CURRENTS = (
    (1.4720, 1.4952, 1.4502, 1.4876, 1.5142, 1.4906, 1.4100, 1.4390)
    + (1.4368, 1.4480, 1.4502, 1.4524, 1.4838, 1.4742, 1.4540, 1.5052)
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Protocol:
    """Current injections and measurement patterns on L electrodes.

    With the electrode potentials ``U`` of injection ``i`` the measured voltages are ``patterns.T @ U``;
    potentials are counted from their mean over the electrodes, so a pattern need not sum to zero.

    Attributes:
        injections: current into each electrode for each injection, A, ``(L, I)``; each column sums
            to zero.
        patterns: weight of each electrode's potential in each measured voltage, ``(L, M)``.

    Raises:
        ValueError: matrices of different heights, entries that are not finite, a column of
            ``injections`` that is zero or does not sum to zero, a column of ``patterns`` that is zero.

    Example:
        >>> protocol = Protocol.adjacent(16)
        >>> protocol.injections.shape, protocol.patterns.shape, protocol.shape
        ((16, 16), (16, 16), (16, 16))
    """

    injections: Array
    patterns: Array

    def __post_init__(self) -> None:
        for name in ("injections", "patterns"):
            matrix = np.array(getattr(self, name), dtype=np.float64)
            if matrix.ndim != 2 or 0 in matrix.shape:
                raise ValueError(
                    f"{name} has to be a matrix with one row for each electrode, got shape {matrix.shape}"
                )
            _check_columns(matrix, name)
            matrix.setflags(write=False)
            object.__setattr__(self, name, matrix)
        if len(self.injections) != len(self.patterns):
            raise ValueError(
                f"injections are for {len(self.injections)} electrodes, patterns for {len(self.patterns)}"
            )
        total = np.abs(self.injections.sum(axis=0))
        wrong = np.flatnonzero(total > 1e-9 * np.abs(self.injections).sum(axis=0))
        if len(wrong):
            raise ValueError(
                f"the currents of injection {wrong[0] + 1} (of {self.injections.shape[1]}) sum to "
                f"{self.injections[:, wrong[0]].sum():.6g}; what flows in has to flow out"
            )

    @property
    def electrodes(self) -> int:
        """Number of electrodes L."""
        return len(self.injections)

    @property
    def shape(self) -> tuple[int, int]:
        """(I, M): number of injections, number of voltages measured in each."""
        return self.injections.shape[1], self.patterns.shape[1]

    @classmethod
    def from_matrices(cls, injections: ArrayLike, patterns: ArrayLike) -> Protocol:
        """A protocol from matrices ``(L, I)`` and ``(L, M)``."""
        return cls(np.asarray(injections, np.float64), np.asarray(patterns, np.float64))

    @classmethod
    def from_pairs(
        cls, electrodes: int, drive: Sequence[tuple[int, int]], current: float = 1.0
    ) -> Protocol:
        """Drive ``current`` between pairs of electrodes and measure all adjacent ones.

        Args:
            electrodes: number of electrodes L.
            drive: (source, sink) of each injection, electrodes counted from 0.
            current: A.
        """
        for i, pair in enumerate(drive):
            if pair[0] == pair[1] or not all(0 <= e < electrodes for e in pair):
                raise ValueError(
                    f"injection {i + 1} drives electrodes {pair}; two different ones of 0 to "
                    f"{electrodes - 1} were expected"
                )
        eye = np.eye(electrodes)
        injections = np.stack([current * (eye[a] - eye[b]) for a, b in drive], axis=1)
        return cls(injections, eye - np.roll(eye, -1, axis=1))

    @classmethod
    def adjacent(cls, electrodes: int, current: float = 1.0) -> Protocol:
        """Drive and measure all adjacent pairs: L injections, L voltages each."""
        pairs = [(k, (k + 1) % electrodes) for k in range(electrodes)]
        return cls.from_pairs(electrodes, pairs, current)

    @classmethod
    def opposite(cls, electrodes: int, current: float = 1.0) -> Protocol:
        """Drive opposite pairs, measure all adjacent ones: L/2 injections, L voltages each."""
        if electrodes % 2:
            raise ValueError(f"opposite pairs need an even number of electrodes, got {electrodes}")
        half = electrodes // 2
        return cls.from_pairs(electrodes, [(k, k + half) for k in range(half)], current)

    @classmethod
    def ktc(cls, path: str | Path | None = None) -> Protocol:
        """The 76 injections and 31 voltages of the Kuopio Tomography Challenge 2023.

        Args:
            path: a ``.mat`` file of the challenge to read them from; the ones all its training files
                have in common if ``None``.

        Example:
            >>> Protocol.ktc().shape
            (76, 31)
        """
        if path is not None:
            from onmanifold.operators.eit.ktc import read_ktc

            return read_ktc(path).protocol
        odd = range(0, 32, 2)
        pairs = [(k, (k + 2) % 32) for k in odd]
        pairs += [(k, sink) for sink in (0, 8, 16, 24) for k in odd if k != sink]
        injections = np.zeros((32, len(pairs)))
        for i, (source, sink) in enumerate(pairs):
            injections[[source, sink], i] = np.array([1, -1]) * _KTC_CURRENTS[source // 2]
        eye = np.eye(32)
        return cls(injections, eye[:, :31] - eye[:, 1:])

    def __eq__(self, other: Any) -> bool:
        return (
            isinstance(other, Protocol)
            and np.array_equal(self.injections, other.injections)
            and np.array_equal(self.patterns, other.patterns)
        )

    __hash__ = None  # type: ignore[assignment]


def _check_columns(matrix: Array, name: str) -> None:
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=0))
    if len(bad):
        raise ValueError(f"column {bad[0] + 1} of {name} holds a NaN or infinity")
    empty = np.flatnonzero(~matrix.any(axis=0))
    if len(empty):
        raise ValueError(f"column {empty[0] + 1} of {name} is zero everywhere")
