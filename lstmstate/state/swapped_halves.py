"""Detection of swapped halves: values of m that only c can have."""

from __future__ import annotations

from collections.abc import Iterable

from lstmstate.cells.cell import CellShape
from lstmstate.errors import printable
from lstmstate.value_stats import ValueStats


def place(cell: str) -> str:
    """Return the start of a line on a cell, empty for a cell without a name."""
    return f"{printable(cell)}: " if cell else ""


def find_swapped(
    cells: Iterable[CellShape], ranges: Iterable[tuple[ValueStats, ValueStats]]
) -> list[str]:
    """Return a line for each cell whose c and m look swapped.

    Without a projection m is sigmoid(o) * tanh(c), which never leaves [-1, 1].

    Args:
        ranges: those of c and m of each cell.
    """
    return [
        f"{place(cell.name)}c and m look swapped: m reaches from {m.low:.4g} to {m.high:.4g},"
        " and without a projection it stays within -1 and 1; c does"
        for cell, (c, m) in zip(cells, ranges, strict=True)
        if cell.widths.c == cell.widths.m and c.within_one and not m.within_one
    ]
