"""Networks held in evaluation mode for a while."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

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
    if not isinstance(module, nn.Module) or not (module.training or id(module) in _holders):
        yield
        return
    _hold(module)
    try:
        yield
    finally:
        _let_go(module)


def _hold(module: nn.Module) -> None:
    with _lock:
        key = id(module)
        if key not in _holders:
            _training[key] = [part for part in module.modules() if part.training]
            module.eval()
        _holders[key] = _holders.get(key, 0) + 1


def _let_go(module: nn.Module) -> None:
    with _lock:
        key = id(module)
        _holders[key] -= 1
        if not _holders[key]:
            del _holders[key]
            for part in _training.pop(key):
                part.training = True
