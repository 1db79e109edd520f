"""Timing of whole processes in turn, shared by the benchmarks."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


class Figure(NamedTuple):
    """The cost of a command: wall seconds, and its peak memory in MiB."""

    seconds: float
    peak: float


def measure(command: Sequence[str]) -> Figure:
    """Run a command once."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return Figure(seconds, usage.ru_maxrss / (1 << (20 if sys.platform == "darwin" else 10)))


def medians(
    commands: Mapping[str, Sequence[str]],
    runs: int,
    before: Callable[[], object] = lambda: None,
    *,
    warm: bool = True,
) -> dict[str, Figure]:
    """Return for each command the median seconds and the largest peak, of runs in turn.

    Args:
        before: is called before each run, and not timed.
        warm: whether a first run, which brings files and bytecode into the caches, is left out.
    """
    taken: dict[str, list[Figure]] = {name: [] for name in commands}
    for number in range(runs + warm):
        for name, command in commands.items():
            before()
            figure = measure(command)
            if number >= warm:
                taken[name].append(figure)
    return {
        name: Figure(statistics.median(f.seconds for f in figures), max(f.peak for f in figures))
        for name, figures in taken.items()
    }
