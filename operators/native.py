"""dolfinx, PETSc and MPI: imported without touching signals, used by one thread at a time.

The process belongs to the user. PETSc, MPI and its transports (UCX) each replace handlers of signals as they
start: a job that saves its state on SIGTERM or SIGUSR1 would no longer, and who ends a process would read a
crash report. So what stood there before is put back.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import wraps
from importlib import import_module
from typing import Any

import numpy as np

from onmanifold.errors import MissingPackage

_OWNERS = (b"petsc", b"libmpi", b"libucs", b"libucm", b"libopen-pal", b"libfabric")
_lock = threading.RLock()


def _forget_threads() -> None:
    # A forked process has one thread, and no other will ever release the lock there.
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Let one thread into gmsh, dolfinx or PETSc at a time: they keep state for the whole process."""
    with _lock:
        yield


def exclusive[**P, T](function: Callable[P, T]) -> Callable[P, T]:
    """The function, entered by one thread at a time, see :func:`one_at_a_time`."""

    @wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> T:
        with one_at_a_time():
            return function(*args, **kwargs)

    return alone


@exclusive
def require_dolfinx() -> Any:
    """Import dolfinx and petsc4py, or say how to install them.

    Raises:
        ImportError: one of them is missing, or PETSc has complex scalars.
    """
    try:
        with _signals_kept():
            with contextlib.suppress(ModuleNotFoundError):  # conda-forge's dolfinx comes without it
                import_module(
                    "dolfinx_solver"
                )  # the wheel's libraries have to be loaded in its order
            if "petsc4py.PETSc" not in sys.modules:
                import_module("petsc4py").init(["-no_signal_handler"])
            dolfinx = import_module("dolfinx")
            import_module("dolfinx.fem")
            import_module("dolfinx.mesh")
            scalar = import_module("petsc4py.PETSc").ScalarType
    except ImportError as error:
        raise MissingPackage(
            f"finite elements need dolfinx with petsc4py ({error}). Install it with "
            "`pip install onmanifold[eit]` (Linux, x86-64) or "
            "`conda install -c conda-forge fenics-dolfinx` (elsewhere)."
        ) from error
    if np.issubdtype(scalar, np.complexfloating):
        raise MissingPackage("this PETSc computes with complex numbers; install its real variant")
    return dolfinx


# Signals ------------------------------------------------------------------------------------------

_handed_back = False


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Put the handlers of all signals back that a library replaces when it is loaded inside.

    Where a user's own import of dolfinx came first, handlers of Python are put back at the first time.
    """
    global _handed_back
    if _handed_back or not hasattr(signal, "pthread_sigmask"):  # Windows has no sigaction
        yield
        return
    libc = ctypes.CDLL(None)
    numbers = [s for s in signal.valid_signals() if s not in (signal.SIGKILL, signal.SIGSTOP)]
    before = {s: _action(libc, s) for s in numbers}
    try:
        yield
    finally:
        for s, action in before.items():
            if _action(libc, s).raw != action.raw:
                libc.sigaction(int(s), action, None)
        if threading.current_thread() is threading.main_thread():  # Python allows no other
            for s in numbers:
                if _is_library(libc, before[s]):
                    signal.signal(s, signal.getsignal(s) or signal.SIG_DFL)
            _handed_back = True


def _action(libc: ctypes.CDLL, number: int) -> ctypes.Array[ctypes.c_char]:
    """The C library's ``struct sigaction`` of a signal, in a buffer that is large enough everywhere."""
    action = ctypes.create_string_buffer(512)
    libc.sigaction(int(number), None, action)
    return action


class _Place(ctypes.Structure):
    """The C library's ``Dl_info``: where an address comes from."""

    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def _is_library(libc: ctypes.CDLL, action: ctypes.Array[ctypes.c_char]) -> bool:
    """Whether a handler, the first field of its action, is one of PETSc's or MPI's."""
    handler, place = ctypes.c_void_p.from_buffer(action).value, _Place()
    if (
        not handler
        or handler == 1
        or not libc.dladdr(ctypes.c_void_p(handler), ctypes.byref(place))
    ):
        return False
    return any(owner in os.path.basename(place.file or b"").lower() for owner in _OWNERS)
