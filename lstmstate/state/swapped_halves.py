"""Swapped halves: a c in the place of m, seen by its range."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lstmstate.errors import printable
from lstmstate.state.state import CellShape
from lstmstate.value_stats import ValueStats


def find_swapped(
    cells: Sequence[CellShape], ranges: Sequence[tuple[ValueStats, ValueStats]]
) -> Iterator[str]:
    """Yield a line for each cell whose c and m look swapped.

    Without a projection m is sigmoid(o) * tanh(c), which never leaves [-1, 1].
    """
    for cell, (c, m) in zip(cells, ranges, strict=True):
        if cell.widths.c == cell.widths.m and c.within_one and not m.within_one:
            place = f"{printable(cell.name)}: " if cell.name else ""
            yield (
                f"{place}c and m look swapped: m reaches from {m.low:.4g} to {m.high:.4g}, and "
                "without a projection it stays within -1 and 1; c does"
            )
