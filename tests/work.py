"""Limits on work, in executed lines of the package and in allocated bytes.

Unlike time, both are the same on every machine under any load.
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
    """The number of executed lines of the package."""

    count = 0


PACKAGE = str(Path(lstmstate.__file__).parent)


@contextmanager
def few_lines(most: float = math.inf) -> Iterator[Lines]:
    """Count the lines of the package that a block executes; raise AssertionError at the limit.

    Args:
        most: the largest number of lines that it may execute.
    """
    lines, count = Lines(), 0

    def in_package(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        if event == "line":
            count += 1
            if count > most:
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
        lines.count = count
    assert lines.count <= most  # also if the error was suppressed


def graph_lines(nodes: int) -> int:
    """Return the largest number of lines for a graph: twice those of the worst known ones.

    Up to `limits.WALK_STEPS` steps along its edges are taken in a graph of any size.
    """
    return 3_000_000 + 2_500 * nodes


@contextmanager
def little_memory(megabytes: float) -> Iterator[None]:
    """Check that a block allocates no more than this at its peak."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < megabytes * MIB
