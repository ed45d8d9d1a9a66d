"""Results of checks, and the numbers that they compare."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from onmanifold.printing import MOST
from onmanifold.prior import ManifoldPrior

SLOPE = 1.8  # what counts as a slope of 2
NEGLIGIBLE = 1e-6  # a derivative's relative error that the Taylor check does not look for


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: the property that was checked.
        value: an error, or a slope.
        bound: the largest error, or the smallest slope, that is accepted.
        at_least: whether ``bound`` is a lower bound.
    """

    name: str
    value: float
    bound: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether the value is within the bound; NaN never is."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        mark, side = (
            ("ok  " if self.holds else "FAIL"),
            ("at least" if self.at_least else "at most"),
        )
        return f"{mark}  {self.name:<52} {self.value:9.2e}  {side} {self.bound:.2g}"


@dataclass(repr=False)
class CheckReport:
    """The results of all checks of one plugin, in the order in which they were measured.

    Attributes:
        subject: class of the plugin, and its dtype.
        checks: the results.
    """

    subject: str
    checks: list[Check] = field(default_factory=list)

    @classmethod
    def of(cls, plugin: object, dtype: torch.dtype) -> CheckReport:
        """No results yet."""
        return cls(f"{type(plugin).__name__} in {str(dtype).removeprefix('torch.')}")

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if not check.holds)

    def __str__(self) -> str:
        return "\n".join([self.subject, *(f"  {check}" for check in self.checks)])

    def __repr__(self) -> str:
        failed, many = self.failed, len(self.checks)
        if not failed:
            return f"{self.subject}: all {many} checks hold (print it to see them)"
        lines = [f"{self.subject}: {len(failed)} of {many} checks fail", *map(str, failed[:MOST])]
        return "\n  ".join(lines)

    def at_most(self, name: str, error: float, bound: float) -> None:
        self.checks.append(Check(name, error, bound))

    def at_least(self, name: str, value: float, bound: float) -> None:
        self.checks.append(Check(name, value, bound, at_least=True))

    def true(self, name: str, fact: bool) -> None:
        """A check that is met or not: error 0 or infinity."""
        self.checks.append(Check(name, 0.0 if fact else math.inf, 0.0))

    def verdict(self) -> CheckReport:
        """The report itself; raises :class:`CheckFailed` if one of the checks so far failed."""
        if self.failed:
            raise CheckFailed(self)
        return self


class CheckFailed(AssertionError):
    """A plugin fails at least one check.

    Attributes:
        report: every check with its measured error.
    """

    def __init__(self, report: CheckReport) -> None:
        self.report = report
        lines = [str(check) for check in report.failed]
        super().__init__(f"{report.subject} fails {len(lines)} check(s):\n" + "\n".join(lines))


def fits(value: object, shape: tuple[int, ...], like: Tensor | ManifoldPrior) -> bool:
    """Whether ``value`` is a finite tensor of this shape, in the dtype and on the device of ``like``."""
    return (
        isinstance(value, Tensor)
        and value.shape == shape
        and value.dtype == like.dtype
        and value.device == like.device
        and bool(torch.isfinite(value).all())
    )


def distance(a: Tensor, b: Tensor, scale: float | None = None) -> float:
    """Largest difference of two tensors, relative to ``scale`` (their own size when it is None).

    Tensors of different shape, dtype or device are infinitely far apart; so are NaNs from anything.
    """
    if a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
        return math.inf
    difference = float((a - b).abs().max()) if a.numel() else 0.0
    if difference == 0:
        return 0.0
    if scale is None:
        scale = max(float(a.abs().max()), float(b.abs().max()))
    return difference / scale if math.isfinite(difference) and scale > 0 else math.inf


def inner(a: Tensor, b: Tensor) -> float:
    """Inner product, summed in float64."""
    return float((a.double() * b.double()).sum())


def remainder_slope(
    remainder: Callable[[float], Tensor],
    first_order: Tensor,
    noise: Tensor,
    start: float = 2.0**-4,
    steps: int = 10,
) -> float:
    """Slope of ``log |remainder(t)|`` over ``log t``, the worst of a batch.

    Only remainders above 30 times the rounding ``noise`` and above ``NEGLIGIBLE * t`` times the
    first-order term are used. A member with fewer than two of them has an infinite slope.

    Args:
        remainder: maps ``t`` to the remainder's norm, ``(B,)``.
        first_order: norm of the first-order term at ``t = 1``, ``(B,)``.
        noise: level of rounding in the remainder, ``(B,)``.
        start: the largest ``t``; each next one is a quarter of the last.
        steps: how many values of ``t``.

    Example:
        >>> one = torch.ones(1, dtype=torch.float64)
        >>> remainder_slope(lambda t: 3 * t**2 * one, one, 1e-16 * one)
        2.0
        >>> remainder_slope(lambda t: (t + 3 * t**2) * one, one, 1e-16 * one) < 1.1
        True
    """
    times = [start / 4**k for k in range(steps)]
    values = torch.stack([remainder(t) for t in times], dim=1)
    if not bool(torch.isfinite(values).all()):
        return math.nan
    levels = torch.stack([(30 * noise).maximum(NEGLIGIBLE * t * first_order) for t in times], dim=1)
    worst = math.inf
    for row, level in zip(values, levels, strict=True):
        clear = row > level  # the slope is taken up to the first remainder that rounding hides
        count = len(row) if bool(clear.all()) else int((~clear).int().argmax())
        if count < 2:
            continue
        slopes = (row[: count - 1] / row[1:count]).log() / math.log(4)
        worst = min(worst, float(slopes[-3:].median()))
    return worst


def norms(x: Tensor) -> Tensor:
    """Euclidean norm of each batch member, ``(B,)``."""
    return x.flatten(1).square().sum(dim=1).sqrt()


def tolerance(dtype: torch.dtype) -> float:
    """Relative error that rounding may cause."""
    return 1e-10 if dtype == torch.float64 else 1e-5


def randn(like: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Standard normal numbers in the dtype and on the device of ``like``; the same for each."""
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(like)
