"""Bounds on work, in lines of the package that are executed and in bytes that are allocated.

Unlike a time, both are the same on every machine, whatever else runs there.
"""

from __future__ import annotations

import math
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lstmstate

MIB = 1 << 20


class Lines:
    """How many lines of the package were executed."""

    count = 0


PACKAGE = str(Path(lstmstate.__file__).parent)


@contextmanager
def few_lines(most: float = math.inf) -> Iterator[Lines]:
    """Count the lines of the package that a block executes; stop it, with an AssertionError.

    Args:
        most: the most lines that it may execute.
    """
    lines = Lines()

    def in_package(frame: FrameType, event: str, argument: object) -> Any:
        lines.count += event == "line"
        if lines.count > most:
            raise AssertionError(f"more than {most} lines were executed")
        return in_package

    def anywhere(frame: FrameType, event: str, argument: object) -> Any:
        return in_package if frame.f_code.co_filename.startswith(PACKAGE) else None

    before = sys.gettrace()
    sys.settrace(anywhere)
    try:
        yield lines
    finally:
        sys.settrace(before)
    assert lines.count <= most  # also where the error was suppressed


def graph_lines(nodes: int) -> int:
    """Return the most lines that a graph may take: twice those of the worst known ones.

    Up to `limits.WALK_STEPS` steps along its edges are taken in a graph of any size.
    """
    return 3_000_000 + 2_500 * nodes


@contextmanager
def little_memory(megabytes: float) -> Iterator[None]:
    """Demand that a block allocates no more than this at its peak."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < megabytes * MIB
