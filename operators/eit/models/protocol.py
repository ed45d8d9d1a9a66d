"""The protocol: which currents are driven and which voltages are measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import InitVar, dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from onmanifold.checks import check_count, check_number
from onmanifold.errors import InputError
from onmanifold.operators.eit.arguments import (
    check_flag,
    doubles,
    electrode_count,
    whole_numbers,
)
from onmanifold.tensors import as_mask

Array = NDArray[np.float64]
Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Protocol:
    """Current injections and measurement patterns on L electrodes.

    With the electrode potentials ``U`` of injection ``i`` the voltages are ``patterns.T @ U``, those of them
    that are measured; potentials are counted from their mean over all electrodes, so a pattern need not
    sum to zero.

    Attributes:
        injections: current into each electrode for each injection, A, ``(L, I)``; each column sums
            to zero.
        patterns: weight of each electrode's potential in each voltage, ``(L, M)``.
        measured: which pattern is measured in which injection, bool, ``(I, M)``; ``None`` where all
            are.

    Args:
        drop_driven: leave out voltages at electrodes that carry the injection's current.

    Raises:
        ValueError: matrices that do not fit together, entries that are not finite, a column of
            ``injections`` that is zero or does not sum to zero, a column of ``patterns`` that is zero,
            a pattern on a missing electrode, nothing measured. Messages count from 1.

    Example:
        >>> Protocol.adjacent(16).shape
        (16, 16)
        >>> Protocol.adjacent(16, drop_driven=True).shape
        (208,)
    """

    injections: Array
    patterns: Array
    measured: NDArray[np.bool_] | None = None
    drop_driven: InitVar[bool] = False

    def __post_init__(self, drop_driven: bool) -> None:
        for name in ("injections", "patterns"):
            matrix = doubles(getattr(self, name), name)
            if matrix.ndim != 2 or 0 in matrix.shape:
                raise InputError(
                    f"{name} has to be a matrix with one row for each electrode, got shape {matrix.shape}"
                )
            _check_columns(matrix, name)
            matrix.setflags(write=False)
            object.__setattr__(self, name, matrix)
        _check_electrodes(self.injections, self.patterns)
        total = np.abs(self.injections.sum(axis=0))
        wrong = np.flatnonzero(total > 1e-9 * np.abs(self.injections).sum(axis=0))
        if len(wrong):
            raise InputError(
                f"the currents of injection {wrong[0] + 1} (of {self.injections.shape[1]}) sum to "
                f"{self.injections[:, wrong[0]].sum():.6g}; what flows in has to flow out"
            )
        object.__setattr__(self, "measured", self._checked(self.measured, drop_driven))

    def _checked(self, measured: ArrayLike | None, drop_driven: bool) -> NDArray[np.bool_] | None:
        mask = np.ones(self.full_shape, bool)
        if measured is not None:
            mask = as_mask(measured, "measured").cpu().numpy().copy()
        if mask.shape != self.full_shape:
            raise InputError(
                f"measured has to have one row for each injection and one column for each "
                f"pattern, {self.full_shape}; got {mask.shape}"
            )
        if check_flag(drop_driven, "drop_driven"):
            touches = (self.injections != 0).T.astype(int) @ (self.patterns != 0).astype(int)
            mask &= touches == 0
        if not mask.any():
            raise InputError("nothing is measured: no pattern is left in any injection")
        return None if mask.all() else mask  # writable: torch shares no other arrays

    # What it consists of -------------------------------------------------------------------------

    @property
    def electrodes(self) -> int:
        """Number of electrodes L."""
        return len(self.injections)

    @property
    def full_shape(self) -> tuple[int, int]:
        """(I, M): number of injections, number of patterns."""
        return self.injections.shape[1], self.patterns.shape[1]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a measurement: (I, M), or (K,) where only K of the I M voltages are measured."""
        return self.full_shape if self.measured is None else (int(self.measured.sum()),)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Which voltages are measured, bool, ``(I, M)``."""
        return np.ones(self.full_shape, bool) if self.measured is None else self.measured

    def rows(self) -> NDArray[np.intp]:
        """(injection, pattern) of each measured voltage in its order, from 0, ``(K, 2)``.

        Example:
            >>> Protocol.adjacent(4, drop_driven=True).rows().tolist()
            [[0, 2], [1, 3], [2, 0], [3, 1]]
        """
        return np.argwhere(self.mask)

    def pick(self, voltages: Tensor) -> Tensor:
        """The measured ones of all voltages: ``(..., I, M)`` to ``(..., *shape)``."""
        return voltages if self.measured is None else voltages[..., torch.tensor(self.measured)]

    def spread(self, values: Tensor) -> Tensor:
        """Put measured values in their places: ``(..., *shape)`` to ``(..., I, M)``, zero elsewhere."""
        if self.measured is None:
            return values
        full = values.new_zeros(*values.shape[:-1], *self.full_shape)
        full[..., torch.tensor(self.measured)] = values
        return full

    def free_of(self, electrodes: Iterable[int]) -> NDArray[np.bool_]:
        """Which voltages involve none of these electrodes, bool, ``(I, M)``.

        Args:
            electrodes: from 0. A voltage involves those of its pattern and those that carry current.
        """
        given = list(electrodes) if isinstance(electrodes, Iterable) else electrodes
        gone = sorted(set(whole_numbers(given, "electrodes").ravel().tolist()))
        beyond = [e for e in gone if not 0 <= e < self.electrodes]
        if beyond:
            raise InputError(
                f"there is no electrode {beyond[0]} (counted from 0) among {self.electrodes}"
            )
        injections = ~(self.injections[gone] != 0).any(axis=0)
        patterns = ~(self.patterns[gone] != 0).any(axis=0)
        return self.mask & np.outer(injections, patterns)

    # Ways to make one ----------------------------------------------------------------------------

    @classmethod
    def from_pairs(
        cls,
        electrodes: int,
        drive: Sequence[Pair],
        current: float = 1.0,
        *,
        measure: Sequence[Pair] | None = None,
        drop_driven: bool = False,
    ) -> Self:
        """Drive ``current`` between pairs of electrodes and measure between pairs.

        Args:
            electrodes: number of electrodes L.
            drive: (source, sink) of each injection, electrodes counted from 0.
            current: A.
            measure: (plus, minus) of each voltage; all adjacent pairs (n, n + 1) if ``None``.
            drop_driven: leave out voltages at electrodes that carry the injection's current.

        Example:
            >>> Protocol.from_pairs(4, [(0, 1)], measure=[(1, 2), (2, 3)], drop_driven=True).rows()
            array([[0, 1]])
        """
        count = electrode_count(electrodes, "electrodes")
        if measure is None:
            measure = _neighbours(count)
        injections = _amplitude(current) * _differences(count, drive, "injection", "drives")
        patterns = _differences(count, measure, "pattern", "measures at")
        return cls(injections, patterns, None, drop_driven)

    @classmethod
    def adjacent(cls, electrodes: int, current: float = 1.0, *, drop_driven: bool = False) -> Self:
        """Drive and measure all adjacent pairs: L injections, L voltages each.

        With ``drop_driven``, L - 3 voltages each: 208 on 16 electrodes.
        """
        return cls.skip(electrodes, 0, current, drop_driven=drop_driven)

    @classmethod
    def opposite(cls, electrodes: int, current: float = 1.0, *, drop_driven: bool = False) -> Self:
        """Drive opposite pairs, measure all adjacent ones: L/2 injections, L voltages each."""
        if electrode_count(electrodes, "electrodes") % 2:
            raise InputError(f"opposite pairs need an even number of electrodes, got {electrodes}")
        half = electrodes // 2
        pairs = [(k, k + half) for k in range(half)]
        return cls.from_pairs(electrodes, pairs, current, drop_driven=drop_driven)

    @classmethod
    def skip(
        cls,
        electrodes: int,
        skip: int,
        current: float = 1.0,
        *,
        skip_measured: int = 0,
        drop_driven: bool = False,
    ) -> Self:
        """Drive electrodes n and n + skip + 1 for all n: ``skip`` electrodes lie between the two.

        Args:
            electrodes: number of electrodes L.
            skip: 0 for adjacent pairs, at most L - 2.
            current: A.
            skip_measured: how many electrodes lie between the two of each voltage.
            drop_driven: leave out voltages at electrodes that carry the injection's current.

        Example:
            >>> Protocol.skip(16, 4).injections[:, 15].nonzero()[0].tolist()
            [4, 15]
        """
        electrodes = electrode_count(electrodes, "electrodes")
        for name, value in (("skip", skip), ("skip_measured", skip_measured)):
            if check_count(value, name, at_least=0) > electrodes - 2:
                raise InputError(f"{name} has to be 0 to {electrodes - 2}, got {value}")
        return cls.from_pairs(
            electrodes,
            _neighbours(electrodes, skip),
            current,
            measure=_neighbours(electrodes, skip_measured),
            drop_driven=drop_driven,
        )

    @classmethod
    def trigonometric(
        cls, electrodes: int, current: float = 1.0, *, drop_driven: bool = False
    ) -> Self:
        """Cosine and sine currents over the electrodes' numbers; each electrode's potential is measured.

        L - 1 injections: ``cos(k t_n)`` for k = 1, ..., then ``sin(k t_n)``, with ``t_n = 2 pi n / L``; where
        L is even, ``sin(L/2 t_n)`` vanishes and is left out.

        Args:
            electrodes: number of electrodes L.
            current: amplitude, A.
            drop_driven: leave out potentials of electrodes that carry current: nearly all of them.

        Example:
            >>> Protocol.trigonometric(16).shape
            (15, 16)
        """
        electrodes = electrode_count(electrodes, "electrodes")
        angle = 2 * np.pi * np.arange(electrodes) / electrodes
        cosines = [np.cos(k * angle) for k in range(1, electrodes // 2 + 1)]
        sines = [np.sin(k * angle) for k in range(1, (electrodes - 1) // 2 + 1)]
        waves = np.stack(cosines + sines, axis=1)
        waves[np.abs(waves) < 1e-12] = 0.0
        return cls(_amplitude(current) * waves, np.eye(electrodes), None, drop_driven)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        for matrix in (self.injections, self.patterns):
            matrix.setflags(write=False)  # copies of numpy's arrays can be written to

    def __eq__(self, other: Any) -> bool:
        return (
            isinstance(other, Protocol)
            and np.array_equal(self.injections, other.injections)
            and np.array_equal(self.patterns, other.patterns)
            and np.array_equal(self.mask, other.mask)
        )

    __hash__ = None  # type: ignore[assignment]


def _amplitude(current: float) -> float:
    amplitude = check_number(current, "current", low=-np.inf)
    if amplitude == 0:
        raise InputError("current has to differ from zero")
    return amplitude


def _check_columns(matrix: Array, name: str) -> None:
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=0))
    if len(bad):
        raise InputError(f"column {bad[0] + 1} of {name} holds a NaN or infinity")
    empty = np.flatnonzero(~matrix.any(axis=0))
    if len(empty):
        raise InputError(f"column {empty[0] + 1} of {name} is zero everywhere")


def _check_electrodes(injections: Array, patterns: Array) -> None:
    if len(injections) == len(patterns):
        return
    message = f"injections are for {len(injections)} electrodes, patterns for {len(patterns)}"
    beyond = np.argwhere(patterns[len(injections) :].T)
    if len(beyond):
        pattern, electrode = beyond[0] + 1
        missing = len(injections) + electrode
        message += f"; pattern {pattern} measures at electrode {missing}, which is missing"
    raise InputError(message)


def _neighbours(electrodes: int, skip: int = 0) -> list[Pair]:
    return [(n, (n + skip + 1) % electrodes) for n in range(electrodes)]


def _differences(electrodes: int, pairs: Sequence[Pair], name: str, does: str) -> Array:
    """A column with +1 and -1 for each pair, ``(L, len(pairs))``."""
    columns = whole_numbers(pairs, f"pairs of each {name}")
    columns = columns if columns.size else np.zeros((0, 2), np.int32)
    if columns.ndim != 2 or columns.shape[1] != 2:
        raise InputError(f"each {name} is a pair of electrodes, got shape {columns.shape}")
    for i, pair in enumerate(columns.tolist()):
        if pair[0] == pair[1] or not all(0 <= e < electrodes for e in pair):
            raise InputError(
                f"{name} {i + 1} {does} electrodes {tuple(pair)}; two different ones of 0 to "
                f"{electrodes - 1} were expected"
            )
    eye = np.eye(electrodes)
    return eye[:, columns[:, 0]] - eye[:, columns[:, 1]]
