"""Header and index of a table of numbers as text.

The first row names the columns if it holds words, or if it counts 0, 1, 2, … as the labels that
pandas makes up and the numbers below are of another kind. A row that could be either is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from lstmstate.errors import AmbiguousError, printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

_INTEGER = re.compile(r"[+-]?\d+")
_MISSING = ("", "na", "n/a", "#n/a", "<na>", "null", "none", "-", "?")  # for values
_UNNAMED = ("", "Unnamed: 0")  # names of an index, as pandas writes and reads them
_LOOKED_AT = 100  # rows below the first
_SHOWN = 30  # characters of a row in a message
_SETTLED_BY = "say `header=True` if it names the columns, `header=False` if it is data"


class Header(NamedTuple):
    """The names of the columns, () for a table without a header.

    Attributes:
        notes: lines for the user on how they were found.
    """

    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def header_of(
    fields: Sequence[str],
    rows: Iterable[Sequence[str]],
    is_number: Callable[[str], bool],
    *,
    given: bool | None = None,
) -> Header:
    """Return the header of a table.

    Args:
        fields: those of the first row, without spaces around them.
        rows: those below it; only the first ones are looked at, if any.
        is_number: whether a field is read as a number.
        given: whether there is a header, None where that is open.

    Raises:
        AmbiguousError: the first row may be a header, or data.
    """
    names = tuple(fields)
    if given is not None:
        return Header(names if given else ())
    shown = ",".join(fields)
    shown = printable(shown[:_SHOWN]) + ("…" if len(shown) > _SHOWN else "")
    words = [field for field in fields if not is_number(field)]
    numbers = [field for field in fields if is_number(field)]
    labels = [str(number) for number in range(len(numbers))]
    counts = bool(numbers) and [*words, *labels] == [*fields]  # an index may have a name
    integers = len(set(numbers)) == len(numbers) and all(map(_INTEGER.fullmatch, numbers))
    below = [field.strip() for row in islice(rows, _LOOKED_AT) for field in row]
    has_numbers = bool(below) and all(map(is_number, below))
    if words:
        if not numbers and any(field.lower() not in _MISSING for field in words):
            return Header(names)
        is_header = counts
        is_gap = not any(words) and not (integers and words == [*fields[:1]])
        is_data = is_gap or not has_numbers  # in which the words are wrong
    else:
        others = integers and has_numbers and not any(map(_INTEGER.fullmatch, below))
        is_header = counts and others and len(fields) > 1
        is_data = not counts and not others
    if is_header:
        otherwise = "" if words else "; `header=False` reads it as data"
        return Header(names, (f"the first row, {shown}, is read as a header{otherwise}",))
    if is_data:
        return Header()
    raise AmbiguousError(f"its first row, {shown}, may be a header or data", advice=_SETTLED_BY)


def without_index(
    names: tuple[str, ...], table: Array
) -> tuple[tuple[str, ...], Array, tuple[str, ...]]:
    """Return the names and columns of a table without its index, and notes.

    An index is a first column without a name that counts the rows from 0.

    Raises:
        AmbiguousError: the first column has no name, and holds something else.
    """
    import numpy as np

    notes: tuple[str, ...] = ()
    while len(names) > 1 and names[0] in _UNNAMED:
        if not np.array_equal(table[:, 0], np.arange(len(table))):
            picked = ",".join(printable(name) for name in names[1:3]) + (
                ",…" if len(names) > 3 else ""
            )
            raise AmbiguousError(
                "its first column has no name, and may be an index or data",
                advice=f"pick columns: FILE:{picked} without it, FILE:{names[0]},{picked} with it",
            )
        names, table = names[1:], table[:, 1:]
        notes = ("the first column has no name and counts the rows: it is left out as an index",)
    return names, table, notes
