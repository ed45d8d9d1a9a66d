"""Networks held in evaluation mode for a while, and computing as no context of the caller can change it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import nn

from onmanifold.threads import threads_for

# Threads may hold the same network: the last one to let go sets its mode back.
_lock = threading.Lock()
_holders: dict[int, int] = {}
_training: dict[int, list[nn.Module]] = {}


@contextmanager
def evaluation(module: object) -> Iterator[None]:
    """Hold a network in evaluation mode, and leave each of its parts as it was.

    Args:
        module: a ``torch.nn.Module``; nothing happens to any other object.

    Example:
        >>> layer = nn.Dropout()
        >>> with evaluation(layer):
        ...     layer.training
        False
        >>> layer.training
        True
    """
    if not isinstance(module, nn.Module) or not _hold(module):
        yield
        return
    try:
        yield
    finally:
        _let_go(module)


@contextmanager
def computing(prior: Any, members: int = 1) -> Iterator[None]:
    """Compute with ``prior`` in evaluation mode, in full precision, without a graph of the caller's.

    A caller's ``torch.inference_mode`` would forbid derivatives, and ``torch.autocast`` round them. More than
    one thread computes only where the Jacobians of ``members`` points are large.
    """
    full = torch.autocast(prior.device.type, enabled=False)
    threads = threads_for(members * (1 + prior.dim) * prod(prior.x_shape))
    with torch.inference_mode(False), torch.no_grad(), full, evaluation(prior), threads:
        yield


def _hold(module: nn.Module) -> bool:
    """Whether there was anything to hold; asked under the lock, since another thread may be letting go."""
    with _lock:
        key = id(module)
        if not (module.training or key in _holders):
            return False
        if key not in _holders:
            _training[key] = [part for part in module.modules() if part.training]
            module.eval()
        _holders[key] = _holders.get(key, 0) + 1
        return True


def _let_go(module: nn.Module) -> None:
    with _lock:
        key = id(module)
        _holders[key] -= 1
        if not _holders[key]:
            del _holders[key]
            for part in _training.pop(key):
                part.training = True
