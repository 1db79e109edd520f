"""Shapes, comparison and tables shared by the benchmarks of `run`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
TOLERANCE = 1e-4
COMPARE = """
import sys, numpy as np
own, *others = (np.load(path) for path in sys.argv[1:])
print(*(abs(own - other).max() for other in others))
"""


class Shape(NamedTuple):
    """The sizes of one benchmark."""

    batch: int
    steps: int
    width: int
    units: int

    def __str__(self) -> str:
        return f"{self.batch}, {self.steps}, {self.width}, {self.units}"


SHAPES = (
    Shape(1, 5000, 8, 20),
    Shape(1, 2000, 64, 128),
    Shape(1, 500, 256, 512),
    Shape(8, 500, 64, 128),
    Shape(32, 500, 64, 128),
    Shape(64, 200, 256, 512),
    Shape(16, 100, 1024, 1024),
)


def call(*command: object) -> str:
    """Run a command in its own process, so that this one stays small; return its output.

    The system's peak memory of a process includes that of the process that started it.
    """
    command = tuple(map(str, command))
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def compared(names: Sequence[str], paths: Sequence[Path]) -> dict[str, float]:
    """Return the differences of other outputs from the first; exit if one is too large."""
    found = call(sys.executable, "-c", COMPARE, *paths).split()
    differences = dict(zip(names[1:], map(float, found), strict=True))
    if not all(difference < TOLERANCE for difference in differences.values()):
        raise SystemExit(f"they do not compute the same: {differences}")
    return differences


def mark(*, is_met: bool) -> str:
    """Return the mark of a ratio."""
    return "" if is_met else " !"


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in Markdown."""
    lines = [list(headings), ["---", *["---:"] * (len(headings) - 1)], *map(list, rows)]
    for line in lines:
        print(f"| {' | '.join(line)} |")
    print(flush=True)
