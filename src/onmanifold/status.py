"""Why a descent ended, and its numbers step by step."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from torch import Tensor

from onmanifold.in_kind import Result
from onmanifold.printing import Brief


class Status(IntEnum):
    """Why a descent ended; its members carry a message.

    Example:
        >>> Status.MAX_STEPS.message
        'the step budget is used up'
        >>> Status.SMALL_GRADIENT.converged
        True
    """

    _message: str
    converged: bool

    def __new__(cls, code: int, converged: bool, message: str) -> Status:
        member = int.__new__(cls, code)
        member._value_ = code
        member.converged = converged
        member._message = message
        return member

    RUNNING = 0, False, "still descending"
    SMALL_GRADIENT = 1, True, "the gradient along the manifold is as small as asked"
    SMALL_DECREASE = 2, True, "the last or the predicted reduction is as small as asked"
    DISCREPANCY = 3, True, "the misfit is down to the noise"
    MAX_STEPS = 4, False, "the step budget is used up"
    STALLED = 5, False, "no step lowers the objective: rounding, or a wrong derivative"
    NOT_FINITE = 6, False, "the objective or its gradient is NaN or infinite"
    STOPPED_BY_CALLBACK = 7, False, "the callback asked to stop"
    DROPPED = 8, False, "other starts were far ahead"
    INTERRUPTED = 9, False, "interrupted from the keyboard"

    @property
    def message(self) -> str:
        """The reason in words."""
        return self._message


@dataclass(frozen=True, repr=False)
class History(Result, Brief):
    """The best start, step by step: row t holds its numbers after t steps, of T in all.

    A measurement that stopped early repeats its last row (with step length 0).

    Attributes:
        objective: ``(T + 1, B)``; never rises.
        gradient_norm: length of the Riemannian gradient, ``(T + 1, B)``.
        step_length: length of the step taken in the space of x, 0 if none, ``(T + 1, B)``.
        chart: ``(T + 1, B)``, integer.
        z: latent coordinates in that chart, ``(T + 1, B, d)``, if the trajectory was asked for.
    """

    objective: Tensor
    gradient_norm: Tensor
    step_length: Tensor
    chart: Tensor
    z: Tensor | None = None
