"""The OpenBLAS that NumPy computes its matrix products with, if it is that: threads and kernels.

It wakes its threads for every product over some ten thousand numbers, and they wait for one
another in a busy loop. A step of a cell is mostly over before that pays, and where other processes
want the processors it costs several times what it could gain.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from lstmstate.records import NamedTuple

_SETTINGS = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")
_NAMES = (  # in the wheels of NumPy 2, in those of 1, elsewhere
    "scipy_openblas_{}64_",
    "openblas_{}64_",
    "openblas_{}",
)
# The processors for which OpenBLAS has kernels for small matrices of float32 and float64:
# interface/gemm.c and kernel/x86_64/KERNEL.SKYLAKEX in its source, 0.3.17 and later.
_WITH_SMALL_KERNELS = ("SkylakeX", "Cooperlake", "SapphireRapids")


class _OpenBlas(NamedTuple):
    """Its functions."""

    threads: Callable[[], int]
    set_threads: Callable[[int], object]
    processor: str


class _Use:
    """How many computations want one thread at the moment, and how many threads there were."""

    lock = threading.Lock()
    running = 0
    before = 1


def begin_with_one_thread() -> None:
    """Have a NumPy that is not imported yet begin with one thread, unless a user says otherwise.

    The others would spin for some 20 ms after the import.
    """
    if "numpy" not in sys.modules and not any(os.environ.get(name) for name in _SETTINGS):
        os.environ[_SETTINGS[0]] = "1"


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute products on one thread, in the whole process, until this ends."""
    found = _openblas()
    if found is None:
        yield
        return
    with _Use.lock:
        if not _Use.running:
            _Use.before = found.threads()
            found.set_threads(1)
        _Use.running += 1
    try:
        yield
    finally:
        with _Use.lock:
            _Use.running -= 1
            if not _Use.running:
                found.set_threads(_Use.before)


def _forget_runs() -> None:
    """Have a child process forget the runs of its parent, whose threads it has not got."""
    found = _openblas()
    if _Use.running and found is not None:
        found.set_threads(_Use.before)
    _Use.lock = threading.Lock()
    _Use.running = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_runs)


def has_small_products() -> bool:
    """Return whether products of small matrices take them as they are, without copies."""
    found = _openblas()
    return found is not None and found.processor in _WITH_SMALL_KERNELS


@cache
def _openblas() -> _OpenBlas | None:
    """Return the functions of the OpenBLAS that NumPy is linked with, None where it is another."""
    import ctypes

    names = ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath")
    module = next((sys.modules[name] for name in names if name in sys.modules), None)
    if module is None or module.__file__ is None:
        return None
    try:
        library = ctypes.CDLL(module.__file__)  # is loaded; it has the names of what it needs, too
    except OSError:
        return None
    for name in _NAMES:
        try:
            get, set_, processor = (
                getattr(library, name.format(what))
                for what in ("get_num_threads", "set_num_threads", "get_corename")
            )
        except AttributeError:
            continue
        processor.restype = ctypes.c_char_p
        return _OpenBlas(get, set_, (processor() or b"").decode("ascii", "replace"))
    return None
