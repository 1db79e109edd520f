"""Threads of the BLAS that NumPy computes its matrix products with.

OpenBLAS wakes its threads for every product over some ten thousand numbers, and they wait for one
another in a busy loop. Most steps of a cell are over before that pays, and if other processes
need the processors it costs several times its gain.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

_SETTINGS = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")


class _Use:
    """How many computations want one thread at the moment, and how many threads there were."""

    lock = threading.Lock()
    running = 0
    limit: Any = None


def begin_with_one_thread() -> None:
    """Have a NumPy that is not imported yet begin with one thread, unless a user sets another.

    The others would spin for some 20 ms after the import.
    """
    if "numpy" not in sys.modules and not any(os.environ.get(name) for name in _SETTINGS):
        os.environ[_SETTINGS[0]] = "1"


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute products on one thread, in the whole process, until this ends."""
    with _Use.lock:
        if not _Use.running:
            _take_control()
            _Use.limit = libraries().limit(limits=1)
        _Use.running += 1
    try:
        yield
    finally:
        with _Use.lock:
            _Use.running -= 1
            if not _Use.running:
                _take_control()
                _Use.limit.restore_original_limits()


def _take_control() -> None:
    """Let this thread set the number: threadpoolctl 3.8 ignores all threads but the first."""
    import threadpoolctl

    clear = getattr(threadpoolctl.OpenBLASController, "clear_controlling_thread", None)
    if clear is not None:
        clear(force=True)


def _forget_runs() -> None:
    """Have a child process forget the runs of its parent, whose threads it does not have."""
    if _Use.running:
        _take_control()
        _Use.limit.restore_original_limits()
    _Use.lock = threading.Lock()
    _Use.running = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_runs)


@cache
def libraries() -> ThreadpoolController:
    """Return the libraries of matrix products that this process has loaded."""
    import numpy as np  # noqa: F401 - it loads them
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
