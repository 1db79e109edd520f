"""How many threads the matrix products of NumPy are shared among, where OpenBLAS computes them.

OpenBLAS wakes its threads for every product over some ten thousand numbers, and they wait for one
another in a busy loop. A step of a cell is mostly over before that pays; where other processes
want the processors, it costs several times what it could gain.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

_SETTINGS = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")
_NAMES = (
    "scipy_openblas_{}_num_threads64_",
    "openblas_{}_num_threads64_",
    "openblas_{}_num_threads",
)


class _Control(NamedTuple):
    """The functions of OpenBLAS."""

    get: Callable[[], int]
    set: Callable[[int], object]


class _Use:
    """Who uses one thread at the moment, and how many there were before."""

    lock = threading.Lock()
    began_with_one = False
    running = 0
    before = 1


def begin_with_one() -> None:
    """Have a NumPy that is not imported yet begin with one thread, unless a user says otherwise.

    The others would spin for some 20 ms after the import. `shared` wakes them.
    """
    if "numpy" not in sys.modules and not any(os.environ.get(name) for name in _SETTINGS):
        os.environ[_SETTINGS[0]] = "1"
        _Use.began_with_one = True


@contextmanager
def shared(*, is_large: bool) -> Iterator[None]:
    """Share products among the threads that there are if they are large, else keep them to one.

    The number of threads is that of the process, and is put back in the end.
    """
    control = _control()
    if control is None or (is_large and not _Use.began_with_one):
        yield
        return
    wanted = _processors() if is_large else 1
    with _Use.lock:
        if not _Use.running:
            _Use.before = control.get()
            control.set(wanted)
        _Use.running += 1
    try:
        yield
    finally:
        with _Use.lock:
            _Use.running -= 1
            if not _Use.running:
                control.set(_Use.before)


def _processors() -> int:
    """Return how many processors the process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def _control() -> _Control | None:
    """Return the functions of the OpenBLAS that NumPy is linked with, None where it is another."""
    import ctypes

    names = ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath")
    module = next((sys.modules[name] for name in names if name in sys.modules), None)
    if module is None or module.__file__ is None:
        return None
    try:
        library = ctypes.CDLL(module.__file__)  # is loaded already; finds what it is linked with
    except OSError:
        return None
    for name in _NAMES:
        if hasattr(library, name.format("set")):
            return _Control(*(getattr(library, name.format(what)) for what in ("get", "set")))
    return None
