"""Learned manifolds: what the solver descends on.

A :class:`ManifoldPrior` is an atlas of ``K`` charts. Chart ``k`` is a decoder ``D_k`` from latent
coordinates ``z`` in a box of R^d to the unknown's space and an encoder ``E_k`` back; a single
autoencoder is an atlas with ``K = 1``. A subclass writes its charts one at a time (``decode_chart``
and friends); this base class serves batches whose members sit in different charts.

Charts may be of different dimension, such as images of one, two, or no objects: chart ``k`` then has the
first ``d_k`` of d coordinates. In a batch the others are there, and are 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from math import prod
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from onmanifold.autodiff import value_and_columns
from onmanifold.checks import check_batch
from onmanifold.decoder_error import DecoderError
from onmanifold.duals import Dual
from onmanifold.errors import InputError, InputTypeError
from onmanifold.printing import Brief, Table
from onmanifold.tensors import as_real

_NO_UNIT = ("", "1", "none")
_FRESH = 3 * 2**18  # numbers in tangents above which memory is mapped anew each time


@dataclass(frozen=True, repr=False)
class Point(Brief):
    """A batch of points of a learned manifold, in coordinates.

    Attributes:
        chart: number of the chart each point sits in, ``(B,)``, integer.
        z: its latent coordinates there, ``(B, d)``; 0 beyond the chart's own dimension.

    Arrays and lists become tensors, coordinates in torch's default dtype.

    Example:
        >>> Point([0, 1], [[0.5], [0.25]]).z.shape
        torch.Size([2, 1])
    """

    chart: Tensor
    z: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "chart", _charts(self.chart, "a Point's chart"))
        if not isinstance(self.z, Tensor | Dual):  # coordinates may be differentiated
            z = as_real(self.z, "a Point's z", dtype=torch.get_default_dtype())
            object.__setattr__(self, "z", z)
        if self.chart.ndim != 1 or self.z.ndim != 2 or len(self.chart) != len(self.z):
            raise InputError(
                f"a Point takes chart (B,) and z (B, d), got {tuple(self.chart.shape)} and "
                f"{tuple(self.z.shape)}"
            )

    def __len__(self) -> int:
        return len(self.chart)

    def at(self, z: Tensor) -> Point:
        """The same charts with other coordinates ``(B, d)``."""
        return Point(self.chart, z)

    def select(self, rows: Tensor) -> Point:
        """The points at ``rows`` (a mask or an index)."""
        return Point(self.chart[rows], self.z[rows])

    @staticmethod
    def cat(points: Sequence[Point]) -> Point:
        """All points of several batches, one after the other."""
        return Point(torch.cat([p.chart for p in points]), torch.cat([p.z for p in points]))


def _charts(value: Any, name: str) -> Tensor:
    """Numbers of charts as an integer tensor."""
    if isinstance(value, Tensor):
        if value.is_floating_point() or value.dtype == torch.bool:
            raise InputTypeError(f"{name} has to be integers, got {value.dtype}")
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise InputTypeError(f"{name} has to be integers, got {array.dtype}")
    return torch.from_numpy(array.astype(np.int64))


class ManifoldPrior(nn.Module, ABC):
    """An atlas of learned charts.

    Attributes:
        x_shape: shape of one unknown, without the batch.
        dim: latent dimension d, of the largest chart.
        num_charts: number of charts K.
        chart_dims: dimension d_k of each chart, K numbers from 0 to d; by default all are d.
        box: half-width of the latent box, a number, a ``(d,)`` tensor, or ``(K, d)``, a row a chart: descent
            keeps ``|z| <= box``.
        inverse_error: median of ``|E_k(D_k(z)) - z|`` over samples, relative to that of ``|z|``; 0 where
            the encoders are exact inverses up to rounding.
        decoder_error: how far genuine unknowns lie off the manifold, a
            :class:`~onmanifold.DecoderError`; ``None`` where nobody has measured it.
        card: what is written in the card of a stored prior (:func:`~onmanifold.prior_card`); ``None`` for
            one that was not loaded.
    """

    x_shape: tuple[int, ...]
    dim: int
    num_charts: int = 1
    box: float | Tensor = float("inf")
    inverse_error: float = 0.0
    decoder_error: DecoderError | None
    card: dict[str, Any] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.register_module("decoder_error", None)

    def __repr__(self) -> str:
        parts = [f"{name} {value}" for name, value in self._facts().items()]
        return f"{type(self).__name__}({', '.join(parts)})"

    def _repr_html_(self) -> str:
        title = str((self.card or {}).get("description", ""))
        return Table(("", type(self).__name__), [*self._facts().items()]).html(title)

    def _facts(self) -> dict[str, str]:
        """What a user wants to know at a glance, by name."""
        card, dims = self.card or {}, {min(self.chart_dims), self.dim}
        facts = {
            "name": card.get("name", ""),
            "x": f"{tuple(self.x_shape)} {str(self.dtype).removeprefix('torch.')}",
            "d": " to ".join(map(str, sorted(dims))),
            "K": str(self.num_charts),
            "values": values_of(card),
            "weights": f"{sum(p.numel() for p in self.parameters()):,}".replace(",", " "),
            "decoder error": "" if self.decoder_error is None else "known",
        }
        return {name: fact for name, fact in facts.items() if fact}

    @cached_property
    def chart_dims(self) -> tuple[int, ...]:
        """Dimension of each chart; a subclass sets another tuple, of the class or of an instance."""
        return (self.dim,) * self.num_charts

    # What a subclass writes, one chart at a time ------------------------------------------------

    @abstractmethod
    def decode_chart(self, z: Tensor, chart: int) -> Tensor:
        """D_k: ``(B, d_k) -> (B, *x_shape)``."""

    @abstractmethod
    def encode_chart(self, x: Tensor, chart: int) -> Tensor:
        """E_k: ``(B, *x_shape) -> (B, d_k)``, a left inverse of D_k."""

    @abstractmethod
    def log_prob_chart(self, z: Tensor, chart: int) -> Tensor:
        """Log-density of the latent points, mixture weight included: ``(B, d_k) -> (B,)``."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Point:
        """``n`` points, distributed like the data that was learned."""

    def responsibilities(self, x: Tensor) -> Tensor:
        """How well each chart explains ``x``: ``(B, *x_shape) -> (B, K)``, rows sum to one."""
        return torch.ones(len(x), 1, dtype=x.dtype, device=x.device)

    def responsibilities_at(self, point: Point, x: Tensor) -> Tensor:
        """The same for points of the manifold and their decoded values ``x``, ``(B, K)``.

        A subclass may know a cheaper way, since each point's own chart need not be inverted.
        """
        return self.responsibilities(x)

    def columns_chart(self, z: Tensor, chart: int) -> Tensor:
        """D_k and its partial derivatives, ``(B, d_k)`` to ``(B, 1 + d_k, *x_shape)``.

        By forward differentiation; a subclass may know a cheaper way.
        """
        numbers = (1 + z.shape[1]) * prod(self.x_shape)
        parts = [
            value_and_columns(lambda t: self.decode_chart(t, chart), rows)
            for rows in z.split(_rows_at_once(numbers, z.device))
        ]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def project_code(self, point: Point) -> Point:
        """Points brought back near the codes of the data, where only those count.

        Every retraction ends with it. Needed where the codes are a thin set in the latent box, around
        which the decoder means nothing; by default nothing moves.
        """
        return point

    def recognize(self, x: Tensor) -> Point:
        """What the encoders say of ``x`` ``(B, *x_shape)``: the chart whose projection is nearest to it.

        A learned encoder is not an exact inverse: :func:`onmanifold.locate` goes on from here.
        """
        check_batch(x, self.x_shape, "x")
        z, distances = self.views(x)
        chart = distances.argmin(dim=1)
        return Point(chart, z[torch.arange(len(x), device=x.device), chart])

    def config(self) -> dict[str, Any]:
        """JSON-able arguments from which the class builds this prior again, weights aside."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it is configured")

    # What follows from it -------------------------------------------------------------------------

    def decode(self, point: Point) -> Tensor:
        """The manifold's points, ``(B, *x_shape)``."""
        return self.map_charts(self.decode_chart, point)

    def encode(self, x: Tensor, chart: Tensor) -> Point:
        """``x`` ``(B, *x_shape)`` in the coordinates of the given charts, ``(B,)``."""
        if not isinstance(x, Tensor):
            x = as_real(x, "x", dtype=self.dtype, device=self.device)
        chart = _charts(chart, "chart")

        def encode(rows: Tensor, k: int) -> Tensor:
            return pad_to(self.encode_chart(rows, k), self.dim)

        return Point(chart, by_chart(encode, x, chart, self.num_charts))

    def encode_near(self, x: Tensor, point: Point) -> Point:
        """``x`` in the charts of points ``(B)`` that are near it: for priors whose encoder can use that."""
        return self.encode(x, point.chart)

    def log_prob(self, point: Point) -> Tensor:
        """Log-density of latent points, mixture weight included: ``(B,)``."""
        return self.map_charts(self.log_prob_chart, point)

    def project(self, x: Tensor, chart: Tensor) -> Tensor:
        """D_k(E_k(x)), ``(B, *x_shape)``: idempotent when ``E_k`` is an exact left inverse."""
        return self.decode(self.encode(x, chart))

    def box_half_width(self, chart: Tensor, like: Tensor) -> Tensor:
        """Half-widths of the latent boxes of charts ``(...)``, in the dtype of ``like``: ``(..., d)``.

        0 for coordinates that a chart does not have.
        """
        box = torch.as_tensor(self.box, dtype=like.dtype, device=like.device)
        return torch.where(self.active(chart), box[chart] if box.ndim == 2 else box, 0.0)

    def clamp(self, point: Point) -> Point:
        """The points of the latent boxes ``|z| <= box`` nearest to the given ones."""
        box = self.box_half_width(point.chart, point.z)
        return point.at(torch.clamp(point.z, -box, box))

    def views(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``x`` in every chart: coordinates in its box, ``(B, K, d)``, and the distance there, ``(B, K)``."""
        codes, distances = [], []
        for k in range(self.num_charts):
            there = self.clamp(self.encode(x, torch.full((len(x),), k, device=x.device)))
            codes.append(there.z)
            distances.append((self.decode(there) - x).flatten(1).norm(dim=1))
        return torch.stack(codes, dim=1), torch.stack(distances, dim=1)

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the weights."""
        return self._example().dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self._example().device

    def _example(self) -> Tensor:
        """A tensor of the prior's dtype and device."""
        floats = (t for t in chain(self.parameters(), self.buffers()) if t.is_floating_point())
        return next(floats, torch.empty(0))

    def active(self, chart: Tensor) -> Tensor:
        """Which of the d coordinates the charts ``(...)`` have: ``(..., d)``, boolean."""
        if min(self.chart_dims) == self.dim:
            return torch.ones(*chart.shape, self.dim, dtype=torch.bool, device=chart.device)
        axes = torch.arange(self.dim, device=chart.device)
        dims = torch.tensor(self.chart_dims, device=chart.device)
        return axes < dims[chart].unsqueeze(-1)

    def map_charts(
        self, apply: Callable[[Tensor, int], Tensor], point: Point, *sizes: int
    ) -> Tensor:
        """Apply a per-chart map to points that sit in different charts.

        Each chart is given its own coordinates ``(B, d_k)``. Results are filled up with zeros to ``sizes``
        along their axes after the batch, as far as these are given.
        """

        def own(rows: Tensor, k: int) -> Tensor:
            return pad_to(apply(rows[:, : self.chart_dims[k]], k), *sizes)

        return by_chart(own, point.z, point.chart, self.num_charts)


def _rows_at_once(numbers: int, device: torch.device) -> int:
    """How many rows of a batch are differentiated together, each of so many numbers.

    A network holds some times as many on its way. The C library returns large arrays to the system as soon as
    they are freed, and the next ones are cleared page by page: that took a third of the time of batches of a
    hundred digits.
    """
    if device.type != "cpu":
        return 2**31
    return max(_FRESH * torch.get_num_threads() // max(numbers, 1), 1)


def values_of(card: Mapping[str, Any]) -> str:
    """A card's range of values, and their unit where they have one.

    Example:
        >>> values_of({"value_range": [0, 1], "unit": "S/m"})
        '0 to 1 S/m'
    """
    ends, unit = card.get("value_range", ""), card.get("unit", "")
    given = " to ".join(map(str, ends)) if isinstance(ends, list) else str(ends)
    return given if unit in _NO_UNIT else f"{given} {unit}"


@runtime_checkable
class ReachedByJumps(Protocol):
    """A prior whose charts do not overlap, so that no descent leads from one to another.

    :func:`onmanifold.posterior.explore` jumps between them. Such a prior may have an attribute
    ``locate_misses``: the share of the manifold's points that :func:`onmanifold.locate` may not find again,
    since that takes more than a local search.
    """

    def jumps(self, point: Point) -> Mapping[str, Point]:
        """Candidates to descend from, for one point, by the name of the move that makes them."""
        ...


def require_prior(prior: object) -> None:
    """Raise ``TypeError`` unless it is a :class:`ManifoldPrior`."""
    if not isinstance(prior, ManifoldPrior):
        raise InputTypeError(f"prior has to be a ManifoldPrior, got {type(prior).__name__}")


def charts_overlap(prior: ManifoldPrior) -> bool:
    """Whether a descent may pass from one chart to another."""
    return prior.num_charts > 1 and not has_jumps(prior)


def has_jumps(prior: object) -> bool:
    """Whether a prior is :class:`ReachedByJumps`.

    ``isinstance`` looks at the class alone: a prior around another one has ``jumps`` where that one has.
    """
    return callable(getattr(prior, "jumps", None))


def pad_to(value: Tensor, *sizes: int) -> Tensor:
    """Append zeros along the axes after the batch, so that these have the given sizes.

    Example:
        >>> pad_to(torch.ones(1, 2), 3)
        tensor([[1., 1., 0.]])
    """
    missing = [size - have for size, have in zip(sizes, value.shape[1:], strict=False)]
    if not any(missing):
        return value
    rest = [0, 0] * (value.ndim - 1 - len(missing))
    return functional.pad(value, rest + [n for m in reversed(missing) for n in (0, m)])


def numbers(chart: Tensor, num_charts: int) -> list[int]:
    """The charts that occur, in order; ``ValueError`` if there is none of that number."""
    present = sorted(set(chart.tolist()))
    if present and not 0 <= present[0] <= present[-1] < num_charts:
        raise InputError(f"charts are numbered 0 to {num_charts - 1}, got {present}")
    return present


def by_chart(
    apply: Callable[[Tensor, int], Tensor], value: Tensor, chart: Tensor, num_charts: int
) -> Tensor:
    """Run ``apply(rows of chart k, k)`` for each chart present and put the rows back in order."""
    if chart.shape != value.shape[:1]:
        raise InputError(
            f"chart has shape {tuple(chart.shape)}, expected ({len(value)},): one number a point"
        )
    present = numbers(chart, num_charts)
    if len(present) == 1:
        return apply(value, present[0])
    rows = [(chart == k).nonzero().squeeze(1) for k in present]
    parts = [apply(value[r], k) for r, k in zip(rows, present, strict=True)]
    order = torch.cat(rows).argsort()
    return torch.cat(parts)[order]
