"""Arrays bound to cells by name, in any order."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lstmstate.cells.variable_names import direction
from lstmstate.errors import AmbiguousError, first_of, printable

_SHOWN = 4
_COUNTED = re.compile(r"cell_(\d{1,9})")  # what `layouts.scopes_of` calls cells without names


class PartlyNamedError(AmbiguousError):
    """Some names are those of the cells, and others are not."""


def bind(names: Sequence[str], cells: Sequence[str]) -> list[int] | None:
    """Return for each cell the place of its name; None if no name is that of a cell.

    A name is that of a cell if it is the same, or one of the two is whole parts of the other
    and of no other cell. Names that only count (cell_0, cell_1, …) are places.

    Args:
        names: of arrays, one for each cell, as many as there are cells.

    >>> bind(["bw/lstm_cell", "fw/lstm_cell"], ["rnn/fw/lstm_cell", "rnn/bw/lstm_cell"])
    [1, 0]
    >>> bind(["a", "b"], ["rnn/fw/lstm_cell", "rnn/bw/lstm_cell"]) is None
    True
    """
    if sorted(names) == sorted(cells) and len(set(names)) == len(names):
        return [names.index(cell) for cell in cells]
    if are_counted(names):
        return None
    of_cell = [[k for k, cell in enumerate(cells) if _same(name, cell)] for name in names]
    if not any(of_cell):
        _refuse_other_directions(names, cells)
        return None
    if sorted(k for found in of_cell for k in found) != list(range(len(cells))):
        raise PartlyNamedError(
            f"its arrays are named after {_listed(names)}, and the cells are {_listed(cells)}: "
            "they cannot be matched",
            advice="name them all as the cells are named, or none",
        )
    return [of_cell.index([k]) for k in range(len(cells))]


def are_counted(names: Sequence[str]) -> bool:
    """Whether names only count: cell_0, cell_1, …"""
    matches = [_COUNTED.fullmatch(name) for name in names]
    return [int(one[1]) for one in matches if one] == list(range(len(names)))


def _same(name: str, cell: str) -> bool:
    inner, outer = f"/{name}/", f"/{cell}/"
    return bool(name and cell) and (inner in outer or outer in inner)


def _refuse_other_directions(names: Sequence[str], cells: Sequence[str]) -> None:
    for name, cell in zip(names, cells, strict=True):
        own, expected = direction(name), direction(cell)
        if own is not None and expected is not None and own[1] != expected[1]:
            raise AmbiguousError(
                f"expected the state of {printable(cell)!r}, which runs {expected[1]}, and got "
                f"that of {printable(name)!r}",
                advice="name the arrays as the cells are named",
            )


def _listed(names: Sequence[str]) -> str:
    return first_of([name or "(no name)" for name in names], _SHOWN)
