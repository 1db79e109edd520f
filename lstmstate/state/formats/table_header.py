"""Header and index of a table of numbers as text.

The first row names the columns if it holds words, or if it counts 0, 1, 2, … as the labels that
pandas makes up and the numbers below are of another kind. A row that could be either is refused,
and so is a first column without a name that could be an index or data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from lstmstate.errors import AmbiguousError, NotFoundError, first_of, printable
from lstmstate.named_tuple import NamedTuple

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lstmstate.state.state import Array

_INTEGER = re.compile(r"[+-]?\d+")
_FLOAT = re.compile(r"[+-]?\d+\.0")
_LABEL = re.compile(r"(\d{1,15})(\.0)?")  # as pandas writes integers, and floats that are whole
_MISSING = ("", "na", "n/a", "#n/a", "<na>", "null", "none", "-", "?")  # for values
_UNNAMED = ("", "Unnamed: 0")  # names of an index, as pandas writes and reads them
_LOOKED_AT = 100  # rows below the first
_SHOWN = 30  # characters of a row, or a name, in a message
_LISTED = 8  # names of columns that an error lists
_SETTLED_BY = "pass `header=True` if it names the columns, `header=False` if it is data"


class TableHeader(NamedTuple):
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
) -> TableHeader:
    """Return the header of a table.

    Args:
        fields: those of the first row, without spaces around them.
        rows: those below it; only the first ones are looked at, if any.
        is_number: whether a field is read as a number.
        given: whether there is a header, None if unknown.
    """
    names = tuple(fields)
    if given is not None:
        return TableHeader(names if given else ())
    shown = ",".join(fields)
    shown = printable(shown[:_SHOWN]) + ("…" if len(shown) > _SHOWN else "")
    words = [field for field in fields if not is_number(field)]
    numbers = [field for field in fields if is_number(field)]
    integers = len(set(numbers)) == len(numbers) and all(map(_INTEGER.fullmatch, numbers))
    rises = _rises(numbers)
    counts = rises and float(numbers[0]) == 0 and [*words, *numbers] == [*fields]
    below = [field.strip() for row in islice(rows, _LOOKED_AT) for field in row]
    has_numbers = bool(below) and all(map(is_number, below))
    is_header = False
    if words:
        if not numbers and any(field.lower() not in _MISSING for field in words):
            return TableHeader(names)
        is_header = counts and not any(field and field.lower() in _MISSING for field in words)
        is_gap = not any(words) and not (integers and words == [*fields[:1]])
        is_data = is_gap or not has_numbers  # with wrong words in it
    elif integers:
        others = has_numbers and not any(map(_INTEGER.fullmatch, below))
        is_header = counts and others and len(fields) > 1
        is_data = not counts and not others
    else:
        others = has_numbers and not any(map(_FLOAT.fullmatch, below))
        is_data = not rises or not (counts or others) or len(fields) < 3
        if counts and others and len(fields) == 2:  # 0.0,1.0 is too common to be refused
            return TableHeader(notes=(f"the first row, {shown}, is read as data; {_SETTLED_BY}",))
    if is_header:
        otherwise = "" if words else "; `header=False` reads it as data"
        return TableHeader(names, (f"the first row, {shown}, is read as a header{otherwise}",))
    if is_data:
        return TableHeader()
    raise AmbiguousError(f"its first row, {shown}, may be a header or data", advice=_SETTLED_BY)


def _rises(numbers: Sequence[str]) -> bool:
    """Whether there are numbers, and they count up by one as labels do: 7,8,9 or 7.0,8.0,9.0."""
    label = _LABEL.fullmatch(numbers[0]) if numbers else None
    if label is None:
        return False
    first, end = int(label[1]), label[2] or ""
    return [*numbers] == [f"{first + step}{end}" for step in range(len(numbers))]


def places(names: Sequence[str], width: int, asked: str) -> list[int]:
    """Return the numbers of the columns that are asked for.

    Args:
        names: those of all columns, () if they have none.
        width: how many columns there are.
        asked: names with commas between them, or numbers from 0 if there are no names.
    """
    known = [*names] or [str(number) for number in range(width)]
    found = []
    for name in [asked] if asked in known else [part.strip() for part in asked.split(",")]:
        if known.count(name) == 1:
            found.append(known.index(name))
        elif name in known:
            problem = f"{known.count(name)} columns have this name"
            raise NotFoundError(problem, tensor=name, advice=f"there are: {listed(known)}")
        elif names:
            advice = f"there are: {listed(known)}"
            raise NotFoundError("there is no such column", tensor=name, advice=advice)
        else:
            advice = "pick them by their numbers from 0, FILE:0,2, or pass `header=True`"
            raise NotFoundError("its columns have no names", tensor=name, advice=advice)
    return found


def listed(names: Sequence[str]) -> str:
    """Return the first of some names, for a message."""
    return first_of([name[:_SHOWN] for name in names], _LISTED)


def without_index(
    names: tuple[str, ...], table: Array
) -> tuple[tuple[str, ...], Array, tuple[str, ...]]:
    """Return the names and columns of a table without its index, and notes.

    An index is a first column without a name that counts the rows from 0.
    """
    import numpy as np

    notes: tuple[str, ...] = ()
    while len(names) > 1 and names[0] in _UNNAMED:
        if not np.array_equal(table[:, 0], np.arange(len(table))):
            raise AmbiguousError(
                "its first column has no name, and may be an index or data",
                advice=_either(names),
            )
        names, table = names[1:], table[:, 1:]
        notes = ("the first column has no name and counts the rows: it is left out as an index",)
    if _has_count(table):
        labels = tuple(map(str, range(table.shape[1])))  # made up, and not names
        if names in ((), labels):
            raise AmbiguousError(
                "its first column counts the rows, and may be an index or data",
                advice=_either(labels),
            )
        notes += (f"the first column, {printable(names[0][:_SHOWN])}, counts the rows: it is read "
                  f"as data; FILE:{_some(names[1:])} leaves it out",)  # fmt: skip
    return names, table, notes


def _has_count(table: NDArray[Any]) -> bool:
    """Whether the first column rises by one from row to row, and no other column does.

    Of two rows the first column has to be 0 and 1, and no other number a whole one.
    """
    import numpy as np

    rows, columns = table.shape
    if rows < 2 or columns < 2 or (table[1:, 0] - table[:-1, 0] != 1).any():
        return False
    if rows == 2:
        return bool(table[0, 0] == 0 and (table[:, 1:] % 1 != 0).all())
    return not (np.diff(table[:, 1:], axis=0) == 1).all(axis=0).any()


def _either(names: Sequence[str]) -> str:
    """Return how the columns are picked, with the first one and without."""
    rest = _some(names[1:])
    return f"pick columns: FILE:{rest} without it, FILE:{names[0]},{rest} with it"


def _some(names: Sequence[str]) -> str:
    """Return the first of some names as they pick columns, for a message."""
    return ",".join(printable(name) for name in names[:2]) + (",…" if len(names) > 2 else "")
