"""Forward-mode derivatives, without torch's own noise."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import cast

import torch
from torch import Tensor


def jvp(function: Callable[[Tensor], Tensor], x: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
    """``f(x)`` and its derivative applied to ``tangent``."""
    _load()
    return cast(tuple[Tensor, Tensor], torch.func.jvp(function, (x,), (tangent,)))


@cache
def _load() -> None:
    # The first jvp of a process compiles torch's decompositions, with a deprecation warning that no
    # user can do anything about.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.func.jvp(torch.sin, (torch.zeros(()),), (torch.zeros(()),))
